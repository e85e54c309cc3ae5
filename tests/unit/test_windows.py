"""Long bodies in overlapping windows: nothing is lost, nothing is cut inside a word, the surest answer is kept."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flan_lora.base import open_base
from flan_lora.encode import encode_sources
from flan_lora.errors import DataError
from flan_lora.evaluate import predict
from flan_lora.recipe import BaseSection, EvaluationSection
from flan_lora.router import Router
from flan_lora.store import Store
from flan_lora.tasks import TASKS
from flan_lora.tasks.task import Example, Prompt
from flan_lora.windows import Windows, window_with, windows

TASK = TASKS["qa"]
WORDS = [f"w{number}" for number in range(300)]


@pytest.fixture(scope="module")
def base():
    return open_base(BaseSection(model="mini", quantization="fp32"), device="cpu")


@pytest.fixture(scope="module")
def tokenizer(base):
    return base.tokenizer


def prompt_of(num_words: int) -> Prompt:
    return Prompt("Context: ", " ".join(WORDS[:num_words]), " Question: who?")


@settings(max_examples=25, deadline=None)
@given(num_words=st.integers(1, 300), max_tokens=st.integers(24, 120))
def test_windows_cover_every_word_overlap_and_fit(tokenizer, num_words: int, max_tokens: int) -> None:
    prompt = prompt_of(num_words)
    found = windows(tokenizer, prompt, max_tokens)
    assert all(window.head == prompt.head and window.tail == prompt.tail for window in found)
    assert max(len(ids.input_ids) for ids in encode_sources(tokenizer, found, 10_000)) <= max_tokens
    bodies = [window.body.split() for window in found]
    assert bodies[0][0] == "w0" and bodies[-1][-1] == WORDS[num_words - 1]
    for before, after in pairwise(bodies):
        assert len(before) == 1 or after[0] in before[1:], (
            "neighbours overlap, and each begins later than the one before"
        )
        assert int(after[-1][1:]) > int(before[-1][1:])
    assert all(body == WORDS[int(body[0][1:]) : int(body[-1][1:]) + 1] for body in bodies)


def test_a_prompt_that_fits_stays_the_same_object(tokenizer) -> None:
    prompt = prompt_of(5)
    assert windows(tokenizer, prompt, 200) == [prompt] and windows(tokenizer, prompt, 200)[0] is prompt


def test_other_tasks_are_cut_as_before(tokenizer) -> None:
    prompt = prompt_of(300)
    assert Windows.over(TASKS["emotion"], tokenizer, [prompt], 60) == Windows([prompt], [0])
    assert Windows.over(None, tokenizer, [prompt], 60) == Windows([prompt], [0])
    assert len(Windows.over(TASK, tokenizer, [prompt], 60).prompts) > 3


def test_a_question_longer_than_the_limit_is_an_error(tokenizer) -> None:
    with pytest.raises(DataError, match="a prompt does not fit"):
        windows(tokenizer, replace(prompt_of(50), tail=" why" * 80), 60)


def test_the_best_window_of_each_row_is_kept_the_first_of_equals() -> None:
    split = Windows([], [0, 0, 0, 1, 2, 2])
    assert split.best(list("abcdef"), {"a": 1, "b": 3, "c": 2, "d": 0, "e": 5, "f": 5}.__getitem__) == [
        "b",
        "d",
        "e",
    ]


def test_training_reads_the_window_that_holds_the_answer(tokenizer) -> None:
    late = window_with("w250", TASK, tokenizer, prompt_of(300), 80)
    assert "w250" in late.body.split() and "w0" not in late.body.split()
    missing = window_with("nowhere", TASK, tokenizer, prompt_of(300), 80)
    assert missing.body.startswith("w0 ")
    assert window_with("w250", TASKS["emotion"], tokenizer, prompt_of(300), 80) == prompt_of(300)


def long_examples() -> list[Example]:
    contexts = [" ".join(WORDS[start : start + size]) for start, size in ((0, 200), (50, 8), (90, 140))]
    given = [{"context": context, "question": "Where is w7?"} for context in contexts]
    return [Example(str(n), TASK.prompt(inputs), "", ("x",), inputs) for n, inputs in enumerate(given)]


@pytest.mark.parametrize("num_beams", [1, 2])
def test_evaluation_keeps_the_answer_of_the_surest_window(base, num_beams: int) -> None:
    examples, settings_ = long_examples(), EvaluationSection(num_beams=num_beams)
    answers = predict(base.model, base.tokenizer, TASK, examples, evaluation=settings_, max_source_tokens=96)
    for example, answer in zip(examples, answers, strict=True):
        parts = windows(base.tokenizer, example.prompt, 96)
        alone = [replace(example, prompt=part) for part in parts]
        texts = predict(base.model, base.tokenizer, TASK, alone, evaluation=settings_, max_source_tokens=96)
        assert answer == texts[max(range(len(parts)), key=lambda n: _sureness(base, parts[n], num_beams))]


def _sureness(base, prompt: Prompt, num_beams: int) -> float:
    """Mean log-probability of what the model writes, by a plain teacher-forced pass."""
    ids = torch.tensor([encode_sources(base.tokenizer, [prompt], 96)[0].input_ids])
    with torch.inference_mode():
        written = base.model.generate(
            input_ids=ids, num_beams=num_beams, do_sample=False, max_new_tokens=TASK.max_new_tokens
        )
        logits = base.model(input_ids=ids, decoder_input_ids=written[:, :-1]).logits.log_softmax(-1)
    return float(logits.gather(2, written[:, 1:, None]).mean())


def test_the_router_answers_long_contexts_as_evaluation_does(base, tmp_path: Path) -> None:
    router = Router(base, Store(tmp_path))
    examples = long_examples()
    expected = predict(
        base.model, base.tokenizer, TASK, examples, evaluation=EvaluationSection(), max_source_tokens=512
    )
    contexts = [" ".join(example.inputs["context"] for example in examples) + f" {n}" for n in range(2)]
    texts = [{"context": f"{context} {context}", "question": "Where?"} for context in contexts]
    asked = [Example("x", TASK.prompt(text), "", ("x",), text) for text in texts]
    assert len(windows(base.tokenizer, asked[0].prompt, 512)) > 1
    answers = router.generate([*(e.inputs for e in examples), *texts], None, task="qa")
    expected += predict(
        base.model, base.tokenizer, TASK, asked, evaluation=EvaluationSection(), max_source_tokens=512
    )
    assert [answer.text for answer in answers] == expected
    assert TASK.parse("".join(router.stream(texts[0], None, task="qa"))) == expected[len(examples)]
