"""The six tasks: prompts that T5 can hold and that never change unnoticed, examples, parsers, baselines."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flan_lora.errors import DataError, FlanLoraError
from flan_lora.tasks import TASKS, Task, get_task
from flan_lora.tasks.task import score_names
from flan_lora.tasks.text import plain, untokenise
from tests.tasks.rows import ROWS, each_task, make, scores_of

GOLDEN = Path(__file__).parents[1] / "golden" / "prompts"
UPDATE = os.environ.get("FLAN_LORA_UPDATE_GOLDEN") == "1"

PINNED = {
    "emotion": (2, "bbf1e98f8798afc63a86a007f659e2a717e04ce816c4e69bd61b00ec5b449cdb"),
    "qa": (2, "bef188fccce66d7d87cdeaedd874d1f160e04afa22454ade82e6d5b5620bd941"),
    "question-generation": (1, "a63edc0d3f792859cebdf3917717a8e87b7563c31b50ea2904f86f84f5ba4513"),
    "paraphrase": (1, "8ecc432962d50910bc3929de3f94c3e0223c4508b180ca829e80bede1fd6a4d3"),
    "summarization": (1, "461f08ff142db08ded2ae9d02c134b743595fe0297651d2563b4deaf0a4615fb"),
    "similarity": (1, "f32341643ce48954efe6615b9a19456093e76f369f88e54ec257a1cb100f182d"),
}
"""Task -> (version, sha256 of its golden file): a manifest's version must mean one prompt for ever."""


def render(task: Task) -> str:
    """What a golden file holds: all that a prompt version promises."""
    lines = [f"version: {task.version}", f"labels: {', '.join(task.labels)}"]
    for item in task.examples(ROWS[task.name]):
        head, body, tail = item.prompt.head, item.prompt.body, item.prompt.tail
        lines += ["", f"key: {item.key}", f"head: [{head}]", f"body: [{body}]", f"tail: [{tail}]"]
        lines += [f"target: [{item.target}]", f"references: {json.dumps(item.references, ensure_ascii=False)}"]
        lines += [f"parsed: [{task.parse(f' {item.target} ')}]"]
    return "\n".join(lines) + "\n"


# --- prompts -------------------------------------------------------------------------------------------------


@each_task
def test_prompt_is_the_golden_one(task: Task) -> None:
    file = GOLDEN / f"{task.name}.txt"
    if UPDATE:
        file.write_text(render(task), encoding="utf-8")
    assert render(task) == file.read_text(encoding="utf-8"), (
        "the prompt changed: raise Task.version, run with FLAN_LORA_UPDATE_GOLDEN=1, then pin version and hash"
    )


@each_task
def test_a_changed_prompt_has_a_new_version(task: Task) -> None:
    digest = hashlib.sha256((GOLDEN / f"{task.name}.txt").read_bytes()).hexdigest()
    assert PINNED[task.name] == (task.version, digest), (
        "adapters published for this version would get another prompt: raise Task.version, then pin the new pair"
    )


@each_task
def test_prompt_survives_t5(task: Task) -> None:
    """No character that T5 drops or lacks, nothing that space collapsing would change."""
    for item in task.examples(ROWS[task.name]):
        for text in (str(item.prompt), item.target):
            assert re.search(r"[<>{}~^`\\\n\t]|  ", text) is None
            assert text == text.strip()


@each_task
@given(st.text(min_size=1).filter(str.strip))
@settings(max_examples=40, deadline=None)
def test_any_input_gives_a_prompt_on_one_line(task: Task, text: str) -> None:
    prompt = str(task.prompt(dict.fromkeys(task.inputs, text)))
    assert re.search(r"[<>{}~^`\\]", prompt) is None
    assert len(prompt.splitlines()) == 1


@each_task
def test_only_the_body_holds_the_long_input(task: Task) -> None:
    """What may be cut is the user's text; instruction, classes and question stand outside it."""
    long_input = task.inputs[0] if task.name != "similarity" else "sentence2"
    inputs = {name: "word" for name in task.inputs} | {long_input: "long " * 500}
    prompt = task.prompt(inputs)
    assert len(prompt.head) + len(prompt.tail) < 200
    assert len(prompt.body) > 2000


def test_class_lists_stand_in_the_prompt_in_label_order() -> None:
    for task in (TASKS["emotion"], TASKS["similarity"]):
        prompt = str(task.prompt(dict.fromkeys(task.inputs, "x")))
        assert prompt.endswith("OPTIONS: " + " ".join(f"- {label}" for label in task.labels))


# --- text ----------------------------------------------------------------------------------------------------


@given(st.text())
@example("ą\u030cx")
@example("\uff1cb\uff1e \u00b4")
@settings(deadline=None)
def test_plain_text_is_one_tidy_line_and_stays(text: str) -> None:
    once = plain(text)
    assert plain(once) == once
    assert re.search(r"[<>{}~^`\\\n\t]|  ", once) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<file_gif>", "[file_gif]"),
        ("a\r\n\tb", "a b"),
        ("Michał Čapek née Müller", "Michal Capek née Müller"),
        ("don\u00b4t, 3 \u2212 1 \u2260 4", "don't, 3 - 1 \u2260 4"),
        ("½ kg \U0001f642", "1/2 kg \U0001f642"),
        ("की", "की"),
    ],
)
def test_plain_replaces_only_what_t5_lacks(text: str, expected: str) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A , b ; c : d .", "A, b; c: d."),
        ("He said `` no way '' twice", 'He said "no way" twice'),
        ("it 's what they do n't", "it's what they don't"),
        ("x ( y ) z", "x (y) z"),
        ("grew 5 % in a .5 world", "grew 5% in a .5 world"),
        ("Already fine, isn't it (yes)?", "Already fine, isn't it (yes)?"),
    ],
)
def test_treebank_spacing_is_undone(text: str, expected: str) -> None:
    assert untokenise(text) == expected
    assert untokenise(expected) == expected


