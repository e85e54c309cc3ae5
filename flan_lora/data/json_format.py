"""JSON text -> rows, in the shapes that programs write tables in.

    {"a": 1}\\n{"a": 2}                           JSON lines
    [{"a": 1}, {"a": 2}]                         a list of objects, whatever the file is called
    {"a": [1, 2]}, {"a": {"0": 1, "1": 2}}       columns (pandas' to_json)
    {"0": {"a": 1}, "1": {"a": 2}}               rows by their number (pandas' orient="index")
    {"columns": ["a"], "data": [[1], [2]]}       pandas' orient="split"
    {"version": 2, "data": [{"a": 1}, ...]}      rows under one key; {"row": {"a": 1}} around each is taken off
    {"data": [{"paragraphs": [{"context", "qas"}]}]}   SQuAD's own files, one row for each question

What could be read in two ways is refused with the shape that was found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flan_lora.errors import DataError

Row = dict[str, Any]

_LINE_END = re.compile(r"\r\n|\r|\n")
"""Of any system; JSON has none of them inside a string."""
_CONVERT = "Save one object a row: {} per line (.jsonl), or a list of them (.json)."


def parse_json(path: Path, text: str) -> list[Row]:
    """Rows of JSON in any of the shapes above. Raises DataError with the line, the item or the shape found."""
    stripped = text.strip()
    if not stripped:
        return []
    try:
        value = _loads(stripped)
    except (ValueError, RecursionError) as error:
        # more than one value: JSON lines, whose errors have a line; a list that is broken is told as a whole
        is_whole = stripped[0] == "[" or isinstance(error, _DoubleKeyError)
        if is_whole and not _looks_like_lines(stripped):
            raise _invalid(path, text, error) from error
        return _opened(path, _parse_lines(path, text))
    return _opened(path, _rows(path, value))


def _rows(path: Path, value: Any) -> list[Row]:
    if isinstance(value, list):
        return _checked(path, value, "item")
    if isinstance(value, dict):
        return _rows_of_object(path, value)
    raise DataError(f"{path}: expected a list of objects, got {type(value).__name__}.")


def _rows_of_object(path: Path, value: Row) -> list[Row]:
    """The table that one object holds, or the object as the only row."""
    parts = list(value.values())
    if (
        set(value) >= {"columns", "data"}
        and _is_list_of(value["columns"], str)
        and _is_list_of(value["data"], list)
    ):
        return _split_orient(path, value["columns"], value["data"])
    if len(parts) > 1 and all(isinstance(part, list) and not _is_list_of(part, dict) for part in parts):
        return _from_columns(path, value)
    if parts and all(isinstance(part, dict) for part in parts):
        return _from_mappings(path, value)
    tables = [key for key, part in value.items() if _is_list_of(part, dict)]
    if "features" in value and "rows" in tables:
        tables = ["rows"]  # the Hub's viewer, which lists its columns beside the rows
    is_answer = {"context", "answers"} <= value.keys()  # a row of SQuAD may list its answers as objects
    if len(tables) == 1 and not is_answer:
        return _checked(path, value[tables[0]], f"item of {tables[0]!r}")
    if len(tables) > 1 and not is_answer:
        raise DataError(
            f"{path}: rows under {len(tables)} keys ({', '.join(tables)}).\n"
            "Save each as a file of its own, or give the folder that holds them with --data."
        )
    if len(parts) == 1 and isinstance(parts[0], list):
        raise DataError(f"{path}: expected a list of objects, got dict.\n{_CONVERT}")
    return [value]


def _from_columns(path: Path, columns: Mapping[str, list[Any]]) -> list[Row]:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{path}: columns of unequal length ({listed}), so no row is whole.\n{_CONVERT}")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _from_mappings(path: Path, value: Mapping[str, Row]) -> list[Row]:
    """pandas' ``to_json``: columns of {row number: value}, or the rows themselves by their number."""
    inner = dict.fromkeys(key for part in value.values() for key in part)
    are_columns = bool(inner) and all(key.isdecimal() for key in inner)
    are_rows = all(key.isdecimal() for key in value)
    if are_rows and not are_columns:
        return list(value.values())
    if are_columns and not are_rows and all(part.keys() == inner.keys() for part in value.values()):
        return [{name: part[key] for name, part in value.items()} for key in inner]
    raise DataError(
        f"{path}: an object of objects ({', '.join(list(value)[:5])}), where neither level is numbers from 0: "
        f"which of them are rows cannot be told.\n{_CONVERT}"
    )


