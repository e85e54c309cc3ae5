"""Test rows with spellings that no training applies (`data.augment` has others): slips of the hand, long vowels.

Each function takes a text and a random generator and changes about one word in six.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

_WORD = re.compile(r"[A-Za-z]{4,}")
_VOWEL = re.compile(r"[aeiou]")
SHARE = 1 / 6


def typos(text: str, rng: random.Random) -> str:
    """Two letters inside a word change places, or one is lost."""

    def spoil(word: str) -> str:
        place = rng.randrange(1, len(word) - 2)
        if rng.random() < 0.5:
            return word[:place] + word[place + 1 :]
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]

    return _in_words(text, rng, spoil)


def long_vowels(text: str, rng: random.Random) -> str:
    """A vowel that goes on: sooo, haaappy."""

    def spoil(word: str) -> str:
        found = _VOWEL.search(word)
        return word if found is None else word[: found.end()] + found[0] * rng.choice((2, 3)) + word[found.end() :]

    return _in_words(text, rng, spoil)


def _in_words(text: str, rng: random.Random, spoil: Callable[[str], str]) -> str:
    return _WORD.sub(lambda found: spoil(found[0]) if rng.random() < SHARE else found[0], text)