# --- rows and errors -----------------------------------------------------------------------------------------


@each_task
def test_every_column_is_needed(task: Task) -> None:
    for column in task.columns:
        row = {name: value for name, value in ROWS[task.name].items() if name != column}
        with pytest.raises(DataError) as caught:
            task.examples(row)
        assert f"task {task.name}, row" in str(caught.value)
        assert f"column {column!r}: no such column" in str(caught.value)


@each_task
@pytest.mark.parametrize("value", [None, "", " \n", 17.5, float("nan"), [], {"text": []}, ["x", None]], ids=repr)
def test_a_bad_value_is_named_never_dropped(task: Task, value: Any) -> None:
    for column in task.columns:
        if column == "dialogue" and value in (None, "", " \n"):
            continue  # documented: SAMSum has an empty dialogue, which is skipped
        with pytest.raises(DataError, match=re.escape(f"column {column!r}: got {value!r}")):
            make(task.name, **{column: value})


def test_error_text_is_complete() -> None:
    with pytest.raises(DataError) as caught:
        make("similarity", label="perhaps" * 30)
    assert str(caught.value) == (
        "task similarity, row 9: column 'label': got "
        + repr("perhaps" * 30)[:77]
        + "....\n  expected  0..1 or one of no, yes\n"
        "Correct or remove the row, or map another column to it (data.columns in the recipe)."
    )


@pytest.mark.parametrize("label", [4, "4", " 4 ", 4.0, "fear", "Fear "])
def test_a_label_may_be_index_or_word(label: Any) -> None:
    (item,) = make("emotion", label=label)
    assert (item.target, item.references) == ("fear", ("fear",))


@pytest.mark.parametrize("label", [-1, 6, "6", 1.5, "happy", True + 5, 10**400])
def test_a_label_outside_the_list_is_an_error(label: Any) -> None:
    with pytest.raises(DataError, match=r"expected  0\.\.5 or one of sadness, joy"):
        make("emotion", label=label)


def test_keys_are_ids_or_hashes_of_the_row() -> None:
    assert [item.key for item in make("paraphrase")] == ["4-0", "4-1"]
    assert make("emotion")[0].key == make("emotion")[0].key
    assert make("emotion")[0].key != make("emotion", label=2)[0].key


@each_task
def test_examples_hold_the_inputs_that_made_the_prompt(task: Task) -> None:
    """Training and serving share one path: the prompt of an example is the prompt of its inputs."""
    for item in task.examples(ROWS[task.name]):
        assert set(task.inputs) <= item.inputs.keys()
        assert item.prompt == task.prompt(item.inputs)


# --- parse, scores, baselines --------------------------------------------------------------------------------


@each_task
@given(st.text() | st.text(st.sampled_from("#'=|aeikg yes joy\n")))
@settings(max_examples=60, deadline=None)
def test_parse_is_total(task: Task, output: str) -> None:
    assert isinstance(task.parse(output), str)


@each_task
def test_target_parses_to_an_answer_that_scores_full_marks(task: Task) -> None:
    items = task.examples(ROWS[task.name])
    answers = [task.parse(item.target) for item in items]
    scores = scores_of(task, items, answers)
    best = {"accuracy": 1.0, "f1": 100.0, "exact_match": 100.0, "rouge_l": 100.0, "bleu": 100.0}
    wanted = {name: value for name, value in best.items() if name in scores and task.name != "similarity"}
    assert {name: scores[name] for name in wanted} == pytest.approx(wanted)


@each_task
def test_the_score_that_selects_exists(task: Task) -> None:
    items = task.examples(ROWS[task.name])
    scores = scores_of(task, items, [item.target for item in items])
    assert task.select_on in scores and score_names(task) == tuple(scores)


@each_task
def test_baselines_are_deterministic_and_answer_every_row(task: Task) -> None:
    items = task.examples(ROWS[task.name]) * 2
    for baseline in task.baselines:
        answers = baseline.predict(items, items)
        assert len(answers) == len(items)
        assert answers == baseline.predict(items, items)
        scores_of(task, items, answers)
    assert task.baselines


def test_majority_counts_the_training_rows() -> None:
    task = TASKS["emotion"]
    train = [make("emotion", label=label)[0] for label in (2, 2, 4, 4, 0)]
    assert task.baselines[0].predict(train, train[:2]) == ["fear", "fear"]  # tie: first in the alphabet
    assert task.baselines[0].predict([], train[:1]) == [""]


# --- the dictionary ------------------------------------------------------------------------------------------


def test_unknown_task_names_the_nearest() -> None:
    assert get_task("emotion") is TASKS["emotion"]
    with pytest.raises(FlanLoraError, match="unknown task 'sumarization', did you mean 'summarization'"):
        get_task("sumarization")
    with pytest.raises(FlanLoraError, match=r"\(known: emotion, qa, question-generation, paraphrase, summ"):
        get_task("zzz")


def test_import_pulls_in_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'transformers', 'nltk', 'sklearn', 'sacrebleu', 'rouge_score'}"
    code = f"import sys, flan_lora.tasks; print({heavy} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
