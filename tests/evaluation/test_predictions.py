"""Saved answers: what is written comes back, a crash harms nothing, and a bad file is told by its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flan_lora.errors import DataError
from flan_lora.evaluation.predictions import Prediction, read_predictions, write_predictions

ROWS = (
    Prediction("key-0", "a source", "joy", ("नमस्ते", "two\nlines"), " joy"),
    Prediction(
        "key-1", "line\u2028separator \x85 next", "fear", ("fear",), "fear", 2, 0.25, {"joy": 0.4, "fear": 0.6}
    ),
)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "predictions.jsonl"
    write_predictions(path, ROWS)
    assert read_predictions(path) == ROWS
    text = path.read_text(encoding="utf-8")
    assert "नमस्ते" in text
    first = json.loads(text.split("\n")[0])
    assert first.keys() == {"key", "source", "prediction", "references", "raw"}, (
        "what was not measured is left out"
    )
    assert [file.name for file in path.parent.iterdir()] == ["predictions.jsonl"]


def test_predictions_of_another_program_need_no_more_than_key_source_answer_and_references(tmp_path: Path) -> None:
    path = tmp_path / "theirs.jsonl"
    path.write_text('{"key": "1", "source": "s", "prediction": "joy", "references": ["joy"], "model": "x"}\n\n')
    assert read_predictions(path) == (Prediction("1", "s", "joy", ("joy",), "joy"),)


GOOD = '{"key": "1", "source": "s", "prediction": "p", "references": ["r"], "raw": "p"}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "has no predictions"),
        (GOOD + "{not json\n", "line 2: not JSON"),
        ("[1]\n", "line 1: a list, not an object"),
        ('{"key": "1"}\n', "line 1: no prediction, references, source"),
        (GOOD.replace('["r"]', "[]"), "line 1: references is []"),
        (GOOD.replace('["r"]', "[1]"), "line 1: references is [1]"),
        (GOOD.replace('"1"', "1"), "line 1: key is 1"),
        (GOOD + GOOD, "keys stand more than once (first: '1')"),
    ],
)
def test_a_bad_file_is_an_error_that_says_where(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_predictions(path)
    assert expected in str(caught.value) and "p.jsonl" in str(caught.value)


def test_a_missing_file_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Give a file that --predictions wrote"):
        read_predictions(tmp_path / "none.jsonl")


@pytest.mark.parametrize("crash_in", ["json.dumps", "os.replace"])
def test_a_crash_while_saving_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_in: str
) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text("old", encoding="utf-8")
    monkeypatch.setattr(crash_in, crash)
    with pytest.raises(KeyboardInterrupt):
        write_predictions(path, ROWS)
    assert path.read_text(encoding="utf-8") == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.jsonl"]


def crash(*arguments: Any, **options: Any) -> None:
    raise KeyboardInterrupt
