"""Any rows, for each task: prompts that the tokenizer takes, or one error that names the file and the row.

FLAN_LORA_FUZZ_EXAMPLES runs as many examples of each test; the default takes seconds.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flan_lora.base.encode import encode_sources
from flan_lora.data.encoding import encode_split
from flan_lora.data.inspect import inspect
from flan_lora.data.lint import lint
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import load_split, load_whole_file
from flan_lora.errors import DataError
from flan_lora.recipe import Recipe, parse_recipe
from flan_lora.tasks import TASKS, Task
from tests.tiny import tiny_tokenizer

NUM_EXAMPLES = int(os.environ.get("FLAN_LORA_FUZZ_EXAMPLES", "25"))
TOKENIZER: Any = tiny_tokenizer()
HALF = "see you \ud83d"
"""A text that ends in half of an emoji, as a cut after so many UTF-16 units leaves it."""

GOOD: dict[str, Any] = {
    "text": "i feel glad",
    "sentence1": "Rio beat Lima .",
    "sentence2": "Lima lost to Rio .",
    "context": "Ada met Bo in Oslo.",
    "question": "Where?",
    "answers": {"text": ["Oslo"], "answer_start": [14]},
    "dialogue": "Ann: hi\nBob: yo",
    "summary": "Ann greets Bob.",
}
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
SCRAPS = st.lists(
    st.sampled_from([*"{}[]'\",:#*<>- \n", "Ann", "#Person1#", "text", "1", "array(", "Oslo"]), max_size=8
)
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | SCRAPS.map("".join),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "answer_start"]) | ANY_TEXT, inner, max_size=2)
    ),
    max_leaves=5,
)

each_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def recipe_of(task: Task) -> Recipe:
    data = {"dataset": "x", "max_source_tokens": 400, "max_target_tokens": 100}
    return parse_recipe({"name": "x", "task": task.name, "data": data}, where="test")


def good_row(task: Task, number: int) -> dict[str, Any]:
    """A row of its own that the task takes."""
    row = {column: GOOD.get(column, 1) for column in task.columns}
    first = task.columns[0]
    return row | {first: f"{row[first]} {number}"}


def written(folder: str, rows: list[dict[str, Any]]) -> DataSource:
    path = Path(folder) / "fuzz.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return DataSource("file", path)


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAN_LORA_CACHE", "off")


@each_task
@given(row=st.dictionaries(st.sampled_from(["id", "label", "extra", *GOOD]) | ANY_TEXT, ANY_VALUE, max_size=8))
@settings(max_examples=NUM_EXAMPLES, deadline=None, derandomize="FLAN_LORA_FUZZ_EXAMPLES" not in os.environ)
def test_any_row_is_examples_or_an_error(task: Task, row: dict[str, Any]) -> None:
    try:
        items = task.examples({column: GOOD.get(column, 1) for column in task.columns} | row)
    except DataError as error:
        assert "column" in str(error)
        return
    encode_sources(TOKENIZER, [item.prompt for item in items], 10_000)
    for item in items:
        str(item.key).encode()
        assert isinstance(task.answer(item.target, item.inputs), str)


@each_task
@given(changes=st.lists(st.dictionaries(st.integers(0, 3), ANY_VALUE, min_size=1, max_size=2), max_size=2))
@settings(
    max_examples=NUM_EXAMPLES,
    deadline=None,
    derandomize="FLAN_LORA_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(changes=[{0: HALF}])
@example(changes=[{1: HALF}, {2: HALF}])
def test_any_file_is_encoded_or_one_error_names_it(task: Task, changes: list[dict[int, Any]]) -> None:
    rows = [good_row(task, number) for number in range(30)]
    for number, change in enumerate(changes):
        rows[7 * number + 3] |= {task.columns[place % len(task.columns)]: value for place, value in change.items()}
    with tempfile.TemporaryDirectory() as folder:
        source = written(folder, rows)
        try:
            split = load_whole_file(recipe_of(task), source)
            str(lint(recipe_of(task), source, TOKENIZER)).encode()
            str(inspect(recipe_of(task), source, TOKENIZER, num_examples=30)).encode()
        except DataError as error:
            assert "fuzz.jsonl" in str(error)
            return
        assert len(encode_split(split, recipe_of(task), TOKENIZER)) == len(split.examples)


@each_task
def test_half_of_an_emoji_is_named_before_training(task: Task) -> None:
    """In whatever column the task reads, and in the id, under which predictions are saved; nowhere else."""
    with tempfile.TemporaryDirectory() as folder:
        for column in (*task.columns, "id"):
            rows = [good_row(task, number) | {"id": number} for number in range(60)]
            rows[40][column] = {"text": [HALF], "answer_start": [0]} if column == "answers" else HALF
            for role in ("train", "validation", "test"):
                rows_of_role = load_split(recipe_of(task), role, written(folder, rows[:40])).num_rows  # type: ignore[arg-type]
                assert rows_of_role > 0
            with pytest.raises(DataError, match=rf"fuzz\.jsonl: 1 of 60 rows .*\n.*row 41: .*column '{column}'"):
                load_whole_file(recipe_of(task), written(folder, rows))
        rows = [good_row(task, number) | {"note": HALF} for number in range(60)]
        assert load_whole_file(recipe_of(task), written(folder, rows)).num_rows == 60
