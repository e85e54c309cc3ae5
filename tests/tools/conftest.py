"""A data root of made-up text in the Hub's shape, for the builder of the embedded base."""

from __future__ import annotations

import json
import lzma
import random
from pathlib import Path

import pytest


def _sentences(rng: random.Random, count: int) -> list[str]:
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(300)]
    return [" ".join(rng.choices(words, k=rng.randint(5, 12))) + "." for _ in range(count)]


def _write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(lzma.compress(text.encode()) if path.suffix == ".xz" else text.encode())


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    """A data root in the Hub's shape with every source the build needs, all of it made up here."""
    from tools.mini import corpus, probes

    root, rng = tmp_path_factory.mktemp("data"), random.Random(0)
    for entry in (*corpus.SOURCES, *corpus.UNREAD.values()):
        lines = _sentences(rng, 60)
        path = root / entry.path
        if not entry.text_columns:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(lzma.compress("\n\n".join(_sentences(rng, 300)).encode()))
        elif entry.name == "instruct":
            rows = [{"task": "trec", "input": s, "output": "LOC", "options": ["LOC", "NUM"]} for s in lines]
            _write_rows(path / "trec.jsonl", rows)
        else:
            rows = [_row(entry.text_columns, line, index) for index, line in enumerate(lines)]
            _write_rows(path, [row | _OWN_COLUMNS.get(entry.name, {}) for row in rows])
    columns = ("text", "dialogue", "summary", "context", "question", "sentence1", "sentence2")
    for path in {root / path for _, path in probes.TASK_FILES.values()}:
        _write_rows(path, [_row(columns, line, index) for index, line in enumerate(_sentences(rng, 12))])
    return root


_OWN_COLUMNS: dict[str, dict[str, object]] = {
    "goemotions": {"labels": ["joy"]},
    "isear": {"label": "shame"},
    "sts": {"label": 4.5},
    "sick": {"label": "neutral", "relatedness": 1.2},
    "mnli": {"label": "contradiction"},
    "hindi-nli": {"label": "entailment", "sentence2": "kalaa"},
    "sgd": {"services": ["Music_1"]},
    "taskmaster": {"domain": "Coffee"},
}
"""What the rows of some sets have beside text; ``label`` is 0 or 1 in the others."""


def _row(columns: tuple[str, ...], line: str, index: int) -> dict[str, object]:
    answer = line.split()[1]
    return {
        "label": index % 2,
        "answer": answer,
        "answers": {"text": [answer], "answer_start": [line.index(answer)]},
    } | {column: f"A: {line}\nB: {answer}" if column == "dialogue" else line for column in columns}
