"""Reading files: every format gives the same plain rows, and every broken file says where it is broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flan_lora.data.file_formats import read_rows
from flan_lora.errors import DataError

ROWS = [{"text": "i feel, well, happy", "label": "joy"}, {"text": 'he said "no"\nand left', "label": "anger"}]
CSV = 'text,label\n"i feel, well, happy",joy\n"he said ""no""\nand left",anger\n'


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parquet_bytes() -> bytes:
    import pyarrow
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", CSV),
        ("rows.CSV", CSV.replace("\n", "\r\n").replace('""no""\r\n', '""no""\n')),
        ("blank.csv", CSV.replace("joy\n", "joy\n\n\n")),
        ("bom.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("rows.tsv", 'text\tlabel\ni feel, well, happy\tjoy\n"he said ""no""\nand left"\tanger\n'),
        ("rows.jsonl", "\n".join(map(json.dumps, ROWS)) + "\n\n"),
        ("bom.jsonl", b"\xef\xbb\xbf" + "\n".join(map(json.dumps, ROWS)).encode()),
        ("rows.json", json.dumps(ROWS, indent=1)),
        ("lines.json", "\n".join(map(json.dumps, ROWS))),
        ("rows.parquet", parquet_bytes()),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert read_rows(write(tmp_path, name, content)) == ROWS


def test_line_separators_inside_json_strings_do_not_end_a_line(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three"
    path = write(tmp_path, "rows.jsonl", json.dumps({"text": text}, ensure_ascii=False))
    assert read_rows(path) == [{"text": text}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            '{"a": 1}\n\n{"a": 2\n',
            r"a\.jsonl:3: not valid JSON .*\nEach line must hold one",
        ),
        ("a.jsonl", '{"a": 1}\n[2]\n', r"a\.jsonl:2: expected one JSON object a line, got list"),
        ("a.jsonl", "\n \n", r"a\.jsonl: the file has no rows"),
        ("a.json", "[1, 2]", r"a\.json: item 1 is no object of columns, got int"),
        ("a.json", '{"data":\n [1]}', r"a\.json: expected a list of objects, got dict"),
        ("a.json", '[{"a": 1},', r"a\.json:1: not valid JSON"),
        ("a.json", "", r"a\.json: the file has no rows"),
        ("a.csv", "", r"a\.csv: the file has no rows"),
        ("a.csv", "text,label\n", r"a\.csv: the file has no rows"),
        ("a.csv", "text,text\nx,y\n", r"a\.csv:1: the header names 'text' twice"),
        (
            "a.csv",
            'text,label\n"two\nlines",joy\ni feel, well,joy\n',
            r"a\.csv:4: 3 fields, but the header has 2 \(text, label\)\.\nA field that contains the delimiter",
        ),
        ("a.csv", "text,label\nonly one\n", r"a\.csv:2: 1 fields, but the header has 2"),
        (
            "a.csv",
            'text,label\n"never closed,joy\nx,y\n',
            r"a\.csv:3: not valid CSV .*\nPut fields",
        ),
        (
            "a.csv",
            b"text,label\nx,y\ncaf\xe9,joy\n",
            r"a\.csv:3: not UTF-8 \(byte 0xe9\)\.\nSave it as",
        ),
        ("a.csv", "text,label\nx,y\n".encode("utf-16"), r"a\.csv: the file is UTF-16.\nSave it as UTF-8"),
        ("a.parquet", b"PAR1 not really", r"a\.parquet: not a readable Parquet file"),
        (
            "a.xlsx",
            b"",
            r"a\.xlsx: files of kind '\.xlsx' are not read\.\nUse one of \.jsonl, \.json, \.csv, \.tsv, \.parquet",
        ),
        ("a", b"", r"files of kind '\(none\)' are not read"),
    ],
)
def test_a_broken_file_says_where(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_rows(write(tmp_path, name, content))


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.csv: no such file"):
        read_rows(tmp_path / "rows.csv")


def test_a_folder_in_place_of_a_file_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").mkdir()
    with pytest.raises(DataError, match="no such file"):
        read_rows(tmp_path / "rows.csv")
