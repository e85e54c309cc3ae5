"""Text as T5's vocabulary can hold it, and a row's fields with their errors."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from flan_lora.errors import DataError
from flan_lora.system.text import shorten
from flan_lora.tasks.labels import has_index_reading, read_label

T5_LATIN = frozenset("ÉÎÜßàáâäçèéêîóôöùûüăşţșț")
"""The accented letters among T5's 32,000 pieces; any other one is ``<unk>``, so it loses its accent."""
_ASCII = str.maketrans(
    {"<": "[", ">": "]", "{": "(", "}": ")", "~": "-", "^": "'", "`": "'", "\\": "/", "\u00b4": "'"}
    | dict.fromkeys("\u2010\u2011\u2212", "-")  # hyphen, no-break hyphen, minus
    | {"\u2044": "/", "\u0131": "i", "ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D"}
    | {"æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th"}
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_LOOSE_ACCENT = re.compile("([\\x00-\\x7f])[\u0300-\u036f]+")
_PTB = (
    (re.compile(r"\s*``\s*"), ' "'),
    (re.compile(r"\s*''"), '"'),
    (re.compile(r"\s+([,.;:!?%)\]])(?![\w.])"), r"\1"),
    (re.compile(r"([(\[])\s+"), r"\1"),
    (re.compile(r"\s+('(?:s|re|ve|ll|d|m)|n't)\b", re.IGNORECASE), r"\1"),
)


def plain(text: str) -> str:
    """One line of characters that T5 has pieces for, where a near one exists; idempotent.

    NFKC as T5's own normaliser, white space collapsed, ASCII that T5 lacks (angle brackets, braces, tilde, caret,
    backtick, backslash) replaced by its nearest neighbour, accents that it lacks dropped. Other scripts and
    emoji stay as they are.
    """
    # before and after: NFKC makes a space of an acute accent, and a plain < of a full-width one
    normal = unicodedata.normalize("NFKC", text.translate(_ASCII)).translate(_ASCII)
    visible = "".join(c for c in normal if unicodedata.category(c) != "Cf")
    return " ".join(_LOOSE_ACCENT.sub(r"\1", "".join(map(_known_letter, visible))).split())


def untokenise(text: str) -> str:
    """Undo Penn-Treebank spacing (``a , b .`` becomes ``a, b.``), which PAWS has and users' sentences do not."""
    for pattern, replacement in _PTB:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def text_field(row: Mapping[str, Any], column: str, task: str) -> str:
    """A row's text as it stands. Raises DataError when it is missing, not text, blank, or not whole characters."""
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise field_error(row, column, task, "a text that is not blank")
    check_text(row, column, task, value)
    return value


def label_field(row: Mapping[str, Any], column: str, task: str, labels: Sequence[str]) -> str:
    """A row's label, spelt as in ``labels``; rows may hold its name, or its place among labels without numbers.

    ``labels.read_label`` says which is which. Raises DataError for any other value.
    """
    found = read_label(row.get(column), labels)
    if found is not None:
        return found.label
    places = f"0..{len(labels) - 1} or one of " if has_index_reading(labels) else "one of "
    raise field_error(row, column, task, f"{places}{', '.join(labels)}")


def check_text(row: Mapping[str, Any], column: str, task: str, text: str) -> None:
    """Raises DataError where a row's text holds half of a character: no file and no tokenizer takes it."""
    if (place := lone_surrogate(text)) is not None:
        raise field_error(row, column, task, f"whole characters; {describe_surrogate(text, place)}")


def lone_surrogate(text: str) -> int | None:
    """Where a text has a code point of UTF-16's surrogates, which are no characters; None for a text without."""
    if text.isascii():
        return None
    match = _SURROGATE.search(text)
    return match.start() if match else None


def describe_surrogate(text: str, place: int) -> str:
    """For error messages: which code point, where."""
    code = ord(text[place])
    if 0xDC80 <= code <= 0xDCFF:  # how Python hands on a byte of a command line that is not UTF-8
        reason = (
            f"half of an emoji, or a byte 0x{code - 0xDC00:02x} that is not UTF-8: drop it, or write it in UTF-8"
        )
    else:
        reason = "half of an emoji that was cut in two: drop it, or write the whole emoji"
    return f"character {place + 1} is the lone surrogate \\u{code:04x}, {reason}"


def field_error(row: Mapping[str, Any], column: str, task: str, expected: str) -> DataError:
    """Where, what, got, expected, next step."""
    got = f"got {_short(row[column])}" if column in row else f"no such column (it has {', '.join(row) or 'none'})"
    name = f"row {row['id']!r}" if "id" in row else f"row {_short(dict(row))}"
    return DataError(
        f"task {task}, {name}: column {column!r}: {got}.\n"
        f"  expected  {expected}\n"
        "Correct or remove the row, or map another column to it (data.columns in the recipe)."
    )


def row_key(row: Mapping[str, Any]) -> str:
    """The row's id, or a hash of the row where it has none (equal rows then share a key).

    Raises DataError for an id with half of a character: predictions are saved under it.
    """
    if row.get("id") not in (None, ""):
        key = str(row["id"])
        check_text(row, "id", "any", key)
        return key
    canonical = json.dumps(dict(row), sort_keys=True, ensure_ascii=False, default=str)
    # a column that the task does not read may hold anything, so also half a character
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def options(labels: Sequence[str]) -> str:
    """FLAN's own way to list the classes; its line breaks are spaces to T5."""
    return "OPTIONS: " + " ".join(f"- {label}" for label in labels)


def _known_letter(character: str) -> str:
    """Drop the accent of a Latin letter that T5 lacks."""
    if character.isascii() or character in T5_LATIN or not character.isalpha():
        return character
    base = unicodedata.normalize("NFD", character)[0]
    return base if base.isascii() else character


def _short(value: object) -> str:
    """A value's repr, at most 80 characters."""
    return shorten(repr(value), 80)
