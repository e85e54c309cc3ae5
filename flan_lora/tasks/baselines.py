"""Trivial predictors to stand beside every score."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

from flan_lora.tasks.task import Example

_SENTENCE_END = re.compile(r"""(?:(?<=[.!?।॥])|(?<=[.!?।॥]["')\]”]))\s+(?![a-z])""")


def majority(train: Sequence[Example], examples: Sequence[Example]) -> list[str]:
    """The most frequent training target, for everyone; ties go to the first in the alphabet."""
    counts = Counter(example.target for example in train)
    answer = min(counts, key=lambda target: (-counts[target], target)) if counts else ""
    return [answer] * len(examples)


def random_span(train: Sequence[Example], examples: Sequence[Example]) -> list[str]:
    """A span of one to five words of the context, drawn by a hash of the example's key."""
    return [_span(example.inputs["context"], example.key) for example in examples]


def sentences(text: str) -> list[str]:
    """Sentences by their final punctuation, roughly: a lower-case letter does not begin one (``i.e. this``)."""
    return [part for part in _SENTENCE_END.split(text) if part]


def _span(context: str, key: str) -> str:
    """Deterministic pseudo-random words of the context."""
    words = context.split()
    draw = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    length = 1 + draw % min(5, len(words))
    start = (draw // 5) % (len(words) - length + 1)
    return " ".join(words[start : start + length])
