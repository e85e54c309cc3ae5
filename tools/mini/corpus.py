"""Public text and train splits under a local data root, as documents for pre-training.

This module knows files and column names; it never sees a token or a tensor. It reads `train` splits,
the instruction files and plain text only: validation and test rows must not reach the weights.
"""

from __future__ import annotations

import json
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flan_lora.errors import FlanLoraError
from flan_lora.tasks.qa import is_hindi
from flan_lora.tasks.romanise import romanise
from flan_lora.tasks.summarization import TURN_SEPARATOR, turns
from flan_lora.tasks.text import plain

Row = dict[str, Any]


Terms = Literal["open", "research", "closed"]
TERMS: dict[Terms, str] = {
    "open": "a licence that lets everybody make and share what comes of it, with the source named: read",
    "research": "for research, education or non-commercial use, or terms that we could not find: read by a base "
    "for trying and teaching, which says so; left out of one that is sold",
    "closed": "the text is somebody's who gave no licence, or holds private letters: not read. The tokenizer was "
    "cut on it, and the trunk's first 65 million tokens (to step 8,000) still held 7.6 % of it",
}
"""What the licences in the data's own READMEs come to, and what we do with it."""


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
    withheld: tuple[str, ...] = ()
    """Columns of which half of the rows are not read either, drawn by the first text column (`is_read`): what an
    adapter learns to write."""
    terms: Terms = "open"
    """Whether a base that ships may have read it (`TERMS`)."""


