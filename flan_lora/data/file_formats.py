"""Files -> plain rows (dicts).

Every failure is a DataError that names the place (file:line), what was there, and what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flan_lora.data.csv_format import parse_csv
from flan_lora.data.json_format import parse_json
from flan_lora.data.text_encoding import read_text
from flan_lora.errors import DataError

Row = dict[str, Any]


def read_rows(path: Path, encoding: str | None = None) -> list[Row]:
    """All rows of a .csv, .tsv, .jsonl, .json or .parquet file, in the file's order.

    Args:
        encoding: of a text file; none: UTF-8, or what the file's byte order mark says.

    Raises:
        DataError: the file is missing, of another kind, empty, of another encoding, or malformed; with the line.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(READERS)
        raise DataError(f"{path}: files of kind {path.suffix or '(none)'!r} are not read.\nUse one of {kinds}.")
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    rows = reader(path, encoding)
    if not rows:
        raise DataError(f"{path}: the file has no rows.")
    return rows


def _read_json(path: Path, encoding: str | None) -> list[Row]:
    return parse_json(path, read_text(path, encoding))


def _read_csv(path: Path, encoding: str | None) -> list[Row]:
    return parse_csv(path, read_text(path, encoding))


def _read_tsv(path: Path, encoding: str | None) -> list[Row]:
    return parse_csv(path, read_text(path, encoding), delimiter="\t")


def _read_parquet(path: Path, encoding: str | None) -> list[Row]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        # ValueError: also text that is not UTF-8, and dates that Python cannot hold
        raise DataError(f"{path}: not a readable Parquet file ({error}).") from error
    return rows


READERS: dict[str, Callable[[Path, str | None], list[Row]]] = {
    ".jsonl": _read_json,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}
"""File suffix -> reader."""
