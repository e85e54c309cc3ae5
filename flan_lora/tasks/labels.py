"""Which label a row's value means: by its name, or by its place where no label could be taken for a number.

JSON 3, 3.0 and CSV "3", "3.0"   the label "3" where a task has it; else, of labels in words, the one at place 3
true, CSV "True"                 the label "true"; never a place
"Joy", " joy "                   the label "joy": case, spaces around and the Unicode form do not count
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

Reading = Literal["name", "index"]
"""How a value was understood."""

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NUMBER_IN_FRONT = re.compile(r"\s*[+\-\u2212]?[.,]?\d")
_TRUTH = {"false": 0, "no": 0, "true": 1, "yes": 1}
"""1 means true to whoever wrote it, so of ("true", "false") a number is no place."""
_MAX_NUMBER_CHARS = 40
"""A longer number is no label and no place; it also keeps hostile digits away from Python's big integers."""


class LabelReading(NamedTuple):
    """The label of a value, as the task spells it, and how it was found."""

    label: str
    reading: Reading


def read_label(value: Any, labels: Sequence[str]) -> LabelReading | None:
    """The label that a row's value means; None where it means none.

    A value that equals a label is that label. A whole number is the place of a label, from 0, only where it can
    mean nothing else: no label is or begins with a number ("1", "1 star"), none is a truth value at another place.
    """
    value = _plain_value(value)
    names, takes_places = _keys(tuple(labels))
    if isinstance(value, str):
        name = names.get(label_key(value))
        if name is not None:
            return LabelReading(name, "name")
    number = _json_number(value)
    if number is not None and (name := names.get(number)) is not None:
        return LabelReading(name, "name")
    if isinstance(value, bool):
        name = names.get("true" if value else "false")
        return None if name is None else LabelReading(name, "name")
    if number is None or not takes_places or not number.isdecimal() or int(number) >= len(labels):
        return None
    return LabelReading(labels[int(number)], "index")


def has_index_reading(labels: Sequence[str]) -> bool:
    """Whether a number may stand for a label's place."""
    return _keys(tuple(labels))[1]


def label_key(text: str) -> str:
    """What makes two spellings one label: Unicode form NFC, no case, single spaces."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(folded.split())


def spelt_as(labels: Sequence[str]) -> Callable[[str], str]:
    """A parser for ``Task.parse``: an output that is a label in any case -> the label as the task spells it."""
    names = {label_key(label): label for label in labels}
    return lambda output: names.get(label_key(output), output.strip())


def same_labels(labels: Sequence[str]) -> tuple[str, str] | None:
    """Two labels that no row could tell apart: equal but for case, spaces or Unicode form, or as numbers."""
    seen: dict[str, str] = {}
    for label in labels:
        keys = {label_key(label), _json_number(label) or label_key(label)}
        if twin := next((seen[key] for key in keys if key in seen), None):
            return twin, label
        seen |= dict.fromkeys(keys, label)
    return None


@lru_cache(maxsize=64)
def _keys(labels: tuple[str, ...]) -> tuple[Mapping[str, str], bool]:
    """(every spelling's key -> label, whether a number can be the place of one)."""
    names = {label_key(label): label for label in labels}
    names |= {number: label for label in labels if (number := _json_number(label)) is not None}
    has_number = any(_NUMBER_IN_FRONT.match(unicodedata.normalize("NFKC", label)) for label in labels)
    has_other_truth = any(_TRUTH.get(label_key(label), place) != place for place, label in enumerate(labels))
    return names, not has_number and not has_other_truth


def _plain_value(value: Any) -> Any:
    """Python's own value for a NumPy or torch scalar; anything else as it is."""
    item = getattr(value, "item", None)
    if isinstance(value, (str, bool, int, float)) or not callable(item):
        return value
    try:
        return item()
    except (TypeError, ValueError, RuntimeError):  # more than one element
        return value


def _json_number(value: Any) -> str | None:
    """A number as shortest text, whole ones without a point: "3" for 3, 3.0, "3.0" and " 3 "; None for no number.

    Text is a number where JSON says so: not "01", "+1", "nan", "1_000" or digits of other scripts, which
    ``float`` would take.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
        if len(text) > _MAX_NUMBER_CHARS or not _JSON_NUMBER.fullmatch(text):
            return None
        value = float(text) if set(text) & set(".eE") else int(text)
    try:
        is_whole = value == int(value)
        if isinstance(value, float) or not is_whole:
            value = float(value)
        if abs(value) >= 10**_MAX_NUMBER_CHARS:
            return None
        return str(int(value)) if is_whole else repr(value)
    except (TypeError, ValueError, OverflowError, ArithmeticError):  # lists, dates, NaN, infinity
        return None
