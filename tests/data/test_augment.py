"""`data.augment`: training rows otherwise each epoch, again with the same seed, answers still in their context."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flan_lora.data import augment
from flan_lora.data.augment import augmented
from flan_lora.data.encoding import AugmentedRows, EncodedSplit
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import augmented_train, load_split
from flan_lora.errors import RecipeError
from flan_lora.recipe import Recipe, parse_recipe
from flan_lora.tasks import TASKS

HINDI = (
    "\u0921\u095c \u0915\u093c\u093f\u0932\u093e \u0926\u093f\u0932\u094d\u0932\u0940 "
    "\u092e\u0947\u0902 \u0939\u0948\u0964"
)
"""Two nuktas, one composed and one apart, before Delhi."""


def recipe_of(task: str, *ways: str, seed: int = 0) -> Recipe:
    data = {"dataset": "owner/name", "augment": list(ways)}
    return parse_recipe({"name": "x", "task": task, "data": data, "training": {"seed": seed}}, where="test")


def written(row: dict[str, object], task: str, *ways: str, count: int = 200) -> list[dict[str, object]]:
    """The row in so many epochs, those in which it stays left out."""
    rows = [augmented(row, TASKS[task], ways, seed=0, epoch=epoch, place=3) for epoch in range(count)]
    return [changed for changed in rows if changed != row]


def test_a_third_of_the_rows_is_written_otherwise() -> None:
    row = {"text": "i do not know what they didn't say", "label": 0}
    changed = written(row, "emotion", "contractions", "emoji", count=600)
    assert 0.2 < len(changed) / 600 < augment.SHARE + 0.05
    assert all(one["label"] == 0 for one in changed)
    assert len({str(one["text"]) for one in changed}) > 50


def test_ways_and_tasks_are_known_on_both_sides() -> None:
    known = {*augment.WAYS, "speaker_marks"}
    for task in TASKS.values():
        assert set(task.augment) <= known, task.name
        for columns in task.augment.values():
            assert set(columns) <= set(task.columns), task.name


@pytest.mark.parametrize("has_start", [True, False])
def test_an_answer_stays_in_its_context_at_its_place(has_start: bool) -> None:
    for context, answer in (
        ("Rain fell in Rome. The Dog of rome slept.", "rome"),
        (HINDI, "\u0926\u093f\u0932\u094d\u0932\u0940"),
    ):
        start = context.index(answer)
        answers = {"text": [answer], "answer_start": [start]} if has_start else {"text": [answer]}
        row = {"context": context, "question": "Where, they don't say?", "answers": answers}
        changed = written(row, "qa", *TASKS["qa"].augment)
        assert any(one["context"] != context for one in changed)
        assert any(one["question"] != row["question"] and one["context"] == context for one in changed)
        for one in changed:
            [example] = TASKS["qa"].examples(one)
            assert example.references[0] in one["context"]
            if has_start:
                place = int(example.inputs["answer_start"])
                assert one["context"][place:].startswith(example.references[0])
                assert place in (start, start - context[:start].count("\u093c"))


def test_an_answer_that_no_longer_stands_there_leaves_the_row_as_it_is() -> None:
    row = {
        "context": "The \u0130zmir road",
        "question": "Which?",
        "answers": {"text": ["road"], "answer_start": [0]},
    }
    assert written(row, "question-generation", "case") == []


def test_speaker_marks_go_through_the_summary_too() -> None:
    row = {"dialogue": "Ann: hi\nBob: hello Ann", "summary": "Ann greets Bob."}
    nameless = [one for one in written(row, "summarization", "speaker_marks") if one["summary"] != row["summary"]]
    assert nameless
    for one in nameless:
        [example] = TASKS["summarization"].examples(one)
        first, second = (turn.partition(":")[0] for turn in example.prompt.body.split(" | "))
        assert example.target == f"{first} greets {second}."
        assert "Ann" not in str(example.prompt) and example.references == (one["summary"],)


def local_root(folder: Path, rows: list[dict[str, object]]) -> DataSource:
    for split in ("train", "validation", "test"):
        path = folder / "owner__name" / "default" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return DataSource("local", folder)


def test_epochs_differ_repeat_with_their_seed_and_keep_order_and_number(tmp_path: Path) -> None:
    pairs = [
        {"sentence1": f"I do not know {n}, yes.", "sentence2": f"They didn't say {n}.", "label": n % 2}
        for n in range(40)
    ]
    source = local_root(tmp_path, pairs)
    recipe = recipe_of("similarity", "case", "contractions")
    rows = augmented_train(recipe, source)
    plain = load_split(recipe, "train", source)
    first, second = rows(0), rows(1)
    assert rows(0) == first == augmented_train(recipe, source)(0) != second
    assert augmented_train(recipe_of("similarity", "case", "contractions", seed=1), source)(0) != first
    assert len(first.examples) == len(second.examples) == len(plain.examples) == 80  # both orders of a pair
    for row, other in zip(first.examples, plain.examples, strict=True):
        assert row.target == other.target
        assert row.inputs["sentence1"].lower()[:1] == other.inputs["sentence1"].lower()[:1]
    assert load_split(recipe, "validation", source) == load_split(recipe_of("similarity"), "validation", source)


def test_an_index_says_row_and_epoch() -> None:
    asked: list[int] = []

    def epoch_rows(epoch: int) -> EncodedSplit:
        asked.append(epoch)
        return EncodedSplit([[epoch, row, 1] for row in range(3)], [[1]] * 3, 0, 0, 0.0, 0.0, "0" * 64)

    rows = AugmentedRows(3, epoch_rows)
    assert len(rows) == 3
    assert [rows[index]["input_ids"][:2] for index in (0, 2, 3, 5, 7)] == [[0, 0], [0, 2], [1, 0], [1, 2], [2, 1]]
    assert asked == [0, 1, 2]


def test_a_way_that_does_not_reach_the_base_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"data\.augment: case changes nothing that emotion reads; it has contr"):
        recipe_of("emotion", "case")
    with pytest.raises(RecipeError, match=r"data\.augment\.0"):
        recipe_of("emotion", "colour")
