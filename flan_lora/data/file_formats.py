"""Files -> plain rows (dicts).

Every failure is a DataError that names the place (file:line), what was there, and what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from flan_lora.data.csv_format import parse_csv
from flan_lora.data.json_format import parse_json
from flan_lora.data.text_encoding import read_text
from flan_lora.errors import DataError
from flan_lora.system.file_signatures import not_read, unpacked

Row = dict[str, Any]


def read_rows(path: Path, encoding: str | None = None) -> list[Row]:
    """All rows of a .csv, .tsv, .jsonl, .ndjson, .json, .parquet or .arrow file, in the file's order.

    Text may be packed with gzip (rows.csv.gz).

    Args:
        encoding: of a text file; none: UTF-8, or what the file's byte order mark says.

    Raises:
        DataError: the file is missing, of another kind, empty, of another encoding, or malformed; with the line.
    """
    reader = READERS.get(suffix := kind_of(path))
    if reader is None:
        raise DataError(f"{path}: {not_read(suffix, tuple(READERS))}")
    if path.is_dir():
        raise DataError(f"{path}: no such file: it is a folder.\nGive one of the files in it.")
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    rows = reader(path, encoding)
    if not rows:
        raise DataError(f"{path}: the file has no rows{'' if path.stat().st_size else ', it is empty'}.")
    return rows


def kind_of(path: Path) -> str:
    """The suffix that says how a file is read: of rows.csv.gz ``.csv``; text alone is packed so."""
    suffix = path.suffix.lower()
    inner = Path(path.stem).suffix.lower()
    return inner if suffix == ".gz" and inner in READERS.keys() - {".parquet", ".arrow"} else suffix


def _read_json(path: Path, encoding: str | None) -> list[Row]:
    return parse_json(path, read_text(path, encoding))


def _read_csv(path: Path, encoding: str | None) -> list[Row]:
    return parse_csv(path, read_text(path, encoding))


def _read_tsv(path: Path, encoding: str | None) -> list[Row]:
    return parse_csv(path, read_text(path, encoding), delimiter="\t")


def _read_parquet(path: Path, encoding: str | None) -> list[Row]:
    import pyarrow.parquet  # type: ignore[import-untyped]

    return _arrow_rows(path, "Parquet", pyarrow.parquet.read_table)


def _read_arrow(path: Path, encoding: str | None) -> list[Row]:
    """Arrow's file format, or its stream, in which datasets keeps its cache."""
    import pyarrow
    import pyarrow.ipc  # type: ignore[import-untyped]

    def table(path: Path) -> Any:
        with pyarrow.memory_map(str(path)) as file:
            try:
                return pyarrow.ipc.open_file(file).read_all()
            except pyarrow.ArrowInvalid:
                file.seek(0)
                return pyarrow.ipc.open_stream(file).read_all()

    return _arrow_rows(path, "Arrow", table)


def _arrow_rows(path: Path, kind: str, read: Callable[[Path], Any]) -> list[Row]:
    import pyarrow

    try:
        table = read(path)
        names = table.column_names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"{path}: not a readable {kind} file: it names {', '.join(map(repr, twice))} twice.")
        rows: list[Row] = table.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        # ValueError: also text that is not UTF-8, and dates that Python cannot hold
        with suppress(OSError):
            content = path.read_bytes()
            if not content.startswith((b"PAR1", b"ARROW1")):
                unpacked(path, content)  # says what it is, where that is known
        raise DataError(f"{path}: not a readable {kind} file ({error}).") from error
    return rows


READERS: dict[str, Callable[[Path, str | None], list[Row]]] = {
    ".jsonl": _read_json,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
    ".ndjson": _read_json,
    ".arrow": _read_arrow,
}
"""File suffix -> reader."""
