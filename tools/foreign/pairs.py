"""Pairs of sentences that mean the same, or nearly do, made of several people's rewrites of one sentence.

Two rewrites of a sentence mean the same, in other words. For each such pair there is one that does not: a rewrite
beside one of the same sentence in which a number or a name was replaced, or the sentence beside the one of another
text that shares most words with it. So shared words alone do not tell them apart.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from flan_lora.tasks.normalise import plain_words

Pair = dict[str, object]
_NUMBER = re.compile(r"\b\d+(?:[.,]\d+)*\b")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b")
"""A capital inside a sentence."""


def make_pairs(rewrites: Sequence[Sequence[str]], num_pairs: int, seed: int = 0) -> list[Pair]:
    """So many rows of the `similarity` task, half of them ``yes``, in random order.

    Args:
        rewrites: for each sentence, what several people made of it; at least two that differ.
    """
    rng = random.Random(seed)
    numbers, names = (
        sorted({found for group in rewrites for text in group for found in pattern.findall(text)})
        for pattern in (_NUMBER, _NAME)
    )
    groups = [list(dict.fromkeys(group)) for group in rewrites if len(set(map(_key, group))) > 1]
    rows: list[Pair] = []
    for place in rng.sample(range(len(groups)), len(groups)):
        if len(rows) >= num_pairs:
            break
        first, second = rng.sample(groups[place], 2)
        if _key(first) == _key(second):
            continue
        other = _changed(second, numbers, names, rng) if len(rows) % 4 else _nearest(first, groups, place)
        if other is None:
            continue
        rows.append(_row(first, second, "yes", rng))
        rows.append(_row(first, other, "no", rng))
    rng.shuffle(rows)
    return rows[:num_pairs]


def _row(first: str, second: str, label: str, rng: random.Random) -> Pair:
    pair = [first, second]
    rng.shuffle(pair)
    return {"sentence1": pair[0], "sentence2": pair[1], "label": label}


def _changed(text: str, numbers: Sequence[str], names: Sequence[str], rng: random.Random) -> str | None:
    """The text with another number or name in the place of one of its own; None where there is none."""
    places = [
        (found, others)
        for pattern, pool in ((_NUMBER, numbers), (_NAME, names))
        for found in pattern.finditer(text)
        if (others := [one for one in pool if one != found[0]])
    ]
    if not places:
        return None
    found, others = rng.choice(places)
    return text[: found.start()] + rng.choice(others) + text[found.end() :]


def _nearest(text: str, groups: Sequence[Sequence[str]], own: int) -> str:
    """The sentence of another group that shares most words."""
    return max(
        (other for place, group in enumerate(groups) if place != own for other in group[:2]),
        key=lambda other: word_overlap(text, other),
    )


def word_overlap(first: str, second: str) -> float:
    """Shared words of two sentences over all their words (Jaccard), in [0, 1]."""
    one, other = set(plain_words(first)), set(plain_words(second))
    return len(one & other) / max(len(one | other), 1)


def _key(text: str) -> str:
    return " ".join(plain_words(text))
