"""Several predictors on the same rows, side by side: scores, paired differences, rows won and lost.

Who answered, and when, makes no difference: bases, adapters, recipes and ranks are all just names with answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flan_lora.errors import DataError
from flan_lora.evaluation.calibration import Calibration, calibrate
from flan_lora.evaluation.predictions import Prediction
from flan_lora.evaluation.significance import Difference, mcnemar, paired_bootstrap
from flan_lora.tasks.scorers import Score, signed
from flan_lora.tasks.task import Task

INVALID = "(no label)"
"""Where confusion matrices put an answer that is none of the labels."""


@dataclass(frozen=True)
class Predictor:
    """Who answered."""

    name: str
    """As in tables and legends; each once."""
    about: str
    """One line: what it is, and how it was asked."""
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True)
class PairwiseResult:
    """One predictor against the reference, the first of them."""

    name: str
    differences: dict[str, Difference]
    """By score: this predictor's minus the reference's."""
    gains: tuple[float, ...]
    """By row: its row score minus the reference's (see `row_scores`)."""
    mcnemar_score: str | None
    """The share of rows that McNemar's test is about; None where rows are not right or wrong."""
    mcnemar_p: float | None

    @property
    def won(self) -> tuple[int, ...]:
        """Rows that this predictor does better, the largest gain first."""
        return tuple(sorted((i for i, gain in enumerate(self.gains) if gain > 0), key=lambda i: -self.gains[i]))

    @property
    def lost(self) -> tuple[int, ...]:
        """Rows that it does worse, the largest loss first."""
        return tuple(sorted((i for i, gain in enumerate(self.gains) if gain < 0), key=lambda i: self.gains[i]))


@dataclass(frozen=True)
class Comparison:
    """Everything that a report shows; rows stand in the same order for every predictor."""

    task: Task
    split: str
    origin: str
    """Where the rows came from, in words."""
    predictors: tuple[Predictor, ...]
    """The reference first."""
    scores: tuple[dict[str, Score], ...]
    """Of each predictor, with 95 % bootstrap intervals."""
    row_scores: tuple[tuple[float, ...], ...]
    """Of each predictor, row by row."""
    pairwise: tuple[PairwiseResult, ...]
    """Of each predictor but the first."""

    @property
    def num_rows(self) -> int:
        """Rows that every predictor answered."""
        return len(self.predictors[0].predictions)


def compare(task: Task, predictors: Sequence[Predictor], *, split: str, origin: str) -> Comparison:
    """Score predictors on the rows that all of them answered; the first is the reference of the others.

    Raises:
        DataError: fewer than two, two of one name, no row in common, or references that differ.
    """
    chosen = _on_common_rows(predictors)
    answers = [[item.prediction for item in predictor.predictions] for predictor in chosen]
    rows = chosen[0].predictions
    references, sources = [row.references for row in rows], [row.source for row in rows]
    paired = paired_bootstrap(task.scorers, answers, references, sources)
    by_row = tuple(row_scores(task, predictor.predictions) for predictor in chosen)
    pairwise = tuple(
        _pairwise(task, predictor.name, chosen[0].predictions, predictor.predictions, differences, by_row[0], own)
        for predictor, differences, own in zip(chosen[1:], paired.differences, by_row[1:], strict=True)
    )
    return Comparison(task, split, origin, chosen, paired.scores, by_row, pairwise)


def row_scores(task: Task, predictions: Sequence[Prediction]) -> tuple[float, ...]:
    """Each row by itself: 1 or 0 for a label that is right or wrong, else the task's first score of that row."""
    if task.labels:
        return tuple(float(is_hit(item)) for item in predictions)
    answers = [item.prediction for item in predictions]
    references, sources = [item.references for item in predictions], [item.source for item in predictions]
    for scorer in task.scorers:
        table = scorer.statistics(answers, references, sources)
        if task.select_on in scorer.reduce(table):
            return tuple(scorer.reduce(table[row : row + 1])[task.select_on] for row in range(len(table)))
    raise AssertionError(f"no scorer of task {task.name} gives {task.select_on}")


def is_hit(prediction: Prediction) -> bool:
    """Whether an answer is, to the letter, one of the references."""
    return prediction.prediction in prediction.references


def confusion(task: Task, predictions: Sequence[Prediction]) -> list[list[int]]:
    """Counts (L, L + 1) over L labels: rows are the true labels, the last column answers that are no label."""
    place = {label: index for index, label in enumerate(task.labels)}
    counts = [[0] * (len(task.labels) + 1) for _ in task.labels]
    for item in predictions:
        counts[place[item.references[0]]][place.get(item.prediction, len(task.labels))] += 1
    return counts


