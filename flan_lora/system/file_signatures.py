"""What a file is by its first bytes: packed text is unpacked, and another program's file is named."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

from flan_lora.errors import DataError

_EXCEL = 'Save the sheet as "CSV UTF-8", or: pandas.read_excel(PATH).to_csv("rows.csv", index=False)'
_UNPACK = "Unpack it, and give the file inside."
_SUFFIXES = {
    **dict.fromkeys((".xlsx", ".xlsm", ".xls", ".ods"), _EXCEL),
    **dict.fromkeys((".zip", ".bz2", ".xz", ".zst"), _UNPACK),
    ".gz": "Text may be packed, under a name that says what it is: rows.csv.gz, rows.jsonl.gz.",
    ".txt": "Give each text a row and each column a name: .csv or .jsonl.",
}
"""Suffix of a file that is not read -> what to do about it."""

_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_SIGNATURES = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook of before 2007 (.xls)", _EXCEL),
    (b"BZh", "packed with bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "packed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"PAR1", "a Parquet file", "Name it .parquet."),
    (b"ARROW1\x00\x00", "an Arrow file", "Name it .arrow."),
    (b"SQLite format 3\x00", "an SQLite database", "Export the table as CSV."),
    (b"%PDF-", "a PDF document", "Export its rows as CSV or JSON lines."),
    (b"\x80\x04\x95", "a Python pickle", "Save the rows as CSV, JSON lines or Parquet; pickles run code."),
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, and not the rows it stands for",
        "Fetch them: git lfs pull",
    ),
)
"""(how such a file begins, what it is, what to do)"""
_PAGE = re.compile(rb"\s*(?:<!doctype\s+html|<html[\s>])", re.IGNORECASE)


def unpacked(path: Path, data: bytes) -> bytes:
    """The bytes of a file that holds text, unpacked where they are gzip's.

    Raises:
        DataError: gzip data that is cut or damaged, or no text but another program's file, with what it is.
    """
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path}: not a whole gzip file ({error}).\nPack or download it again, or give the file unpacked."
            ) from error
    if found := _kind(data):
        raise DataError(f"{path}: this is {found[0]}, whatever its name says.\n{found[1]}")
    return data


def not_read(suffix: str, readers: tuple[str, ...]) -> str:
    """Why a file of this kind is not read, and what to do."""
    lines = [f"files of kind {suffix or '(none)'!r} are not read.", f"Use one of {', '.join(readers)}."]
    return "\n".join([*lines, *filter(None, [_SUFFIXES.get(suffix.lower())])])


def _kind(data: bytes) -> tuple[str, str] | None:
    """(what a file is that holds no rows as text, what to do)."""
    if data.startswith(_ZIP):
        if b"xl/" in data[:4096] or b"xl/workbook" in data:
            return "an Excel workbook (.xlsx)", _EXCEL
        return "a ZIP archive", _UNPACK
    if _PAGE.match(data[:256]):
        return "a web page (HTML)", "Open it in a browser: a download may have ended at a login or error page."
    return next(((kind, advice) for start, kind, advice in _SIGNATURES if data.startswith(start)), None)
