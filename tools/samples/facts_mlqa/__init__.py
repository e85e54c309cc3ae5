"""What the Hindi passages say: domains, each with its invented things (Hindi, English name) and facts.

The first fact of a domain introduces the thing; slots are pools and ranges of grammar_mlqa.
"""

from __future__ import annotations

from tools.samples.facts_mlqa import institutions, nature, people, places
from tools.samples.facts_mlqa.names import Names
from tools.samples.passages import Fact

_ORDER = "village river poet scientist fort temple company bird film lake college bridge club".split()
"""The passages are drawn in it: another order gives other passages."""
_FOUND = {**places.DOMAINS, **people.DOMAINS, **institutions.DOMAINS, **nature.DOMAINS}

DOMAINS: dict[str, tuple[Names, list[Fact]]] = {name: _FOUND[name] for name in _ORDER}
