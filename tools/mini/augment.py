"""What the base reads otherwise: the ways of `flan_lora.tasks.spelling`, mixed for posts, pairs and dialogues.

Each function takes a text and a random generator and leaves most texts alone, so that a mixture holds both
spellings. This module knows texts; never a row or a token.
"""

from __future__ import annotations

import random
import re

from flan_lora.tasks.spelling import Way, case, contractions, emoji, hashtag, punctuation
from flan_lora.tasks.summarization import TURN_SEPARATOR

Augment = Way

SHARE = 0.35
"""Of the texts, how many are written otherwise."""
_SPEAKER = re.compile(r"^([\w .'-]{1,24}): ")


def post(text: str, rng: random.Random) -> str:
    """A short text as people post it: one or two of the spellings below."""
    if rng.random() > SHARE:
        return text
    ways = (case, contractions, punctuation, emoji, hashtag)
    for way in rng.sample(ways, rng.choice((1, 1, 2))):
        text = way(text, rng)
    return text


def sentence(text: str, rng: random.Random) -> str:
    """A sentence of a pair: case, contractions or punctuation, nothing that adds a word."""
    return rng.choice((case, contractions, punctuation))(text, rng) if rng.random() < SHARE else text


def dialogue(text: str, rng: random.Random) -> str:
    """Turns with other marks for who speaks, other separators, and posts' spellings in the turns."""
    if rng.random() > SHARE:
        return text
    mark = rng.choice(("{name}: ", "{name} - ", "[{name}] ", "({name}) ", "{name} : ", "- {name}: "))
    between = rng.choice((TURN_SEPARATOR, TURN_SEPARATOR, " ", " / "))
    way = rng.choice((case, contractions, punctuation, None))
    turns, seed = [], rng.random()
    for turn in text.split(TURN_SEPARATOR):
        found = _SPEAKER.match(turn)
        words = turn[found.end() :] if found else turn
        words = way(words, random.Random(seed)) if way is not None else words  # one way in all turns
        turns.append((mark.format(name=found.group(1)) if found else "") + words)
    return between.join(turns)
