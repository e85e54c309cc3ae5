"""Words of messages: the name that was meant, a value in one line, a text cut to fit."""

from __future__ import annotations

import difflib
import reprlib
import unicodedata
from collections.abc import Iterable
from typing import Any

_MAX_WORD_CHARS = 100
"""difflib compares every pair of characters; a word of 5,000 is no slip of the finger."""
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 120


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one must mean; None when nothing is close."""
    if len(word) > _MAX_WORD_CHARS:
        return None
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.8)
    return close[0] if close else None


def suggest(word: str, known: Iterable[str], *, list_known: bool = True) -> str:
    """``, did you mean 'x'?`` when something is close, else `` (known: x, y)``, or nothing."""
    names = list(known)
    if (name := closest(word, names)) is not None:
        return f", did you mean {name!r}?"
    return f" (known: {', '.join(names)})" if names and list_known else ""


def same_name(name: str, known: Iterable[str]) -> str | None:
    """The one known name that differs from ``name`` in case and spaces only; None where none or several do."""
    found = [each for each in known if _key(each) == _key(name)]
    return found[0] if len(found) == 1 else None


def _key(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def shown(value: Any) -> str:
    """A value in one line of a message: long texts and deep values are cut, visibly."""
    return _REPR.repr(value)


def shorten(text: str, max_chars: int) -> str:
    """A text in one line of at most ``max_chars`` characters; a cut is visible."""
    line = " ".join(text.split())
    return line if len(line) <= max_chars else f"{line[: max_chars - 3]}..."
