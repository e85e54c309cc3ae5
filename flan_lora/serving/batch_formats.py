"""The files of a batch: JSON lines and tables, on this machine or behind an fsspec URL."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flan_lora.adapters.remote_folder import is_url
from flan_lora.data.file_formats import kind_of, read_rows
from flan_lora.errors import DataError
from flan_lora.serving.batch_answers import Line
from flan_lora.system.file_signatures import unpacked
from flan_lora.system.text import shorten

_LINE_END = re.compile(rb"\r\n|\r|\n")
"""Of any system; a line of JSON has none of them inside."""
_TABLES = (".csv", ".tsv", ".parquet", ".arrow")
_WRITTEN_TABLES = (".csv", ".tsv", ".parquet")
_SETTINGS = ("adapter", "parameters")
"""Columns that are about a row's answer; an empty cell leaves them unsaid."""


def target_exists(target: str | Path) -> bool:
    """Raises OSError where a URL cannot be looked at."""
    if not is_url(str(target)):
        return Path(target).exists()
    from fsspec.core import url_to_fs

    filesystem, path = _opened(target, lambda: url_to_fs(str(target)))
    return bool(filesystem.exists(path))


def read_lines(source: str | Path) -> tuple[bytes, list[Line]]:
    """A file's bytes, unpacked, and the requests in it.

    Raises:
        DataError: it is missing, unreadable, or no text.
    """
    if kind_of(Path(source)) in _TABLES:
        return _read_table(source)
    content = unpacked(Path(source), _read(source))
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{source}: not UTF-8, but UTF-16. Convert it first: iconv -f utf-16 -t utf-8")
    content = content.removeprefix(codecs.BOM_UTF8)
    found = [line.removeprefix(codecs.BOM_UTF8) for line in _LINE_END.split(content)]
    return content, [Line(n, line) for n, line in enumerate(found, start=1) if line.strip()]


def _read(source: str | Path) -> bytes:
    try:
        if is_url(str(source)):
            return _download(source)
        if not Path(source).is_file():
            raise DataError(f"{shorten(str(source), 300)}: no such file.")
        return Path(source).read_bytes()
    except OSError as error:
        raise DataError(f"{shorten(str(source), 300)} cannot be read: {error.strerror or error}.") from error


def _download(url: str | Path) -> bytes:
    import fsspec

    with _opened(url, lambda: fsspec.open(str(url), "rb")) as file:
        content: bytes = file.read()
    return content


def _opened(url: str | Path, open_it: Callable[[], Any]) -> Any:
    """What fsspec makes of a URL. Raises DataError where it knows no such kind, or lacks its package."""
    try:
        return open_it()
    except (ImportError, ValueError) as error:
        raise DataError(f"{shorten(str(url), 300)}: {error}") from error


def _read_table(source: str | Path) -> tuple[bytes, list[Line]]:
    """Each row as a line of JSON, read as training reads tables; rows count from 1, without the header."""
    content = _read(source)
    path = Path(source)
    if is_url(str(source)):  # under its own name, which says what it is
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            copy.write_bytes(content)
            try:
                rows = read_rows(copy)
            except DataError as error:
                raise DataError(str(error).replace(str(copy), str(source))) from error
    else:
        rows = read_rows(path)
    return content, [Line(n, line_of(row)) for n, row in enumerate(rows, start=1)]


def line_of(row: Mapping[str, Any]) -> bytes:
    """A row of a table as a line of JSON; empty cells are not there."""
    value = {
        name: cell for name, cell in row.items() if cell is not None and not (name in _SETTINGS and cell == "")
    }
    if isinstance(parameters := value.get("parameters"), str):
        try:
            value["parameters"] = json.loads(parameters)
        except ValueError:
            pass  # its line's error says so
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace")


def publish(
    partial: Path,
    target: str | Path,
    records: Sequence[Mapping[str, Any]],
    *,
    is_in_order: bool,
    dumps: Callable[[Mapping[str, Any]], bytes],
) -> None:
    """Give a finished output its name and form, whole or not at all.

    Args:
        partial: the output as it grew, JSON lines; gone afterwards.
        records: the same, in the input's order.
        is_in_order: whether ``partial`` has this order.

    Raises:
        OSError: it cannot be written; ``partial`` stays.
    """
    kind = Path(target).suffix.lower()
    if kind not in _WRITTEN_TABLES and is_in_order and not is_url(str(target)):
        os.replace(partial, target)
        return
    content = (
        _table(kind, records) if kind in _WRITTEN_TABLES else b"".join(dumps(each) + b"\n" for each in records)
    )
    if is_url(str(target)):
        import fsspec

        with _opened(target, lambda: fsspec.open(str(target), "wb")) as file:
            file.write(content)
    else:
        whole = partial.with_suffix(".whole")
        whole.write_bytes(content)
        os.replace(whole, target)
    partial.unlink()


def _table(kind: str, records: Sequence[Mapping[str, Any]]) -> bytes:
    """Inputs under their own names, and what else a record has; what has no cell of its own is JSON."""
    rows = [_flat(record) for record in records]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if kind == ".parquet":
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]

        buffer = io.BytesIO()
        columns = {name: _column([row.get(name) for row in rows]) for name in names}
        pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
        return buffer.getvalue()
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, delimiter="\t" if kind == ".tsv" else ",")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _column(values: Sequence[Any]) -> Any:
    """Of one type; of texts where rows differ in it."""
    import pyarrow

    try:
        return pyarrow.array(values)
    except pyarrow.ArrowException:
        return pyarrow.array([None if value is None else str(value) for value in values])


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    given = record.get("input")
    inputs = {str(name): value for name, value in given.items()} if isinstance(given, dict) else {"input": given}
    rest = {name: value for name, value in record.items() if name != "input"}
    # the answering adapter in place of the asked one
    return {name: cell_of(value) for name, value in {**inputs, **rest}.items()}


def cell_of(value: Any) -> Any:
    """A value as a table holds it."""
    return (
        value if value is None or isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False)
    )
