"""Ways to write one text otherwise: case, punctuation, contractions, speaker marks, emoji, nukta. Strings only.

What real input varies and data sets do not. Each function takes a text and a random generator; it changes how a
text is written, never what it says, and the same generator gives the same text.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable

Way = Callable[[str, random.Random], str]

EMOJI = "😀😂🤣😊😍😘😁😅😎😢😭😡😱🤔👍👏🙏💪🎉🔥✨💕💔😉😜😋😴🙄😏😒🤗😳☺❤♥🙂🙈😔😃😄😆🙃😐😞😩😤😬🤷💖💜💙✌👌🙌"
"""Pieces of their own in `mini`'s tokenizer, though data sets hardly hold them: what people write does."""
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
_NOT = re.compile(r"(?<=\w)n['’]t\b", re.IGNORECASE)  # noqa: RUF001
_BARE_I = re.compile(r"\bi\b(?=[ '’])")  # noqa: RUF001
_SENTENCE_START = re.compile(r"(^|[.!?] )([a-z])")
_SPEAKER = re.compile(r"^([^:\n]{1,24}): ", re.MULTILINE)
_NAMED = ("[{name}] ", "({name}): ", "{name} - ", "**{name}:** ", "- {name}: ", "{name} : ")
_NAMELESS = ("#Person{number}#", "Speaker {number}", "SPEAKER_{number:02}", "User {number}")
NUKTA = "\u093c"


def case(text: str, rng: random.Random) -> str:
    """All lower, rarely all upper; a text without capitals gets them."""
    if text == text.lower():
        text = _BARE_I.sub("I", text)
        return _SENTENCE_START.sub(lambda found: found.group(1) + found.group(2).upper(), text)
    return one_case(text, rng)


def one_case(text: str, rng: random.Random) -> str:
    """All lower, rarely all upper: letter by letter, so that a part of a text stays its part."""
    return text.upper() if rng.random() < 0.15 else text.lower()


def contractions(text: str, rng: random.Random) -> str:
    """Full forms joined (don't), or joined ones split (do not, or do n't), or their apostrophes dropped (dont)."""
    way = rng.randrange(4)
    if way == 0:
        return _FULL_FORM.sub(lambda found: _as(found.group(), _JOINED[found.group().lower()]), text)
    if way == 1:
        return _CONTRACTION.sub(lambda found: _as(found.group(), _SPLIT[found.group().lower()]), text)
    if way == 2:
        return _NOT.sub(lambda found: f" {found.group()}", text)
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


def emoji_or_hashtag(text: str, rng: random.Random) -> str:
    """What posts have and data sets often lost."""
    return rng.choice((emoji, hashtag))(text, rng)


def in_turns(way: Way) -> Way:
    """A way for one line, in every line of a dialogue behind its speaker's mark; one spelling in all of them."""

    def change(text: str, rng: random.Random) -> str:
        seed = rng.random()

        def line(turn: str) -> str:
            found = _SPEAKER.match(turn)
            start = found.end() if found else 0
            return turn[:start] + way(turn[start:], random.Random(seed)) if turn[start:].strip() else turn

        return "\n".join(map(line, text.splitlines()))

    return change


def speaker_marks(dialogue: str, summary: str, rng: random.Random) -> tuple[str, str]:
    """Other marks for who speaks, of all turns alike; half of the time marks without a name.

    Marks such as ``#Person1#`` then stand for the speakers' names everywhere: in turns and in the summary.
    """
    names = list(dict.fromkeys(_SPEAKER.findall(dialogue)))
    if not names:
        return dialogue, summary
    if rng.random() < 0.5:
        form = rng.choice(_NAMED)
        return _SPEAKER.sub(lambda found: form.format(name=found[1]), dialogue), summary
    form = rng.choice(_NAMELESS)
    marks = {name: form.format(number=number) for number, name in enumerate(names, start=1)}
    ordered = sorted(map(re.escape, names), key=len, reverse=True)  # Ann B. before Ann
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(ordered)})(?!\w)")
    return tuple(pattern.sub(lambda found: marks[found[0]], text) for text in (dialogue, summary))  # type: ignore[return-value]


def without_nukta(text: str) -> str:
    """Devanagari as many people type it: no dot below, whether it was composed or not."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).replace(NUKTA, ""))


def nukta(text: str, _: random.Random) -> str:
    """`without_nukta`, as a way."""
    return without_nukta(text)


def _as(before: str, after: str) -> str:
    """`after` with a capital where `before` has one."""
    return after[0].upper() + after[1:] if before[0].isupper() else after