SOURCES: tuple[Source, ...] = (
    Source("wikinews", "text/wikinews.txt.xz", "CC BY 2.5"),
    Source("novels", "text/novels.txt.xz", "public domain texts"),
    Source("wikipedia", "more/text/wikipedia_en_2020.txt.xz", "CC BY-SA 3.0"),
    Source("textbooks", "more/text/openstax_textbooks.txt.xz", "CC BY 4.0, some CC BY-NC-SA", terms="research"),
    Source("web", "more/text/us_gov_web_articles.txt.xz", "public domain, CC0"),
    Source("onestop", "more/text/onestop_english.txt.xz", "CC BY-SA 4.0"),
    Source("abc", "more/text/abc_news_2006.txt.xz", "research use", terms="closed"),
    Source("hindi", "more/text/hindi_mixed.txt.xz", "CC BY 4.0, MIT, CC BY-SA 3.0", repeats=3, terms="research"),
    Source(
        "dair-ai/emotion",
        "dair-ai__emotion/split/train.jsonl",
        "education and research",
        ("text",),
        2,
        terms="research",
    ),
    Source(
        "rajpurkar/squad",
        "rajpurkar__squad/plain_text/train.jsonl",
        "CC BY-SA 4.0",
        ("context", "question"),
        2,
        withheld=("question",),
    ),
    Source(
        "google-research-datasets/paws",
        "google-research-datasets__paws/labeled_final/train.jsonl",
        "free for any purpose",
        ("sentence1", "sentence2"),
        2,
        withheld=("sentence2",),
    ),
    Source(
        "knkarthick/samsum",
        "knkarthick__samsum/default/train.jsonl",
        "CC BY-NC-ND 4.0",
        ("dialogue", "summary"),
        2,
        withheld=("summary",),
        terms="research",
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
    Source("instruct", "instruct", "each set its own", ("input",), leave_out=("glue-qnli",), terms="research"),
    Source("goemotions", "more/goemotions.jsonl.xz", "CC BY 4.0", ("text",)),
    Source("meld", "more/meld_emorynlp_emotions.jsonl.xz", "GPL-3.0, Apache-2.0", ("text",), terms="closed"),
    Source("isear", "more/isear_emotions.jsonl.xz", "research use", ("text",), terms="research"),
    Source("friends", "more/friends_dialogues.jsonl.xz", "GPL-3.0, Apache-2.0", ("dialogue",), 2, terms="closed"),
    Source("sgd", "more/sgd_dialogues.jsonl.xz", "CC BY-SA 4.0", ("dialogue",)),
    Source("taskmaster", "more/taskmaster_dialogues.jsonl.xz", "CC BY 4.0", ("dialogue",)),
    Source(
        "sts", "more/sts_semeval_2012_2016.jsonl.xz", "research use", ("sentence1", "sentence2"), terms="research"
    ),
    Source("sick", "more/sick_nli.jsonl.xz", "CC BY-NC-SA 3.0", ("sentence1", "sentence2"), terms="research"),
    Source("mnli", "more/mnli_validation_matched.jsonl.xz", "OANC, CC BY", ("sentence1", "sentence2")),
    Source("hindi-nli", "more/hindi_nli.jsonl.xz", "MIT", ("sentence1",)),
    Source("squadshifts", "more/squadshifts_qa.jsonl.xz", "CC BY 4.0", ("context", "question"), 2),
    Source("aeslc", "more/aeslc_email_subject.jsonl.xz", "CC BY-NC-SA 4.0", ("text", "subject"), terms="closed"),
    Source("qmsum", "more/qmsum_meeting_summaries.jsonl.xz", "MIT", ("query", "summary", "dialogue"), 2),
)
READ_SOURCES: tuple[Source, ...] = tuple(entry for entry in SOURCES if entry.terms != "closed")
"""What the trunk reads; the others are measured on (`HELD_OUT`)."""
HELD_OUT_SHARE = 100
"""One document in so many is read by no stage, and is what the loss on its kind is measured on."""
HELD_OUT: dict[str, tuple[str, ...]] = {
    "news": ("wikinews", "abc", "onestop"),
    "novels": ("novels",),
    "wiki": ("wikipedia",),
    "textbooks": ("textbooks",),
    "web": ("web",),
    "dialogue": ("friends", "sgd", "taskmaster"),
    "posts": ("dair-ai/emotion", "goemotions", "isear"),
    "reviews": ("cornell-movie-review-data/rotten_tomatoes",),
    "email": ("aeslc",),
    "hindi": ("hindi",),
}
"""Kind of text -> the sources whose held-out documents it is measured on."""
UNREAD: dict[str, Source] = {
    "unread news": Source("bbc", "more/text/bbc_news_2004.txt.xz", "research use", terms="research"),
    "unread chats": Source(
        "samsum validation",
        "knkarthick__samsum/default/validation.jsonl",
        "CC BY-NC-ND 4.0",
        ("dialogue",),
        terms="research",
    ),
    "unread hindi": Source(
        "mlqa validation", "facebook__mlqa/mlqa.hi.en/validation.jsonl", "CC BY-SA 3.0", ("context",)
    ),
}
"""Kind of text -> a set that no stage reads."""


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
        with (
            lzma.open(file, "rt", encoding="utf-8")
            if file.suffix == ".xz"
            else file.open(encoding="utf-8") as lines
        ):
            yield from (json.loads(line) for line in lines)


def is_read(text: str) -> bool:
    """Whether the base reads what belongs to a text: half of the rows that our adapters learn from are held back.

    The same answer in every pass and every run.
    """
    return zlib.crc32(plain(text).encode()) % 2 == 0


def is_held_out(document: str) -> bool:
    """Whether a document is kept for measuring: one in `HELD_OUT_SHARE`, drawn by how it begins."""
    return zlib.crc32(document[:200].encode()) % HELD_OUT_SHARE == 0


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
        first = str(row[entry.text_columns[0]])
        columns = [c for c in entry.text_columns if c not in entry.withheld or is_read(first)]
        parts = [_text(c, row[c]) for c in columns if row[c] and row[c] != previous.get(c)]
        previous = row
        if parts:
            yield " ".join(parts)


def _text(column: str, value: object) -> str:
    """A column's text as the tasks spell it: a dialogue's turns on one line."""
    text = str(value).replace(" [SEP] ", " ")
    return TURN_SEPARATOR.join(turns(text)) if column == "dialogue" else text


def documents(root: Path, entry: Source, *, held_out: bool | None = False) -> Iterator[str]:
    """The text documents of one source as the model reads them, in file order, without repeats.

    Hindi is romanised as the `qa` task does it. `held_out`: instead those that no stage reads; None: both.
    """
    found = _row_documents(root, entry) if entry.text_columns else _plain_documents(root / entry.path)
    for document in found:
        if held_out is None or is_held_out(document) is held_out:
            text = plain(romanise(document) if is_hindi(document) else document)
            if text:
                yield text
