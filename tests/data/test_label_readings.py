"""One file writes its labels in one way, and the lint says which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flan_lora.data.label_readings import describe_readings, label_readings
from flan_lora.data.lint import lint
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import load_split
from flan_lora.errors import DataError
from flan_lora.recipe import Recipe, parse_recipe
from flan_lora.tasks import TASKS
from tests.tiny import tiny_tokenizer

TASK = TASKS["emotion"]


def recipe() -> Recipe:
    data = {"dataset": "x", "max_source_tokens": 200}
    return parse_recipe({"name": "x", "task": "emotion", "data": data}, where="test")


def file_of(folder: Path, labels: list[Any]) -> DataSource:
    path = folder / "mine.jsonl"
    rows = [{"text": f"day {number}", "label": label} for number, label in enumerate(labels)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataSource("file", path)


@pytest.mark.parametrize(("labels", "reading"), [([0, "1", 2.0], "index"), (["joy", "Fear"], "name")])
def test_one_way_of_writing_is_named(labels: list[Any], reading: str) -> None:
    readings = label_readings([{"label": label} for label in labels], TASK, "rows")
    assert readings == {"label": reading}


def test_names_and_numbers_in_one_file_are_refused_with_rows(tmp_path: Path) -> None:
    """Also where the mix falls between the roles: a row of test must not be read in another way than train's."""
    source = file_of(tmp_path, ["joy"] * 50 + [0] + ["fear"] * 50)
    for role in ("train", "validation", "test"):
        with pytest.raises(
            DataError, match=r"by number +1 rows, e\.g\. row 51\nWrite all of them by name: sadness"
        ):
            load_split(recipe(), role, source)  # type: ignore[arg-type]


def test_the_lint_says_which_reading_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAN_LORA_CACHE", "off")
    report = lint(recipe(), file_of(tmp_path, [number % 6 for number in range(600)]), tiny_tokenizer())  # type: ignore[arg-type]
    assert report.notes == (
        "column 'label' is read by number: 0 = sadness, 1 = joy, 2 = love, 3 = anger, 4 = fear, 5 = surprise",
    )
    assert report.notes[0] in str(report)
    named = lint(recipe(), file_of(tmp_path, [TASK.labels[n % 6] for n in range(600)]), tiny_tokenizer())  # type: ignore[arg-type]
    assert named.notes == ("column 'label' is read by name",)


def test_booleans_are_no_emotions(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1: task emotion, row .*: column 'label': got True"):
        load_split(recipe(), "train", file_of(tmp_path, [True, False] * 20))


def test_values_that_are_no_label_are_left_to_the_task() -> None:
    assert label_readings([{"label": "glad"}, {}], TASK, "rows") == {}
    assert describe_readings({}, TASK) == []
