"""What real input varies and our sets do not: case, punctuation, contractions, speaker marks, emoji, nukta.

Each function takes a text and a random generator and leaves most texts alone, so that a mixture holds both
spellings. They change how a text is written, never what it says. This module knows texts; never a row or a token.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable

from flan_lora.tasks.summarization import TURN_SEPARATOR
from tools.mini.tokenizer import EMOJI

Augment = Callable[[str, random.Random], str]

SHARE = 0.35
"""Of the texts, how many are written otherwise."""
_JOINED = {
    "do not": "don't", "does not": "doesn't", "did not": "didn't", "is not": "isn't", "are not": "aren't",
    "was not": "wasn't", "were not": "weren't", "can not": "can't", "cannot": "can't", "could not": "couldn't",
    "will not": "won't", "would not": "wouldn't", "should not": "shouldn't", "have not": "haven't",
    "has not": "hasn't", "had not": "hadn't", "i am": "i'm", "it is": "it's", "that is": "that's",
    "i have": "i've", "we have": "we've", "you are": "you're", "they are": "they're", "we are": "we're",
    "i will": "i'll", "you will": "you'll",
}  # fmt: skip
_SPLIT = {joined: full for full, joined in _JOINED.items() if full not in ("cannot", "it is", "that is")}
"""'s may be `is`, `has` or a genitive: it is joined, never split."""
_FULL_FORM = re.compile(rf"\b({'|'.join(_JOINED)})\b", re.IGNORECASE)
_CONTRACTION = re.compile(rf"\b({'|'.join(map(re.escape, _SPLIT))})\b", re.IGNORECASE)
_BARE_I = re.compile(r"\bi\b(?=[ '’])")  # noqa: RUF001
_SENTENCE_START = re.compile(r"(^|[.!?] )([a-z])")
_SPEAKER = re.compile(r"^([\w .'-]{1,24}): ")
_NUKTA = "\u093c"


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


def case(text: str, rng: random.Random) -> str:
    """All lower, rarely all upper; a text without capitals gets them."""
    if text == text.lower():
        text = _BARE_I.sub("I", text)
        return _SENTENCE_START.sub(lambda found: found.group(1) + found.group(2).upper(), text)
    return text.upper() if rng.random() < 0.15 else text.lower()


def contractions(text: str, rng: random.Random) -> str:
    """Full forms joined, or joined ones split, or their apostrophes dropped."""
    way = rng.randrange(3)
    if way == 0:
        return _FULL_FORM.sub(lambda found: _as(found.group(), _JOINED[found.group().lower()]), text)
    if way == 1:
        return _CONTRACTION.sub(lambda found: _as(found.group(), _SPLIT[found.group().lower()]), text)
    return re.sub(r"(?<=\w)['’](?=\w)", "", text)  # noqa: RUF001


def punctuation(text: str, rng: random.Random) -> str:
    """No commas and no stop at the end, or more marks than one; a text without gets a stop."""
    if not re.search(r"[.,!?]", text):
        return text + rng.choice((".", "!", "...", "!!"))
    if rng.random() < 0.6:
        return re.sub(r"(?<=\w)[,;]|[.!?]+$", "", text)
    return re.sub(r"[.!]$", rng.choice(("!!", "...", "!!!", " .")), text)


def emoji(text: str, rng: random.Random) -> str:
    """One to three emoji behind the text, any: they are noise, and the words stay the sign."""
    return f"{text} {''.join(rng.choices(EMOJI, k=rng.choice((1, 1, 2, 3))))}"


def hashtag(text: str, rng: random.Random) -> str:
    """A word of the text marked, or again behind it."""
    words = [word for word in text.split() if word.isalpha() and len(word) > 3]
    if not words:
        return text
    word = rng.choice(words)
    return re.sub(rf"\b{word}\b", f"#{word}", text, count=1) if rng.random() < 0.5 else f"{text} #{word}"


def without_nukta(text: str) -> str:
    """Devanagari as many people type it: no dot below, whether it was composed or not."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).replace(_NUKTA, ""))


def _as(before: str, after: str) -> str:
    """`after` with a capital where `before` has one."""
    return after[0].upper() + after[1:] if before[0].isupper() else after
