"""From facts to question answering rows, for any language. Knows sentences and answers; no words of its own.

A fact is a list of wordings of one sentence, and for each of its slots the questions that ask for it. A passage
puts facts about one invented thing in a row; the answer is a slot, so its offset is exact by construction.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from tools.samples.engine import choose, tidy

Values = Callable[[Random, str], str]
SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Fact:
    """``wordings`` hold ``{name}`` and slots; ``questions``: slot -> templates that may use any slot."""

    wordings: list[str]
    questions: Mapping[str, list[str]]


@dataclass(frozen=True)
class Entity:
    """An invented thing: its name where the passage is read and where the question is asked."""

    name: str
    asked_name: str


@dataclass(frozen=True)
class Passage:
    """A context and where each slot's value stands in it (first codepoint)."""

    context: str
    slots: dict[str, tuple[str, int]]


def write_passage(
    rng: Random, entity: Entity, facts: list[Fact], values: Values, intro: dict[str, str]
) -> Passage:
    """The facts in the order given; slot ``i:slot`` is the i-th fact's.

    ``intro`` carries the values of the first fact from one passage about a thing to the next.
    """
    context, slots, used = "", {}, {entity.name}
    for i, fact in enumerate(facts):
        template = tidy(choose(rng, rng.choice(fact.wordings)))
        context += " " if context else ""
        position = 0
        for match in SLOT.finditer(template):
            context += template[position : match.start()]
            position = match.end()
            if match[1] == "name":
                context += entity.name
                continue
            value = intro.get(match[1]) if i == 0 else None
            value = value or _fresh(rng, match[1], values, used)
            used.add(value)
            if i == 0:
                intro[match[1]] = value
            slots[f"{i}:{match[1]}"] = (value, len(context))
            context += value
        context += template[position:]
    return Passage(context, slots)


def _fresh(rng: Random, slot: str, values: Values, used: set[str]) -> str:
    """A value that the passage does not hold yet, so that an answer is found at one place only."""
    for _ in range(100):
        value = values(rng, slot)
        if not any(_overlap(value, other) for other in used):
            return value
    raise AssertionError(f"slot {slot!r} has too few values")


def _overlap(one: str, other: str) -> bool:
    """Two whole numbers clash when equal, other values when one stands inside the other."""
    if one.isdigit() and other.isdigit():
        return one == other
    return one in other or other in one


def ask(rng: Random, passage: Passage, entity: Entity, facts: list[Fact], key: str) -> str:
    """A question whose answer is ``passage.slots[key]``."""
    index, slot = key.split(":")
    known = {
        name.split(":")[1]: value for name, (value, _) in passage.slots.items() if name.startswith(f"{index}:")
    }
    template = choose(rng, rng.choice(facts[int(index)].questions[slot]))
    return tidy(template.format(**{**known, "name": entity.asked_name}))


def askable(passage: Passage, facts: list[Fact]) -> list[str]:
    """The slots of a passage that some question asks for."""
    return [key for key in passage.slots if key.split(":")[1] in facts[int(key.split(":")[0])].questions]


def row_id(context: str, question: str, length: int) -> str:
    """A stable hexadecimal id."""
    return hashlib.sha256(f"{context}\n{question}".encode()).hexdigest()[:length]
