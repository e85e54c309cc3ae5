"""What an instruction mixture is made of: a set's rows under templates. Knows rows and texts; never a token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flan_lora.tasks.baselines import sentences
from flan_lora.tasks.task import Prompt
from flan_lora.tasks.text import plain
from tools.mini.augment import Augment
from tools.mini.corpus import Row, is_read
from tools.mini.selfmade import Pair

SENTIMENTS = ("negative", "positive")
SAMENESS = ("different", "same")
PASSAGE_CHARS = 420
"""Of a passage with an answer: about 100 tokens, so that a step holds twice the rows of whole contexts."""


@dataclass(frozen=True)
class Template:
    """A prompt around one long text; `head` and `tail` may name fields in braces."""

    head: str
    body: str
    tail: str
    target: str = "{answer}"

    def fill(self, fields: dict[str, str]) -> Pair:
        head, body, tail, target = (
            part.format(**fields) for part in (self.head, self.body, self.tail, self.target)
        )
        return Pair(Prompt(head, body, tail), target)


@dataclass(frozen=True)
class Mix:
    """One set of the mixture: rows of a source under templates."""

    source: str
    max_pairs: int
    fields: Callable[[Row], dict[str, str] | None]
    """A row's fields for the templates, or None to leave the row out."""
    templates: tuple[Template, ...]
    halved_by: str = ""
    """The column by whose text half of the rows are held back from the base; empty where it reads them all."""
    augment: Augment | None = None
    """How the body of some prompts is written otherwise."""

    def reads(self, row: Row) -> bool:
        """Whether the base reads the row: the same answer in every pass and every run."""
        return not self.halved_by or is_read(row[self.halved_by])


def squad(row: Row) -> dict[str, str]:
    fields = {name: plain(row[name]) for name in ("context", "question")}
    return {**fields, "answer": plain(row["answers"]["text"][0])}


def passage(row: Row) -> dict[str, str] | None:
    """As `squad`, the context cut to the sentences around the answer; None for an answer that is a passage."""
    fields = squad(row)
    answer, start = row["answers"]["text"][0], row["answers"]["answer_start"][0]
    if len(fields["answer"]) > 120 or not row["context"][start:].startswith(answer):
        return None
    return {**fields, "context": plain(around(row["context"], start, start + len(answer), PASSAGE_CHARS))}


def around(text: str, start: int, end: int, max_chars: int) -> str:
    """Whole sentences around ``text[start:end]``: its own, then neighbours in turn while they fit."""
    parts = sentences(text)
    offsets, position = [], 0
    for part in parts:
        position = text.index(part, position)
        offsets.append((position, position + len(part)))
        position += len(part)
    first = max(index for index, (begin, _) in enumerate(offsets) if begin <= start)
    last = min((index for index, (_, finish) in enumerate(offsets) if finish >= end), default=len(parts) - 1)
    while True:
        wider = [(first - 1, last), (first, last + 1)] if start % 2 else [(first, last + 1), (first - 1, last)]
        fitting = [
            (a, b) for a, b in wider if a >= 0 and b < len(parts) and offsets[b][1] - offsets[a][0] <= max_chars
        ]
        if not fitting:
            return text[offsets[first][0] : offsets[last][1]]
        first, last = fitting[0]