def reliability(predictions: Sequence[Prediction]) -> Calibration | None:
    """Confidence in the answer given against being right; None where probabilities were not saved."""
    known = [
        (item.label_probabilities[item.prediction], is_hit(item))
        for item in predictions
        if item.label_probabilities is not None and item.prediction in item.label_probabilities
    ]
    if not known:
        return None
    confidences, hits = zip(*known, strict=True)
    return calibrate([min(max(value, 0.0), 1.0) for value in confidences], hits)


def _pairwise(
    task: Task,
    name: str,
    first: Sequence[Prediction],
    second: Sequence[Prediction],
    differences: dict[str, Difference],
    first_scores: Sequence[float],
    second_scores: Sequence[float],
) -> PairwiseResult:
    gains = tuple(b - a for a, b in zip(first_scores, second_scores, strict=True))
    score = "accuracy" if task.labels else "exact_match" if "exact_match" in differences else None
    p_value = None
    if score is not None:
        pairs = [(_is_right(task, a), _is_right(task, b)) for a, b in zip(first, second, strict=True)]
        won, lost = sum(b and not a for a, b in pairs), sum(a and not b for a, b in pairs)
        p_value = mcnemar(won, lost)
    return PairwiseResult(name, differences, gains, score, p_value)


def _is_right(task: Task, prediction: Prediction) -> bool:
    """As the task's own exact_match or accuracy sees one row: articles and punctuation may not count."""
    if task.labels:
        return is_hit(prediction)
    rows = [
        scorer.statistics([prediction.prediction], [prediction.references], [prediction.source])
        for scorer in task.scorers
    ]
    return any(
        scorer.reduce(row).get("exact_match", 0.0) > 0 for scorer, row in zip(task.scorers, rows, strict=True)
    )


def _on_common_rows(predictors: Sequence[Predictor]) -> tuple[Predictor, ...]:
    """Everybody's answers to the rows that all of them answered, in the order of the first."""
    names = [predictor.name for predictor in predictors]
    if len(names) < 2 or len(set(names)) != len(names):
        raise DataError(
            "a comparison takes two predictors or more, each under a name of its own "
            f"(got {', '.join(names) or 'none'})."
        )
    by_key = [{item.key: item for item in predictor.predictions} for predictor in predictors]
    keys = [item.key for item in predictors[0].predictions if all(item.key in rows for rows in by_key)]
    if not keys:
        counts = ", ".join(f"{predictor.name} {len(predictor.predictions):,}" for predictor in predictors)
        raise DataError(
            f"there is no row that all of them answered (rows: {counts}).\n"
            "Compare predictions for the same task, split and data."
        )
    for predictor, rows in zip(predictors[1:], by_key[1:], strict=True):
        if differing := [key for key in keys if rows[key].references != by_key[0][key].references]:
            raise DataError(
                f"{predictor.name} and {names[0]} have other references for {len(differing)} rows "
                f"(first: {differing[0]!r}), so they are not of the same data.\n"
                "Predict again on the same rows."
            )
    return tuple(
        replace(predictor, predictions=tuple(rows[key] for key in keys))
        for predictor, rows in zip(predictors, by_key, strict=True)
    )


def verdict(comparison: Comparison, pair: PairwiseResult) -> str:
    """One honest sentence about a predictor and the reference, for terminals and pages."""
    key, reference = comparison.task.select_on, comparison.predictors[0].name
    gain = pair.differences[key]
    said = (
        f"{key} {signed(gain.value)} (95 % interval {signed(gain.low)} to {signed(gain.high)}, "
        f"paired bootstrap {p_text(gain.p_value)}), {len(pair.won):,} rows better, {len(pair.lost):,} worse"
    )
    if pair.mcnemar_p is not None:
        said += f" (exact McNemar on {pair.mcnemar_score}: {p_text(pair.mcnemar_p)})"
    if gain.low > 0:
        conclusion = f"{pair.name} beats the {reference}"
    elif gain.high < 0:
        conclusion = f"{pair.name} is worse than the {reference}"
    else:
        conclusion = f"between {pair.name} and {reference} the difference may be chance"
    return f"{conclusion}: {said}."


def p_text(p_value: float) -> str:
    """``p = 0.041``; below a thousandth only that."""
    return f"p = {p_value:.3f}" if p_value >= 0.001 else "p < 0.001"
