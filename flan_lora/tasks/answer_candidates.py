"""What a question could ask for in a passage: names, numbers, dates, quotations.

A handful of patterns in place of a parser: precise enough for proposals, which a model ranks afterwards, and no
package or download. English typography; in other languages numbers and quotations remain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_PATTERNS = (
    # 3 May 1932, May 3, 1932, May 1932
    rf"\b(?:\d{{1,2}} )?(?:{_MONTH})\b(?: \d{{1,2}}\b(?!\d))?(?:,? \d{{4}}\b)?",
    # 503 metres, 1,200, 4.5 %, $20 million, 1932
    r"(?<![\w.])[$€£]?\d[\d,]*(?:\.\d+)?(?:\s?%|\s(?:million|billion|thousand|hundred|per cent|percent))?"
    r"(?:\s(?:metres?|meters?|kilometres?|kilometers?|km|miles?|feet|years?|months?|weeks?|days?|hours?|minutes?"
    r"|people|seats?|lanes?|tons?|tonnes?|dollars|euros|pounds|students|inhabitants))?(?![\w])",
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|sixty|seventy|eighty"
    r"|ninety|hundreds?|thousands?|millions?) [a-z]+",
    r"[\"\u201c]([^\"\u201d]{3,60})[\"\u201d]",
    # Ada Lovelace, the Bank of England, Los Angeles
    r"\b[A-Z][\w'\u2019-]*(?:(?: (?:of|the|and|de|van|von|for))* [A-Z][\w'\u2019-]*)*",
)
_FIRST_WORDS = frozenset(
    "the a an in on at by for from with of to as it he she they we you i this that these those there here then now"
    " his her its their our my your and but or so if when while after before since because although however what"
    " which who where why how not no yes one some many most all both each every".split()
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A span of the passage."""

    text: str
    start: int
    """Its first character."""


def candidates(passage: str) -> list[Candidate]:
    """Spans that could be an answer, each text once, in the order of the passage; none of them overlap."""
    found: list[Candidate] = []
    for pattern in _PATTERNS:
        for match in re.finditer(pattern, passage):
            group = 1 if match.re.groups and match[1] else 0
            span = _trimmed(passage, *match.span(group))
            if span is not None and not any(_overlap(span, other) for other in found):
                found.append(span)
    found.sort(key=lambda span: span.start)
    first: dict[str, Candidate] = {}
    for span in found:
        first.setdefault(span.text.casefold(), span)
    return list(first.values())


def _trimmed(passage: str, start: int, end: int) -> Candidate | None:
    """Without a leading function word that only the sentence's beginning capitalises; None if nothing is left."""
    text = passage[start:end]
    while text and text.split(" ", 1)[0].casefold() in _FIRST_WORDS:
        _, _, rest = text.partition(" ")
        start += len(text) - len(rest)
        text = rest
    text = text.rstrip(" ,.")
    return Candidate(text, start) if len(text) > 1 or text.isdigit() else None


def _overlap(one: Candidate, other: Candidate) -> bool:
    return one.start < other.start + len(other.text) and other.start < one.start + len(one.text)
