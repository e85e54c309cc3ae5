"""Scoring over a tiny random T5: evaluations, baselines, label probabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from flan_lora.data.splits import Split
from flan_lora.errors import DataError
from flan_lora.evaluation import evaluate as evaluation_module
from flan_lora.evaluation.evaluate import evaluate, evaluate_baselines
from flan_lora.evaluation.predict import label_probabilities, predict
from flan_lora.recipe import EvaluationSection
from flan_lora.tasks.scorers import classification, score
from flan_lora.tasks.task import Example, Task, swapped
from tests.evaluation.toy import LABELS, TOKENIZER, answers, make_examples, make_split, make_task


def toy_evaluation(model: Any, task: Task, examples: list[Example]) -> evaluation_module.Evaluation:
    section = EvaluationSection(batch_size=4)
    return evaluate(
        model, TOKENIZER, task, make_split(examples), evaluation=section, max_source_tokens=96, name="toy"
    )


def test_an_evaluation_holds_the_answers_in_order_and_their_scores(model: Any) -> None:
    task = replace(make_task(), parse=str.upper)
    examples = make_examples(task)
    half = len(examples) // 2
    parsed = answers(model, task, examples)
    known = [
        replace(ex, references=(a,)) if row < half else ex
        for row, (ex, a) in enumerate(zip(examples, parsed, strict=True))
    ]
    result = toy_evaluation(model, task, known)
    assert (result.name, result.task, result.split, result.num_rows) == ("toy", "toy", "test", len(examples))
    assert [p.key for p in result.predictions] == [example.key for example in examples]
    assert [p.prediction for p in result.predictions] == parsed
    assert [p.raw.upper() for p in result.predictions] == parsed
    assert [p.source for p in result.predictions] == [example.inputs["text"] for example in examples]
    assert [p.references for p in result.predictions] == [example.references for example in known]
    exact = result.scores["exact_match"]
    assert exact.value == 50.0
    assert 0.0 < exact.low < 50.0 < exact.high < 100.0
    assert result.seconds > 0


def test_an_empty_split_is_an_error_that_says_where_it_came_from(model: Any) -> None:
    message = r"the test split has no examples to score \(0 rows from the toy rows\)"
    with pytest.raises(DataError, match=message):
        toy_evaluation(model, make_task(), [])
    with pytest.raises(DataError, match=message):
        evaluate_baselines(make_task(), make_split([]), make_split([]))


def test_baselines_are_scored_like_a_model() -> None:
    task = make_task(("joy", "a"))
    train, test = make_examples(task, num=2), make_examples(task, num=3) + make_examples(task, num=1, answer="a")
    result = evaluate_baselines(task, make_split(train), make_split(test))["first"]
    assert (result.name, result.num_rows) == ("first", 4)
    assert {p.prediction for p in result.predictions} == {"joy"}
    expected = score(task.scorers, ["joy"] * 4, [ex.references for ex in test], [""] * 4)
    assert {name: s.value for name, s in result.scores.items()} == expected
    assert result.scores["accuracy"].value == 0.75


def test_a_symmetric_task_is_asked_both_ways(model: Any) -> None:
    """The toy's swap turns the words round; agreement counts the answers that stay."""
    task = replace(
        make_task(("sad", "joy")),
        swap=lambda inputs: {"text": " ".join(reversed(inputs["text"].split()))},
        scorers=(classification(("sad", "joy")),),
    )
    examples = tuple(
        Example(str(n), task.prompt({"text": text}), "joy", ("joy",), {"text": text})
        for n, text in enumerate(("the joy", "a b", "no", "love is not sad", "what the question", "yes no yes"))
    )
    split = Split("test", examples, "here", len(examples), "hash")
    settings = {"evaluation": EvaluationSection(), "max_source_tokens": 64}
    scored = evaluate(model, TOKENIZER, task, split, name="x", **settings)
    turned = [replace(e, prompt=task.prompt(task.swap(e.inputs))) for e in examples]  # type: ignore[misc]
    one, other = (predict(model, TOKENIZER, task, rows, **settings) for rows in (examples, turned))
    share = sum(a == b for a, b in zip(one, other, strict=True)) / len(examples)
    assert scored.scores["order_agreement"].value == share
    assert (
        "order_agreement"
        not in evaluate(model, TOKENIZER, replace(task, swap=None), split, name="x", **settings).scores
    )


@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_label_probabilities_are_those_of_the_spellings_in_any_batch(model: Any, batch_size: int) -> None:
    """Against the loss of every label by itself, which transformers averages over tokens."""
    task = make_task(LABELS)
    examples = make_examples(task, num=6)
    found = label_probabilities(model, TOKENIZER, task, examples, batch_size=batch_size, max_source_tokens=256)
    for example, row in zip(examples, found, strict=True):
        source = TOKENIZER(str(example.prompt), return_tensors="pt").input_ids
        expected = []
        for label in LABELS:
            ids = TOKENIZER(label, return_tensors="pt").input_ids
            with torch.inference_mode():
                expected.append(-model(input_ids=source, labels=ids).loss * ids.shape[1])
        assert list(row) == list(LABELS)
        assert list(row.values()) == pytest.approx(torch.stack(expected).softmax(0).tolist(), abs=1e-5)
    assert len({round(row["joy"], 4) for row in found}) > 3, "the rows must differ, or a mix-up would not show"


def test_label_probabilities_of_a_symmetric_task_are_the_mean_of_both_orders(model: Any) -> None:
    task = replace(make_task(LABELS), swap=lambda inputs: {"text": inputs["text"][::-1]})
    examples = make_examples(task, num=5)
    settings = {"batch_size": 4, "max_source_tokens": 256}
    plain = replace(task, swap=None)
    one = label_probabilities(model, TOKENIZER, plain, examples, **settings)
    other = label_probabilities(model, TOKENIZER, plain, [swapped(task, e) for e in examples], **settings)
    found = label_probabilities(model, TOKENIZER, task, examples, **settings)
    for mean, a, b in zip(found, one, other, strict=True):
        assert mean == pytest.approx({label: (a[label] + b[label]) / 2 for label in LABELS}, abs=1e-5)
    assert one[3] != pytest.approx(other[3], abs=1e-4)
