"""What the English passages say: domains, each with its invented things and facts.

The first fact of a domain introduces the thing; slots are pools and ranges of grammar_squad.
"""

from __future__ import annotations

from tools.samples.facts_squad import institutions, nature, people, places
from tools.samples.passages import Fact

_ORDER = (
    "town novelist explorer university company species festival observatory railway novel island museum".split()
)
"""The passages are drawn in it: another order gives other passages."""
_FOUND = {**places.DOMAINS, **people.DOMAINS, **institutions.DOMAINS, **nature.DOMAINS}

DOMAINS: dict[str, tuple[list[str], list[Fact]]] = {name: _FOUND[name] for name in _ORDER}
