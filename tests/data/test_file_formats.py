"""Reading files: every format gives the same plain rows, and every broken file says where it is broken."""

from __future__ import annotations

import csv
import gzip
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flan_lora.data.file_formats import read_rows
from flan_lora.data.json_format import parse_json
from flan_lora.errors import DataError

ROWS = [{"text": "i feel, well, happy", "label": "joy"}, {"text": 'he said "no"\nand left', "label": "anger"}]
CSV = 'text,label\n"i feel, well, happy",joy\n"he said ""no""\nand left",anger\n'


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def packed(content: bytes) -> bytes:
    """By gzip, without the time: a test's name holds its bytes, and two processes must collect one name."""
    return gzip.compress(content, mtime=0)


def semicolons(text: str) -> str:
    """The table as Excel writes it where the comma is the decimal point; text keeps its commas, without quotes."""
    return (
        text.replace("text,label", "text;label")
        .replace('",', '";')
        .replace('"i feel, well, happy"', "i feel, well, happy")
    )


def arrow_bytes(*, as_stream: bool) -> bytes:
    import pyarrow
    import pyarrow.ipc

    sink, table = pyarrow.BufferOutputStream(), pyarrow.Table.from_pylist(ROWS)
    with (pyarrow.ipc.new_stream if as_stream else pyarrow.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


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
        ("utf16.csv", CSV.encode("utf-16")),
        ("utf16.json", json.dumps(ROWS).encode("utf-16")),
        ("utf32.csv", CSV.encode("utf-32")),
        ("utf16_be.csv", b"\xfe\xff" + CSV.encode("utf-16-be")),
        ("utf16.jsonl", "\r\n".join(map(json.dumps, ROWS)).encode("utf-16")),
        ("bom_inside.jsonl", "\n\ufeff".join(map(json.dumps, ROWS))),
        ("old_mac.jsonl", "\r".join(map(json.dumps, ROWS))),
        ("rows.ndjson", "\r\n".join(map(json.dumps, ROWS))),
        ("packed.csv.gz", packed(CSV.encode("utf-16"))),
        ("packed.JSONL.GZ", packed(b"") + packed("\n".join(map(json.dumps, ROWS)).encode())),
        ("packed_in_secret.csv", packed(CSV.encode())),
        ("rows.arrow", arrow_bytes(as_stream=False)),
        ("stream.arrow", arrow_bytes(as_stream=True)),
        ("semicolons.csv", semicolons(CSV)),
        (
            "excel.csv",
            b"\xef\xbb\xbf" + semicolons(CSV).replace("\n", "\r\n").replace('""no""\r', '""no""').encode(),
        ),
        ("tabs.csv", semicolons(CSV).replace(";", "\t")),
        ("bars.csv", semicolons(CSV).replace(";", "|")),
        ("commas.tsv", CSV),
        ("semicolons.tsv", semicolons(CSV)),
        ("sep.csv", "sep=;\n" + CSV.replace(",", ";").replace("feel; well; happy", "feel, well, happy")),
        (
            "quoted_sep.csv",
            '"SEP=\t"\r\n' + 'text\tlabel\n"i feel, well, happy"\tjoy\n"he said ""no""\nand left"\tanger\n',
        ),
        ("empty_columns.csv", CSV.replace("label\n", "label,,\n").replace("joy\n", "joy,,\n") + ",,,\n,\n"),
        ("spaced_header.csv", CSV.replace("text,label", " text ,label ")),
        ("old_mac.csv", CSV.replace("\n", "\r").replace('""no""\r', '""no""\n')),
        ("array.jsonl", json.dumps(ROWS, indent=1)),
        ("columns.json", json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}, indent=1)),
        ("columns.jsonl", json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]})),
        ("pandas.json", json.dumps({name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in ROWS[0]})),
        ("index.json", json.dumps({str(n): row for n, row in enumerate(ROWS)})),
        ("split.json", json.dumps({"columns": ["text", "label"], "data": [list(row.values()) for row in ROWS]})),
        ("table.json", json.dumps({"schema": {"fields": [1]}, "data": ROWS})),
        ("key.json", json.dumps({"version": "1.1", "rows": ROWS}, indent=1)),
        (
            "viewer.json",
            json.dumps({"features": [{"name": "text"}], "rows": [{"row_idx": 0, "row": r} for r in ROWS]}),
        ),
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
        ("a.csv", "", r"a\.csv: the file has no rows, it is empty"),
        ("a.csv", "text,label\n", r"a\.csv: the file has no rows, only a header \(text, label\)"),
        ("a.csv", "text;label\n", r"a\.csv: the file has no rows, only a header \(text;label\)"),
        (
            "a.csv",
            "text;label\nx;joy\ni am sad; really;joy\n",
            r"a\.csv:3: 3 fields, but the header has 2 \(text, label\)[\s\S]*were read as separated by semicolons",
        ),
        ("a.csv", "a;b|c\nx;y|z\n", r"a\.csv: separated by semicolons or bars: .*\nSay which in a first line"),
        ("a.csv", "text,label\nx,joy\ntext,label\ny,joy\n", r"a\.csv:3: the header stands here again"),
        ("a.jsonl", '{"a": 1}\n{"a": 1, "b": 2, "a": 3}\n', r"a\.jsonl:2: the key 'a' stands twice in one object"),
        ("a.jsonl", '{"a": 1, "a": 3}\n{"a": 1}\n', r"a\.jsonl:1: the key 'a' stands twice in one object"),
        ("a.json", '[{"a": 1},\n {"b": {"c": 1, "c": 1}}]', r"a\.json: the key 'c' stands twice in one object"),
        ("a.json", '{\n"a": [1],\n"b": [2],\n"a": [1]}', r"a\.json: the key 'a' stands twice in one object"),
        ("a.jsonl", '{"a": 1}\r{"a": ]\r', r"a\.jsonl:2: not valid JSON"),
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
            r"a\.csv:2: not valid CSV \(the quote that opens here is never closed; the file ends in line 3\)\.",
        ),
        (
            "a.csv",
            'sep=,\ntext,label\n"one\ntwo",joy\nx,"sad\ny,joy\n"well, fine",joy\n',
            r"a\.csv:5: not valid CSV \(the quote that opens here is closed only in line 7, in front of more text",
        ),
        ("a.csv", 'text,label\nx,"jo"y\n', r"a\.csv:2: not valid CSV \(',' expected after '\"'\)"),
        (
            "a.csv",
            'text,label\n"x,\ny",joy,z\n',
            r"a\.csv:2: 3 fields, .*\nThe record spans lines 2 to 3: is a closing",
        ),
        ("a.csv", "text,,\nx,y,z\n", r"a\.csv:1: 2 columns with values have no name in the header \(text\)"),
        ("a.csv", b"text,label\nx,\x81\n", r"a\.csv:2: not UTF-8 \(byte 0x81\)\.\nSave it as UTF-8, or name its"),
        (
            "a.csv",
            b"text\ncaf\xc3\xa9\ncaf\xe9 x\n",
            r"a\.csv:3: not UTF-8 [\s\S]*other bytes of the file are UTF-8",
        ),
        ("a.csv", b"text\n\xef\xf0\xe8\xe2\xe5\xf2\n", r"a\.csv:2: not UTF-8 .*\n.*--set data\.encoding=NAME"),
        ("a.csv", b"text\nx \xed\xa0\xbd\n", r"a\.csv:2: not UTF-8 .*\n.*half of an emoji"),
        (
            "a.csv",
            "text,label\nx,y\n".encode("utf-16-le"),
            r"looks like UTF-16-LE .*\n.*--set data\.encoding=utf-16-le",
        ),
        ("a.jsonl", "[1, 2]\n[3]\n", r"a\.jsonl:1: expected one JSON object a line, got list"),
        ("a.json", '{"a": [1, 2], "b": [1]}', r"a\.json: columns of unequal length \(a 2, b 1\)"),
        ("a.json", '{"train": [{"a": 1}], "test": [{"a": 1}]}', r"a\.json: rows under 2 keys \(train, test\)"),
        (
            "a.json",
            '{"a": {"x": 1}, "b": {"x": 2}}',
            r"a\.json: an object of objects \(a, b\), where neither level",
        ),
        (
            "a.json",
            '{"columns": ["a"], "data": [[1, 2]]}',
            r"a\.json: item 1 of 'data' has 2 values for 1 columns",
        ),
        ("a.json", '[{"a": 1},\n {"a": 2},,\n]', r"a\.json:2: not valid JSON .*column 11"),
        ("a.json", '{"a":' * 10_000, r"a\.json:1: not read as JSON \(nested too deep\)"),
        (
            "a.jsonl",
            '{"a": 1}\n{"a": ' + "1" * 5000 + "}",
            r"a\.jsonl:2: not read as JSON \(a number with thousands",
        ),
        ("a.json", '[{"paragraphs": [{"qas": [{}]}]}]', r"a\.json: article 1 has a paragraph without 'context'"),
        (
            "a.csv",
            b"text,label\nx,y\ncaf\xe9,joy\n",
            r"a\.csv:3: not UTF-8 \(byte 0xe9\)\.\nSave it as",
        ),
        ("a.parquet", b"PAR1 not really", r"a\.parquet: not a readable Parquet file"),
        (
            "a.xlsx",
            b"",
            r"a\.xlsx: files of kind '\.xlsx' are not read\.\nUse one of \.jsonl, \.json, \.csv, \.tsv, \.parquet"
            r".*\nSave the sheet as",
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
    with pytest.raises(DataError, match=r"rows\.csv: no such file: it is a folder"):
        read_rows(tmp_path / "rows.csv")


def test_a_column_may_hold_what_else_separates_fields(tmp_path: Path) -> None:
    """A header is what says so; a name with a semicolon over rows without one is a name."""
    assert read_rows(write(tmp_path, "a.csv", "text\na; b\nc|d\n")) == [{"text": "a; b"}, {"text": "c|d"}]
    assert read_rows(write(tmp_path, "b.csv", "text;label\nx\n")) == [{"text;label": "x"}]
    assert read_rows(write(tmp_path, "c.csv", '"text;label"\n"a;b"\n')) == [{"text;label": "a;b"}]


def test_nested_columns_of_arrow_are_read_as_they_are(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    answers = {"text": ["Oslo"], "answer_start": [14]}
    rows = [{"context": "Ada met Bo in Oslo.", "answers": answers, "tags": ["a"], "label": 1}]
    table = pyarrow.Table.from_pylist(rows)
    place = table.column_names.index("context")
    table = table.set_column(place, "context", table["context"].dictionary_encode())
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert read_rows(tmp_path / "a.parquet") == rows


def test_a_windows_file_is_named_and_read_when_declared(tmp_path: Path) -> None:
    """The apostrophe of Windows-1252 is a control character in Latin-1, which nobody would see."""
    path = write(tmp_path, "w.csv", "text,label\nit\u2019s day,joy\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"w\.csv:2: not UTF-8 \(byte 0x92\)") as failure:
        read_rows(path)
    assert "'\u2019' (RIGHT SINGLE QUOTATION MARK)" in str(failure.value)
    assert "--set data.encoding=cp1252" in str(failure.value)
    assert "iconv -f WINDOWS-1252 -t UTF-8 w.csv > utf8.csv" in str(failure.value)
    assert read_rows(path, "cp1252") == [{"text": "it\u2019s day", "label": "joy"}]


def test_a_wrong_declaration_says_where(tmp_path: Path) -> None:
    path = write(tmp_path, "w.csv", "text,label\nx,y\ncaf\u00e9,joy\n".encode())
    with pytest.raises(
        DataError, match=r"w\.csv:3: not ascii \(bytes c3 a9 2c 6a: .*\nSave the file as UTF-8, or set"
    ):
        read_rows(path, "ascii")


def test_utf16_without_a_mark_is_read_when_declared(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path, "u.csv", CSV.encode("utf-16-be")), "utf-16-be") == ROWS


def test_a_cell_may_have_any_length_and_the_limit_of_others_stays(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    text = "Ann: hi\n" * 30_000
    assert read_rows(write(tmp_path, "a.csv", f'text,label\n"{text}",joy\n')) == [{"text": text, "label": "joy"}]
    assert csv.field_size_limit() == limit


def test_squads_own_file_gives_one_row_for_each_question(tmp_path: Path) -> None:
    answers = [{"text": "Oslo", "answer_start": 10}]
    paragraph = {"context": "Ada met in Oslo.", "qas": [{"id": "a", "question": "Where?", "answers": answers}] * 2}
    path = write(
        tmp_path, "s.json", json.dumps({"version": "1.1", "data": [{"title": "T", "paragraphs": [paragraph]}]})
    )
    row = {"title": "T", "context": "Ada met in Oslo.", "id": "a", "question": "Where?", "answers": answers}
    assert read_rows(path) == [row, row]


def test_one_object_is_one_row(tmp_path: Path) -> None:
    for row in ({"text": "x", "label": 1}, {"context": "x", "question": "y", "answers": [{"text": "x"}]}):
        for indent in (None, 1):
            assert read_rows(write(tmp_path, "a.json", json.dumps(row, indent=indent))) == [row]


def test_a_parquet_file_with_one_name_twice_is_refused(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table([["x"], ["y"]], names=["a", "a"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: not a readable Parquet file"):
        read_rows(tmp_path / "a.parquet")


SCRAPS = [
    "text,label\n",
    '"',
    ",",
    ";",
    "\n",
    "\r",
    "[",
    "]",
    "{",
    "}",
    ":",
    '"a"',
    "1",
    "sep=,\n",
    " ",
    "\x00",
    "é",
    "null",
]


@given(
    st.binary(max_size=80)
    | st.lists(st.sampled_from(SCRAPS), max_size=20).map(lambda parts: "".join(parts).encode()),
    st.sampled_from([".csv", ".tsv", ".json", ".jsonl"]),
)
@settings(
    max_examples=int(os.environ.get("FLAN_LORA_FUZZ_EXAMPLES", "400")),
    deadline=None,
    derandomize="FLAN_LORA_FUZZ_EXAMPLES" not in os.environ,
)
@example(b"\xff\xfe", ".csv")
@example(b"\xff\xfe\x00", ".json")
@example(b'{"a": {}, "b": {}}', ".json")
@example(b'{"columns": ["a", "a"], "data": [[1, 2]]}', ".json")
def test_any_bytes_are_rows_or_an_error_that_names_the_file(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), f"fuzz{suffix}", content)
        try:
            rows = read_rows(path)
        except DataError as error:
            assert str(path) in str(error)
            return
        assert rows and all(isinstance(row, dict) for row in rows)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["0", "1", "a", "data", "columns", "paragraphs", "qas", "context", "row", "rows", "features"]
                ),
                x,
                max_size=3,
            )
        ),
        max_leaves=12,
    )
)
@settings(
    max_examples=int(os.environ.get("FLAN_LORA_FUZZ_EXAMPLES", "400")),
    deadline=None,
    derandomize="FLAN_LORA_FUZZ_EXAMPLES" not in os.environ,
)
def test_any_json_is_rows_or_an_error_that_names_the_file(value: object) -> None:
    try:
        rows = parse_json(Path("fuzz.json"), json.dumps(value))
    except DataError as error:
        assert "fuzz.json" in str(error)
        return
    assert all(isinstance(row, dict) for row in rows)
