"""A user's file under column names of their own: examples, or one error that names the file or the option."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flan_lora.cli.serving import columns_of
from flan_lora.data.lint import lint
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import load_whole_file
from flan_lora.recipe_file import find_recipe, load_recipe
from tests.fuzz.strategies import ODD_TEXTS, answer_or_error, fuzz, values
from tests.tiny import tiny_tokenizer

TOKENIZER: Any = tiny_tokenizer()
NAMES = (
    "text",
    "label",
    "Text ",
    "LABEL",
    "body",
    "feeling",
    "id",
    "",
    " ",
    "data",
    "rows",
    "sep=;",
    "text;label",
)
CELLS = st.one_of(
    st.sampled_from(
        ("joy", "Joy ", "3", "3.0", "i feel glad", "", "&amp;", "a;b", "a,b", "a\tb", 'say "x"', "l1\nl2")
    ),
    st.sampled_from(ODD_TEXTS),
    st.text(max_size=6),
)
ENCODINGS = st.sampled_from(
    ["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "utf-32"]
)
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAN_LORA_CACHE", "off")


def check(path: Path, overrides: tuple[str, ...] = ()) -> None:
    def read() -> None:
        recipe = load_recipe(find_recipe("emotion"), overrides)
        source = DataSource("file", path)
        str(lint(recipe, source, TOKENIZER)).encode()
        load_whole_file(recipe, source)

    answer_or_error(read, path.name, "--set", "data.columns")


@fuzz
@given(
    header=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
    rows=st.lists(st.lists(CELLS, max_size=4), max_size=5),
    delimiter=st.sampled_from(",;\t|"),
    line_end=st.sampled_from(["\n", "\r\n", "\r", "\n\r", "\u2028"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=ENCODINGS,
    suffix=st.sampled_from([".csv", ".tsv", ".csv.gz", ".txt", ".json"]),
)
def test_tables_of_any_spreadsheet(
    tmp_path: Path, header: list[str], rows: list[list[str]], delimiter: str, line_end: str, quoting: Any,
    encoding: str, suffix: str,
) -> None:  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=quoting, escapechar="\\")
    writer.writerows([header, *rows])
    content = text.getvalue().encode(encoding, "replace")
    path = tmp_path / f"{next(_numbers)}{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    check(path)


LINES = st.one_of(
    st.dictionaries(st.sampled_from(NAMES), st.one_of(CELLS, values()), max_size=4).map(json.dumps),
    st.sampled_from(
        ['{"text": "a", "text": "b", "label": "joy"}', '{"text": NaN}', '{"label": -Infinity}', "[", "{}", ""]
    ),
)


@fuzz
@given(
    lines=st.lists(LINES, max_size=6),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=ENCODINGS,
    suffix=st.sampled_from([".jsonl", ".json", ".jsonl.gz", ".csv", ".parquet", ".xlsx"]),
)
def test_lines_of_any_program(tmp_path: Path, lines: list[str], line_end: str, encoding: str, suffix: str) -> None:
    content = line_end.join(lines).encode(encoding, "replace")
    path = tmp_path / f"{next(_numbers)}{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    check(path)


@fuzz
@given(
    content=st.binary(max_size=60),
    magic=st.sampled_from(
        [b"\x1f\x8b\x08", b"PK\x03\x04", b"PAR1", b"ARROW1", b"%PDF", b"\xd0\xcf\x11\xe0", b"<html>", b"BZh9"]
    ),
    suffix=st.sampled_from([".csv", ".jsonl", ".json.gz", ".parquet", ".tsv"]),
)
def test_files_of_another_kind(tmp_path: Path, content: bytes, magic: bytes, suffix: str) -> None:
    path = tmp_path / f"{next(_numbers)}{suffix}"
    path.write_bytes(magic + content)
    check(path)


@fuzz
@given(
    column=st.sampled_from(["text", "label", "x", "", "text.y", "data"]),
    name=st.one_of(st.sampled_from((*NAMES, *ODD_TEXTS)), st.text(max_size=8)),
    row=st.dictionaries(st.sampled_from(NAMES), CELLS, min_size=1, max_size=4),
)
def test_columns_of_any_name(tmp_path: Path, column: str, name: str, row: dict[str, str]) -> None:
    path = tmp_path / f"{next(_numbers)}.jsonl"
    path.write_text(json.dumps(row) + "\n")
    check(path, (f"data.columns.{column}={name}",))
    try:
        columns_of((f"data.columns.{column}={name}",))
    except Exception as error:
        assert type(error).__name__ == "UsageError" and "--set" in str(error)
    assert os.listdir(tmp_path)
