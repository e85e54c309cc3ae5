"""A row's answers in every shape that SQuAD's have taken on their way here; what cannot be told apart is refused.

{"text": ["x", "y"], "answer_start": [3, 9]}     Hub rows; also with one text and one number in place of lists
[{"text": "x", "answer_start": 3}, ...]          SQuAD's own files
["x", "y"], "x"                                  plain lists and texts
any of these as JSON or as Python prints it      a cell of a CSV file
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from flan_lora.tasks.text import check_text, field_error

_SHAPES = 'a text, a list of texts, or {"text": [...]}, none of them blank'
_CONTAINER = re.compile(
    r"\{.*\}|\(\s*['\"].*,.*\)|\[.*\]|array\(.*\)|\{\s*['\"](?:text|answer_start)['\"].*", re.DOTALL
)
_WRITTEN_BY_A_PROGRAM = re.compile(
    r"\(|[\[{]\s*(?:['\"\[{]|array\(|(?:None|null|nan|NaN|True|true|False|false)\b)|array\(|\{\s*\}|\[[-+\d\s.,]*\]$"
)
"""Not ``[sic]`` or ``{old} maps``: a text in brackets stays a text."""
_MAX_CELL_CHARS = 100_000
_MAX_DEPTH = 8
"""Brackets within brackets in a cell; SQuAD's shapes need three."""
_NUMPY = (
    "numpy prints lists without commas, so their items cannot be told apart for sure: "
    "write JSON lines in place of CSV (pandas: to_json(path, orient='records', lines=True))"
)


class _Unreadable(Exception):
    """A cell that some program printed, and that has no one meaning; the text says why."""


def answers_field(row: Mapping[str, Any], column: str, task: str) -> tuple[str, ...]:
    """A row's answers, each once, in order. Raises DataError for any shape that this module does not list."""
    try:
        texts = _texts(_structure(row.get(column)))
    except _Unreadable as error:
        raise field_error(row, column, task, f"{_SHAPES}; {error}") from None
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise field_error(row, column, task, _SHAPES)
    for text in texts:
        check_text(row, column, task, text)
    return tuple(dict.fromkeys(texts))


def answer_start(row: Mapping[str, Any], column: str, task: str) -> dict[str, str]:
    """The first answer's place in its context, in characters, as the input ``answer_start``.

    Nothing where a row does not say, or says a negative number. Raises DataError for what is no whole number.
    """
    expected = "answer_start: whole numbers, one for each text"
    try:
        start = _start(_structure(row.get(column)))
    except _Unreadable as error:
        raise field_error(row, column, task, f"{expected}; {error}") from None
    if start is None:
        return {}
    try:
        place = int(start)
        is_whole = not isinstance(start, bool) and (isinstance(start, str) or place == start)
    except (TypeError, ValueError, OverflowError):
        is_whole = False
    if not is_whole:
        raise field_error(row, column, task, expected)
    return {"answer_start": str(place)} if place >= 0 else {}


def _start(value: Any) -> Any:
    """The first answer's ``answer_start``, unchecked; None where a value does not say."""
    if isinstance(value, (list, tuple)):
        value = value[0] if value else None
    start = _structure(value.get("answer_start")) if isinstance(value, Mapping) else None
    if isinstance(start, (list, tuple)):
        return start[0] if start else None
    return start


def _texts(value: Any) -> Sequence[Any]:
    """The answers of a value, unchecked; empty where it has none of the shapes."""
    if isinstance(value, Mapping):
        value = _structure(value.get("text"))
        return value if isinstance(value, (list, tuple)) else (value,)
    if not isinstance(value, (list, tuple)):
        return (value,)
    if all(isinstance(item, Mapping) for item in value):
        return [text for item in value for text in _texts(item)]
    return value


def _structure(value: Any) -> Any:
    """Lists and mappings for a cell that holds them as text, and for arrays; anything else as it is."""
    if isinstance(value, str):
        return _parsed(value) if _CONTAINER.fullmatch(value.strip()) else value
    to_list = getattr(value, "tolist", None)
    return to_list() if callable(to_list) else value


def _parsed(cell: str) -> Any:
    """What a cell in brackets holds; the cell itself where it is only a text in brackets (``[sic]``)."""
    text = cell.strip()
    if not _WRITTEN_BY_A_PROGRAM.match(text):
        return cell
    if text.startswith("("):
        return _tuple(text) or cell
    if len(text) > _MAX_CELL_CHARS or _depth(text) > _MAX_DEPTH:
        raise _Unreadable(
            f"a cell in brackets has at most {_MAX_CELL_CHARS:,} characters, {_MAX_DEPTH} levels deep"
        )
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape: Python keeps the backslash, as it was
            value = ast.literal_eval(text)
        has_commas = not _has_adjacent_strings(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError) as error:
        is_numpy = "array(" in text or re.search(r"['\"\d]\s+['\"\d]", text)
        raise _Unreadable(
            _NUMPY if is_numpy else "in brackets, but neither JSON nor a Python list or dict"
        ) from error
    if not has_commas:
        raise _Unreadable(_NUMPY)
    return value


def _tuple(text: str) -> tuple[Any, ...]:
    """What Python prints of several texts; empty where it is a text in brackets after all."""
    if len(text) > _MAX_CELL_CHARS or _depth(text) > _MAX_DEPTH:
        return ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ()
    return value if isinstance(value, tuple) else ()


def _depth(text: str) -> int:
    """Brackets open at once, those in strings among them: an upper bound."""
    depth = deepest = 0
    for character in text:
        depth += (character in "[{(") - (character in "]})")
        deepest = max(deepest, depth)
    return deepest


def _has_adjacent_strings(text: str) -> bool:
    """Whether two literals stand side by side: Python joins them, NumPy prints two items so."""
    kinds = [
        token.type
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in (tokenize.NL, tokenize.NEWLINE)
    ]
    return any(first == second == tokenize.STRING for first, second in pairwise(kinds))
