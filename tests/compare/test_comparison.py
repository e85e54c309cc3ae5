"""Predictors side by side: the rows are the same, what was won and lost is counted, mismatches are errors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flan_lora.compare.comparison import Predictor, compare, confusion, reliability, row_scores
from flan_lora.errors import DataError
from flan_lora.evaluation.predictions import Prediction
from flan_lora.evaluation.significance import mcnemar
from flan_lora.tasks import TASKS

EMOTION, QA, SUMMARY = TASKS["emotion"], TASKS["qa"], TASKS["summarization"]


def rows(answers: list[str], references: list[str], sources: list[str] | None = None) -> tuple[Prediction, ...]:
    sources = sources or [f"text {number}" for number in range(len(answers))]
    return tuple(
        Prediction(str(number), source, answer, (reference,), answer)
        for number, (answer, reference, source) in enumerate(zip(answers, references, sources, strict=True))
    )


REFERENCES = ["joy", "joy", "fear", "anger", "love"]
BASE = Predictor("base", "bare", rows(["joy", "fear", "joy", "anger", "nonsense"], REFERENCES))
TUNED = Predictor("tuned", "adapter", rows(["joy", "joy", "fear", "joy", "love"], REFERENCES))


def test_rows_won_and_lost_are_counted_and_tested() -> None:
    result = compare(EMOTION, [BASE, TUNED], split="test", origin="made up")
    [pair] = result.pairwise
    assert pair.won == (1, 2, 4) and pair.lost == (3,)
    assert pair.mcnemar_score == "accuracy" and pair.mcnemar_p == mcnemar(3, 1)
    assert [scores["accuracy"].value for scores in result.scores] == [0.4, 0.8]
    assert pair.differences["accuracy"].value == pytest.approx(0.4)
    assert result.num_rows == 5 and result.row_scores == ((1, 0, 0, 1, 0), (1, 1, 1, 0, 1))


def test_only_rows_that_everybody_answered_count_whatever_their_order() -> None:
    shuffled = replace(TUNED, predictions=TUNED.predictions[:0:-1])
    result = compare(EMOTION, [BASE, shuffled], split="test", origin="")
    assert [item.key for item in result.predictors[1].predictions] == ["1", "2", "3", "4"]
    assert result.pairwise[0].won == (0, 1, 3) and result.pairwise[0].lost == (2,)


def test_the_first_is_the_reference_of_all_others() -> None:
    third = replace(BASE, name="third")
    result = compare(EMOTION, [TUNED, BASE, third], split="test", origin="")
    assert [pair.name for pair in result.pairwise] == ["base", "third"]
    assert all(pair.differences["accuracy"].value == pytest.approx(-0.4) for pair in result.pairwise)


def test_confusion_counts_true_rows_predicted_columns_and_what_is_no_label() -> None:
    counts = confusion(EMOTION, BASE.predictions)
    place = {label: index for index, label in enumerate(EMOTION.labels)}
    assert counts[place["joy"]][place["fear"]] == 1 and counts[place["fear"]][place["joy"]] == 1
    assert counts[place["love"]][len(EMOTION.labels)] == 1
    assert sum(map(sum, counts)) == 5


def test_reliability_is_about_the_answer_given_not_the_likeliest_label() -> None:
    sure = replace(BASE.predictions[0], label_probabilities={"joy": 0.3, "fear": 0.7})
    found = reliability([sure])
    assert found is not None and found.bins[0].confidence == 0.3 and found.bins[0].accuracy == 1.0
    assert reliability(BASE.predictions) is None


def test_generated_answers_are_scored_row_by_row() -> None:
    given = rows(["the cat sat", "a dog"], ["the cat sat", "a bird"])
    assert row_scores(SUMMARY, given) == pytest.approx((100.0, 50.0))
    worse = Predictor("a", "", rows(["nothing", "a dog"], ["the cat sat", "a bird"]))
    [pair] = compare(SUMMARY, [worse, Predictor("b", "", given)], split="test", origin="").pairwise
    assert pair.won == (0,) and pair.lost == () and pair.mcnemar_p is None


def test_exact_match_is_tested_as_the_task_counts_it() -> None:
    """SQuAD's normalisation drops articles and case."""
    references, sources = ["the tower", "1932"], ["It is the tower of 1932."] * 2
    first = Predictor("a", "", rows(["Tower.", "no"], references, sources))
    second = Predictor("b", "", rows(["no", "1932"], references, sources))
    [pair] = compare(QA, [first, second], split="test", origin="").pairwise
    assert pair.mcnemar_score == "exact_match" and pair.mcnemar_p == mcnemar(1, 1)
    assert pair.differences["exact_match"].value == 0


@pytest.mark.parametrize(
    ("predictors", "expected"),
    [
        ([BASE], "takes two predictors or more"),
        ([BASE, replace(TUNED, name="base")], "each under a name of its own"),
        ([BASE, replace(TUNED, predictions=(replace(TUNED.predictions[0], key="x"),))], "no row that all of them"),
        (
            [BASE, replace(TUNED, predictions=(replace(TUNED.predictions[0], references=("fear",)),))],
            "other references for 1 rows",
        ),
    ],
)
def test_what_cannot_be_paired_is_an_error(predictors: list[Predictor], expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        compare(EMOTION, predictors, split="test", origin="")
