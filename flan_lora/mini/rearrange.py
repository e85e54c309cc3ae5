"""A sentence said otherwise: its parts moved, its words exchanged, small things reworded.

PAWS' pairs are of these kinds, so they are what two sentences are compared by; none of its rows is used here.
This module knows strings and a random source; never a prompt.

Source: exchanged words and rewording in turn after arXiv:1904.01130, section 3.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable

NAME = re.compile(r"(?<=[a-z,;] )(?:[A-Z][\w'-]+(?: [A-Z][\w'-]+)*|\d[\d,.]*\d|\d)(?=[ ,.;])")
"""A name or a number inside a sentence; its first word is capitalised anyway and does not count."""
_BOTH = re.compile(r"(?<=[a-z] )([A-Z][\w'-]+) (and|or) ([A-Z][\w'-]+)(?=[,.;]| [a-z])")
"""Two names of one word each, on equal terms."""
_LEADING = re.compile(
    r"^((?:In|On|At|After|Before|During|Since|By|For|With|From) [^,;]{3,40}), ([^;:]{20,})([.!])$"
)
_WORD = re.compile(r"(?<= )[a-z]{4,}(?=[ ,.;])")
_FUNCTION_WORDS = frozenset(
    "about after also been before being between but could during each from have having here into more most much"
    " only other over same should since some such than that their them then there these they this those through"
    " under until very were what when where which while will with would your".split()
)
_LIKE = dict(
    pair
    for one, other in (
        ("also", "too"),
        ("began", "started"),
        ("big", "large"),
        ("bought", "purchased"),
        ("built", "constructed"),
        ("but", "however"),
        ("because", "since"),
        ("children", "kids"),
        ("city", "town"),
        ("film", "movie"),
        ("former", "previous"),
        ("important", "significant"),
        ("later", "afterwards"),
        ("lives", "resides"),
        ("located", "situated"),
        ("made", "created"),
        ("main", "principal"),
        ("near", "close to"),
        ("received", "got"),
        ("said", "stated"),
        ("show", "display"),
        ("small", "little"),
        ("such as", "like"),
        ("used", "employed"),
        ("while", "whereas"),
    )
    for pair in ((one, other), (other, one))
)
"""Words that may stand for each other in the news, each for the other."""
_LIKE_WORD = re.compile(rf"\b(?:{'|'.join(_LIKE)})\b")
_ARTICLE = re.compile(r"\b(?:the|an?) ")
_NO_ARTICLE = re.compile(r"(?<=\b(?:in|of|by|at|on) )(?!the |an? )(?=[A-Za-z])")
_COMMA = re.compile(r", ")


def moved(sentence: str, rng: random.Random) -> str | None:
    """The same statement in another order, where a pattern allows it."""
    leading = _LEADING.match(sentence)
    if leading and rng.random() < 0.7:
        phrase, rest, end = leading.groups()
        phrase = phrase[0].lower() + phrase[1:]
        return f"{rest[0].upper()}{rest[1:]} {phrase}{end}"
    both = _BOTH.search(sentence)
    if both:
        first, word, second = both.groups()
        return f"{sentence[: both.start()]}{second} {word} {first}{sentence[both.end() :]}"
    return None


def exchanged(sentence: str, rng: random.Random) -> str | None:
    """Another statement of the same words: two names changed places, or else two words of the text."""
    names = list(dict.fromkeys(NAME.findall(sentence)))
    standing = Counter(_WORD.findall(sentence))
    words = [word for word, times in standing.items() if times == 1 and word not in _FUNCTION_WORDS]
    choices = [group for group in (names, words) if len(group) >= 2]
    if not choices:
        return None
    group = choices[0] if rng.random() < 0.7 else choices[-1]
    return _swapped(sentence, *rng.sample(group, 2))


def reworded(sentence: str, rng: random.Random, num_places: int) -> str:
    """The statement with an article, a comma or a word changed for its like in up to `num_places` places."""
    rules: tuple[tuple[re.Pattern[str], Callable[[str], str]], ...] = (
        (_LIKE_WORD, lambda found: _LIKE[found]),
        (_ARTICLE, lambda found: ""),
        (_NO_ARTICLE, lambda found: "the "),
        (_COMMA, lambda found: " "),
    )
    for _ in range(num_places):
        pattern, change = rng.choices(rules, weights=(4, 3, 2, 2))[0]
        places = list(pattern.finditer(sentence))
        if places:
            place = rng.choice(places)
            sentence = sentence[: place.start()] + change(place.group()) + sentence[place.end() :]
    return sentence


def _swapped(sentence: str, first: str, second: str) -> str:
    """Every standing of two words exchanged."""
    either = re.compile(rf"(?<!\w)(?:{re.escape(first)}|{re.escape(second)})(?!\w)")
    return either.sub(lambda match: second if match.group() == first else first, sentence)
