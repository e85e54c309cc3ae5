"""Files that are not what their names say: packed rows are read, other programs' files are named."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest

from flan_lora.data.file_formats import read_rows
from flan_lora.errors import DataError
from tests.data.test_file_formats import CSV, parquet_bytes, write


def zip_bytes(name: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(name, "x" * 10_000)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            zip_bytes("xl/workbook.xml"),
            r"a\.csv: this is an Excel workbook \(\.xlsx\), .*\nSave the sheet as",
        ),
        ("a.csv", zip_bytes("rows.csv"), r"a\.csv: this is a ZIP archive, whatever its name says\.\nUnpack it"),
        (
            "a.csv",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
            r"a\.csv: this is an Excel workbook of before 2007",
        ),
        ("a.csv", parquet_bytes(), r"a\.csv: this is a Parquet file, whatever its name says\.\nName it \.parquet"),
        ("a.json", b"\n<!DOCTYPE HTML><html>Log in</html>", r"a\.json: this is a web page \(HTML\)"),
        (
            "a.parquet",
            b"version https://git-lfs.github.com/spec/v1\noid x\n",
            r"a\.parquet: this is a Git LFS pointer",
        ),
        ("a.arrow", b"ARROW1\x00\x00 not really", r"a\.arrow: not a readable Arrow file"),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:-9], r"a\.csv\.gz: not a whole gzip file"),
        ("a.csv.gz", b"\x1f\x8b\x08 no", r"a\.csv\.gz: not a whole gzip file"),
        ("a.parquet.gz", b"", r"files of kind '\.gz' are not read\.\n.*\nText may be packed"),
    ],
)
def test_a_file_of_another_program_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_rows(write(tmp_path, name, content))
