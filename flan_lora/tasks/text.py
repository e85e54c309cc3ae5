"""Text as T5's vocabulary can hold it, and a row's fields with their errors. Knows strings; never a tokenizer."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from flan_lora.errors import DataError

T5_LATIN = frozenset("ÉÎÜßàáâäçèéêîóôöùûüăşţșț")
"""The accented letters among T5's 32,000 pieces; any other one is ``<unk>``, so it loses its accent."""
_ASCII = str.maketrans(
    {"<": "[", ">": "]", "{": "(", "}": ")", "~": "-", "^": "'", "`": "'", "\\": "/", "\u00b4": "'"}
    | dict.fromkeys("\u2010\u2011\u2212", "-")  # hyphen, no-break hyphen, minus
    | {"\u2044": "/", "\u0131": "i", "ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D"}
    | {"æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th"}
)
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
    """A row's text as it stands. Raises DataError when it is missing, not text, or blank."""
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise field_error(row, column, task, "a text that is not blank")
    return value


def label_field(row: Mapping[str, Any], column: str, task: str, labels: Sequence[str]) -> str:
    """A row's label as a word; rows may hold the word, in any case, or its index (int, or digits of a CSV)."""
    value = row.get(column)
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in labels:
        return word
    index = _whole_number(value)
    if index is not None and 0 <= index < len(labels):
        return labels[index]
    raise field_error(row, column, task, f"0..{len(labels) - 1} or one of {', '.join(labels)}")


def answers_field(row: Mapping[str, Any], column: str, task: str) -> tuple[str, ...]:
    """A row's answers, each once, in order: SQuAD's ``{"text": [...]}``, a list of texts, or one text."""
    value = row.get(column)
    texts = value.get("text") if isinstance(value, Mapping) else value
    listed = texts if isinstance(texts, (list, tuple)) else (texts,)
    if not listed or not all(isinstance(text, str) and text.strip() for text in listed):
        raise field_error(row, column, task, 'a text, a list of texts, or {"text": [...]}, none of them blank')
    return tuple(dict.fromkeys(listed))


def answer_start(row: Mapping[str, Any], column: str) -> dict[str, str]:
    """SQuAD's place of the first answer, as the input ``answer_start``; nothing where a row does not say."""
    answers = row[column]
    starts = answers.get("answer_start") if isinstance(answers, Mapping) else None
    return {} if starts is None or not len(starts) else {"answer_start": str(starts[0])}


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
    """The row's id, or a hash of the row where it has none (equal rows then share a key)."""
    if row.get("id") not in (None, ""):
        return str(row["id"])
    canonical = json.dumps(dict(row), sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def options(labels: Sequence[str]) -> str:
    """FLAN's own way to list the classes; its line breaks are spaces to T5."""
    return "OPTIONS: " + " ".join(f"- {label}" for label in labels)


def _whole_number(value: Any) -> int | None:
    """3 for 3, 3.0, "3" or a NumPy 3; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if number.is_integer() else None


def _known_letter(character: str) -> str:
    """Drop the accent of a Latin letter that T5 lacks."""
    if character.isascii() or character in T5_LATIN or not character.isalpha():
        return character
    base = unicodedata.normalize("NFD", character)[0]
    return base if base.isascii() else character


def _short(value: object) -> str:
    """A value's repr, at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
