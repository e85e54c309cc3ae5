"""What would fail after the last step fails before the first, with the dial to turn."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from flan_lora.data.splits import Split
from flan_lora.errors import DataError, TrainingError
from flan_lora.recipe import Recipe, parse_recipe
from flan_lora.tasks import TASKS
from flan_lora.tasks.task import Prompt, card_examples
from flan_lora.training.checks import check_lora, check_prompts
from tests.tiny import tiny_config, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def recipe_of(task: str = "similarity", **sections: Any) -> Recipe:
    data = {"dataset": "x", "max_source_tokens": 400, **sections.pop("data", {})}
    return parse_recipe({"name": "x", "task": task, "data": data, **sections}, where="test")


def test_modules_that_the_base_lacks_are_refused_with_those_it_has() -> None:
    """PEFT leaves out the names that match nothing as long as one matches: the folder would not fit its record."""
    check_lora(recipe_of(), tiny_config())
    old = tiny_config(feed_forward_proj="relu")
    with pytest.raises(
        TrainingError, match=r"names wi_0, wi_1, which .* \(it has q, k, v, o, wi, wo\)"
    ) as failure:
        check_lora(recipe_of(lora={"target_modules": ["q", "wi_0", "wi_1", "wo"]}), old)
    assert "--set lora.target_modules=all-linear" in str(failure.value)
    for modules in ("all-linear", "attention", ["q", "v"], ["attention", "wi"]):
        check_lora(recipe_of(lora={"target_modules": modules}), old)


def splits_of(task: str) -> dict[str, Split]:
    examples = tuple(card_examples(TASKS[task]))
    return {"test": Split("test", examples, "made up", len(examples), "0" * 64)}


def test_a_test_row_that_cannot_be_asked_stops_the_run() -> None:
    splits = splits_of("similarity")
    check_prompts(recipe_of(), splits, TOKENIZER)  # type: ignore[arg-type]
    long = dataclasses.replace(splits["test"].examples[0], prompt=Prompt("word " * 500, "", ""))
    broken = {"test": dataclasses.replace(splits["test"], examples=(long,))}
    with pytest.raises(DataError, match=r"test: a prompt does not fit"):
        check_prompts(recipe_of(), broken, TOKENIZER)  # type: ignore[arg-type]


def test_the_cards_own_examples_are_tried_too() -> None:
    empty = {"test": Split("test", (), "made up", 0, "0" * 64)}
    with pytest.raises(DataError, match=r"the card's examples: a prompt does not fit"):
        check_prompts(recipe_of(data={"max_source_tokens": 8}), empty, TOKENIZER)  # type: ignore[arg-type]


def test_labels_that_the_base_cannot_spell_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "similarity", dataclasses.replace(TASKS["similarity"], labels=("no", "{yes}")))
    with pytest.raises(DataError, match=r"cannot spell the label '\{yes\}'"):
        check_prompts(recipe_of(), splits_of("similarity"), TOKENIZER)  # type: ignore[arg-type]
    check_prompts(recipe_of(evaluation={"constrained": False}), splits_of("similarity"), TOKENIZER)  # type: ignore[arg-type]