def _split_orient(path: Path, columns: Sequence[str], data: Sequence[list[Any]]) -> list[Row]:
    for number, values in enumerate(data, start=1):
        if len(values) != len(columns):
            raise DataError(
                f"{path}: item {number} of 'data' has {len(values)} values for {len(columns)} columns."
            )
    return [dict(zip(columns, values, strict=True)) for values in data]


def _parse_lines(path: Path, text: str) -> list[Row]:
    rows = []
    # Not splitlines(): it also breaks at U+2028 and U+0085, which JSON allows inside strings.
    for number, line in enumerate(_LINE_END.split(text), start=1):
        line = line.removeprefix("\ufeff")  # of a file that was put behind another
        if not line.strip():
            continue
        try:
            row = _loads(line)
        except (ValueError, RecursionError) as error:
            raise _invalid(path, line, error, number) from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: expected one JSON object a line, got {type(row).__name__}.")
        rows.append(row)
    return rows


def _looks_like_lines(text: str) -> bool:
    """Whether the first line is a value of its own."""
    try:
        _loads(_LINE_END.split(text, maxsplit=1)[0])
    except _DoubleKeyError:
        return True
    except (ValueError, RecursionError):
        return False
    return True


def _loads(text: str) -> Any:
    """Values of JSON; NaN and infinity too, which Python and pandas write into columns that nobody may read."""
    return json.loads(text, object_pairs_hook=_without_doubles)


class _DoubleKeyError(ValueError):
    """An object names a column twice; Python would keep the last value and say nothing."""


def _without_doubles(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DoubleKeyError(f"the key {next(key for key in row if keys.count(key) > 1)!r} stands twice")
    return row


def _invalid(path: Path, text: str, error: Exception, line: int | None = None) -> DataError:
    """Where JSON ends to be JSON; ``line``: of the text's start in the file, none: the text is the whole file."""
    if isinstance(error, json.JSONDecodeError):
        return DataError(
            f"{path}:{(line or 1) + error.lineno - 1}: not valid JSON ({error.msg}, column {error.colno}).\n"
            "Each line must hold one JSON object."
        )
    if isinstance(error, _DoubleKeyError):
        place = path if line is None else f"{path}:{line}"
        return DataError(f"{place}: {error} in one object.\nKeep the one that is meant.")
    reason = "nested too deep" if isinstance(error, RecursionError) else "a number with thousands of digits"
    return DataError(f"{path}:{line or 1}: not read as JSON ({reason}).\nEach line must hold one JSON object.")


def _checked(path: Path, values: Sequence[Any], name: str) -> list[Row]:
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise DataError(f"{path}: {name} {number} is no object of columns, got {type(value).__name__}.")
    if values and all(value.keys() >= {"row"} and isinstance(value["row"], dict) for value in values):
        return [value["row"] for value in values]  # the Hub's viewer: {"row_idx": 0, "row": {...}}
    return list(values)


def _opened(path: Path, rows: list[Row]) -> list[Row]:
    """SQuAD's articles as rows; any other rows as they are."""
    if not rows or not all(_is_list_of(row.get("paragraphs"), dict) for row in rows):
        return rows
    return list(_questions(path, rows))


def _questions(path: Path, articles: Sequence[Row]) -> Iterator[Row]:
    for number, article in enumerate(articles, start=1):
        for paragraph in article["paragraphs"]:
            questions = paragraph.get("qas")
            if not _is_list_of(questions, dict) or "context" not in paragraph:
                raise DataError(
                    f"{path}: article {number} has a paragraph without 'context' or 'qas', which SQuAD's have."
                )
            for question in questions:
                known = {name: question[name] for name in ("id", "question", "answers") if name in question}
                yield {"title": article.get("title"), "context": paragraph["context"], **known}


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, kind) for item in value)
