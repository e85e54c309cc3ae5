"""Public text and train splits under a local data root, as documents for pre-training.

This module knows files and column names; it never sees a token or a tensor. It reads `train` splits,
the instruction files and plain text only: validation and test rows must not reach the weights.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flan_lora.errors import FlanLoraError

Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """One set of the build's data: where it lies under the data root, and under which licence."""

    name: str
    path: str
    """File (or folder of ``*.jsonl``) relative to the data root."""
    licence: str
    text_columns: tuple[str, ...] = ()
    """Columns that join the span-corruption text; empty for plain text files."""
    repeats: int = 1
    """How often one pass over the text holds this source; the short sets near our tasks weigh more."""
    leave_out: tuple[str, ...] = ()
    """Files of a folder that are not read, by stem."""


SOURCES: tuple[Source, ...] = (
    Source("wikinews", "text/wikinews.txt.xz", "CC BY 2.5"),
    Source("novels", "text/novels.txt.xz", "public domain texts"),
    Source("dair-ai/emotion", "dair-ai__emotion/split/train.jsonl", "education and research", ("text",), 2),
    Source(
        "rajpurkar/squad",
        "rajpurkar__squad/plain_text/train.jsonl",
        "CC BY-SA 4.0",
        ("context", "question"),
        2,
    ),
    Source(
        "google-research-datasets/paws",
        "google-research-datasets__paws/labeled_final/train.jsonl",
        "free for any purpose",
        ("sentence1", "sentence2"),
        2,
    ),
    Source(
        "knkarthick/samsum",
        "knkarthick__samsum/default/train.jsonl",
        "CC BY-NC-ND 4.0",
        ("dialogue", "summary"),
        2,
    ),
    Source(
        "google-research-datasets/tydiqa",
        "google-research-datasets__tydiqa/secondary_task_en/train.jsonl",
        "Apache-2.0",
        ("context", "question"),
        2,
    ),
    Source(
        "cornell-movie-review-data/rotten_tomatoes",
        "cornell-movie-review-data__rotten_tomatoes/default/train.jsonl",
        "CC BY 4.0",
        ("text",),
        2,
    ),
    # QNLI's validation set is made of SQuAD's development questions: our own validation and test rows.
    Source("instruct", "instruct", "each set its own", ("input",), leave_out=("glue-qnli",)),
)


def check_root(root: Path) -> None:
    """Refuse a data root that lacks a source, naming every missing path at once."""
    missing = [source.path for source in SOURCES if not (root / source.path).exists()]
    if missing:
        raise FlanLoraError(
            f"{root} does not hold the data of the mini build.\n"
            f"  missing   {', '.join(missing)}\n"
            f"  expected  {', '.join(source.path for source in SOURCES)}\n"
            "Point --data at a folder of <owner>__<name>/<config>/<split>.jsonl files with the Hub's columns."
        )


def source(name: str) -> Source:
    """The source with this name; a wrong name is our bug, hence a plain KeyError."""
    return {entry.name: entry for entry in SOURCES}[name]


def read_rows(root: Path, entry: Source) -> Iterator[Row]:
    """Rows of a JSON-lines source, files in name order."""
    path = root / entry.path
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    for file in (f for f in files if f.stem not in entry.leave_out):
        with file.open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines)


def _plain_documents(path: Path, lines_per_document: int = 40) -> Iterator[str]:
    """Documents of an ``.xz`` text: split at blank lines, and long runs every few lines (paragraphs)."""
    lines: list[str] = []
    with lzma.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            text = line.strip("\ufeff \n\t")
            if text:
                lines.append(text)
            if lines and (not text or len(lines) >= lines_per_document):
                yield " ".join(lines)
                lines = []
    if lines:
        yield " ".join(lines)


def _row_documents(root: Path, entry: Source) -> Iterator[str]:
    """One document per row: its text columns; a column value repeated from the last row is left out."""
    previous: Row = {}
    for row in read_rows(root, entry):
        parts = [row[c] for c in entry.text_columns if row[c] and row[c] != previous.get(c)]
        previous = row
        if parts:
            yield " ".join(str(part).replace(" [SEP] ", " ") for part in parts)


def documents(root: Path, entry: Source) -> Iterator[str]:
    """The text documents of one source, in file order, without repeats."""
    if entry.text_columns:
        yield from _row_documents(root, entry)
    else:
        yield from _plain_documents(root / entry.path)
