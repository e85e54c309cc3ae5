"""Files -> plain rows (dicts). Knows formats and encodings; never a task, a role or a token.

Every failure is a DataError that names the place (file:line), what was there, and what to do.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flan_lora.errors import DataError

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """All rows of a .csv, .tsv, .jsonl, .json or .parquet file, in the file's order.

    Text files are UTF-8, with or without a byte order mark. A .json file is a list of objects (JSON lines
    are accepted too). CSV values stay strings.

    Raises:
        DataError: the file is missing, of another kind, empty, not UTF-8, or malformed; with the line.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(READERS)
        raise DataError(f"{path}: files of kind {path.suffix or '(none)'!r} are not read.\nUse one of {kinds}.")
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    rows = reader(path)
    if not rows:
        raise DataError(f"{path}: the file has no rows.")
    return rows


def _read_jsonl(path: Path) -> list[Row]:
    return _parse_jsonl(path, _read_text(path))


def _read_json(path: Path) -> list[Row]:
    text = _read_text(path)
    try:
        values = json.loads(text)
    except json.JSONDecodeError:
        return _parse_jsonl(path, text)  # many tools call JSON lines .json; the error then has a line number
    if isinstance(values, dict) and "\n" not in text.strip():
        return [values]
    if not isinstance(values, list):
        raise DataError(f"{path}: expected a list of objects, got {type(values).__name__}.")
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise DataError(f"{path}: item {number} is no object of columns, got {type(value).__name__}.")
    return values


def _parse_jsonl(path: Path, text: str) -> list[Row]:
    rows = []
    # Not splitlines(): it also breaks at U+2028 and U+0085, which JSON allows inside strings.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}:{number}: not valid JSON ({error.msg}, column {error.colno}).\n"
                "Each line must hold one JSON object."
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: expected one JSON object a line, got {type(row).__name__}.")
        rows.append(row)
    return rows


def _read_csv(path: Path, delimiter: str = ",") -> list[Row]:
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), delimiter=delimiter, strict=True)
    try:
        lines = _lines_of_csv(reader)
        _, header = next(lines, (0, []))
        _check_header(path, header)
        return [_csv_row(path, number, header, values) for number, values in lines]
    except csv.Error as error:
        raise DataError(
            f"{path}:{reader.line_num}: not valid CSV ({error}).\n"
            'Put fields that hold a quote or a line break between quotes, and double the quotes inside: "".'
        ) from error


def _read_tsv(path: Path) -> list[Row]:
    return _read_csv(path, delimiter="\t")


def _lines_of_csv(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """(line where the record starts, its fields), without blank lines; a quoted field may span lines."""
    start = 1
    for values in reader:
        if values:
            yield start, values
        start = reader.line_num + 1


def _check_header(path: Path, header: list[str]) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path}:1: the header names {', '.join(map(repr, twice))} twice.")


def _csv_row(path: Path, number: int, header: list[str], values: list[str]) -> Row:
    if len(values) != len(header):
        raise DataError(
            f"{path}:{number}: {len(values)} fields, but the header has {len(header)} ({', '.join(header)}).\n"
            "A field that contains the delimiter must stand between quotes."
        )
    return dict(zip(header, values, strict=True))


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}).") from error
    return rows


def _read_text(path: Path) -> str:
    """The file as text; a byte order mark is dropped."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: the file is UTF-16.\nSave it as UTF-8 (spreadsheets: 'CSV UTF-8').")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x}).\n"
            f"Save it as UTF-8, e.g. iconv -f latin1 -t utf-8 {path.name} > utf8{path.suffix}"
        ) from error


READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}
"""File suffix -> reader."""
