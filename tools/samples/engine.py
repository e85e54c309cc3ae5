"""How the sample grammars become text: slots, inline choices, held-out fillers. Knows no task and no words.

A template may hold ``[a|b|]`` (one of the alternatives, nesting allowed) and ``{slot}`` (a filler's value).
Only ``random.Random`` draws, in a fixed order, so one seed gives the same bytes on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Literal, TypeVar

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Row = dict[str, Any]
T = TypeVar("T")

HELD_OUT: Mapping[Split, int] = {"validation": 6, "test": 7}
"""Of every 8 items of a list, this one (0-based) is drawn for this split only."""
CHOICE = re.compile(r"\[([^\[\]]*)\]")


def lines(text: str) -> list[str]:
    """The non-empty lines of a block, stripped: how word lists are written down."""
    return [line.strip() for line in text.strip().splitlines() if line.strip()]


def words(text: str) -> list[str]:
    """Comma-separated items of a block."""
    return [item.strip() for item in text.replace("\n", ",").split(",") if item.strip()]


def shared(items: Sequence[T]) -> list[T]:
    """Items that every split may use."""
    return [item for i, item in enumerate(items) if i % 8 not in HELD_OUT.values()]


def held_out(items: Sequence[T], split: Split) -> list[T]:
    """Items that only ``split`` may use; none for train."""
    return [item for i, item in enumerate(items) if i % 8 == HELD_OUT.get(split, -1)]


def draw(rng: Random, items: Sequence[T], split: Split, held_out_share: float = 0.5) -> T:
    """One item: train sees the shared ones, the others also their own with this probability."""
    own = held_out(items, split)
    if own and rng.random() < held_out_share:
        return rng.choice(own)
    return rng.choice(shared(items))


def choose(rng: Random, template: str) -> str:
    """Resolve every ``[a|b]``, innermost first."""
    while match := CHOICE.search(template):
        template = template[: match.start()] + rng.choice(match[1].split("|")) + template[match.end() :]
    return template


def tidy(text: str) -> str:
    """Single spaces, none before a comma or a stop."""
    return re.sub(r" ([,.?!])(?= |$)", r"\1", re.sub(r" +", " ", text)).strip()


def unique(make: Callable[[], T], key: Callable[[T], Any], taken: set[Any], num_rows: int) -> list[T]:
    """Call ``make`` until there are ``num_rows`` results whose keys are not in ``taken`` (which grows)."""
    rows: list[T] = []
    for _ in range(num_rows * 50):
        if len(rows) == num_rows:
            return rows
        row = make()
        if key(row) not in taken:
            taken.add(key(row))
            rows.append(row)
    raise AssertionError(f"the grammar is too small: {len(rows)} of {num_rows} distinct rows")
