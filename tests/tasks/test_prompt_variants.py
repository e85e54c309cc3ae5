"""Wordings for the bare base: every task has some, they hold the input, and labels are spelt one to one."""

from __future__ import annotations

import pytest

from flan_lora.base.decode import label_constraint
from flan_lora.tasks import TASKS
from flan_lora.tasks.task import OWN_PROMPT, all_prompts
from tests.tiny import tiny_tokenizer


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_is_asked_in_its_own_prompt_first_and_in_others(name: str) -> None:
    task = TASKS[name]
    inputs = task.card.sample_inputs
    own, *others = all_prompts(task)
    assert own.name == OWN_PROMPT and own.prompt(inputs) == task.prompt(inputs) and len(others) >= 2
    texts = [str(variant.prompt(inputs)) for variant in (own, *others)]
    assert len(set(texts)) == len(texts) and len({w.name for w in (own, *others)}) == len(texts)
    for text in texts:
        for value in inputs.values():
            assert value.split()[0] in text and value.split()[-1].rstrip(" .") in text
        assert "{" not in text and "  " not in text


def test_labels_are_spelt_one_to_one_in_words_the_base_can_write() -> None:
    for task in TASKS.values():
        for variant in all_prompts(task):
            if variant.spellings:
                assert tuple(variant.spellings) == task.labels
                label_constraint(tiny_tokenizer(), tuple(variant.spellings.values()))  # refuses doubles


def test_hindi_is_romanised_for_the_base_too() -> None:
    inputs = {"context": "यह एक पुल है।", "question": "How long?"}
    for variant in all_prompts(TASKS["qa"]):
        assert "पुल" not in str(variant.prompt(inputs))
