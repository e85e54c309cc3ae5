"""Adapter, bare base and trivial baselines on a foreign set: the router answers, the task's scorers score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from flan_lora.compare.out_of_domain import as_labels
from flan_lora.evaluation.predictions import Prediction
from flan_lora.serving.router import Router
from flan_lora.tasks import get_task
from flan_lora.tasks.baselines import sentences
from flan_lora.tasks.scorers import Score, Scorer, bootstrap
from flan_lora.tasks.summarization import turns
from flan_lora.tasks.task import Baseline, Example, Task
from tools.foreign.pairs import word_overlap
from tools.foreign.sets import ForeignSet

if TYPE_CHECKING:
    from flan_lora.tasks.scorers import FloatArray

Scores = dict[str, Score]


@dataclass(frozen=True)
class Measured:
    """One set."""

    num_rows: int
    adapter: Scores
    base: Scores
    """The bare base, asked as the adapter is."""
    baselines: dict[str, Scores]


def measure(router: Router, one: ForeignSet, adapter: str, examples: Sequence[Example]) -> Measured:
    """Raises what the router raises."""
    own, base = (_scored(one, _answered(router, one, name, adapter, examples)) for name in (adapter, None))
    task = get_task(one.task)
    named = {
        name: _scored(one, _as_predictions(task, examples, predict(examples)))
        for name, predict in _baselines(one).items()
    }
    if "auc" in one.headlines:
        named["word_overlap"] = {"auc": _auc_of([_overlap(example) for example in examples], examples)}
    return Measured(len(examples), own, base, named)


def _answered(
    router: Router, one: ForeignSet, name: str | None, adapter: str, examples: Sequence[Example]
) -> list[Prediction]:
    """The rows as one of the two answers them, labels with their probabilities."""
    task = get_task(one.task)
    completions = router.generate(
        [example.inputs for example in examples],
        name,
        task_of=None if name else adapter,
        label_probabilities=bool(task.labels),
    )
    rows = _as_predictions(task, examples, [completion.text for completion in completions])
    return [
        replace(row, label_probabilities=completion.label_probabilities)
        for row, completion in zip(rows, completions, strict=True)
    ]


def _scored(one: ForeignSet, rows: Sequence[Prediction]) -> Scores:
    task = get_task(one.task)
    if one.as_sentiment:
        [spec] = task.out_of_domain
        rows, task = as_labels(spec, rows), spec.task
    return scores_of(task, rows) | (_probability_scores(rows) if "auc" in one.headlines else {})


def scores_of(task: Task, rows: Sequence[Prediction]) -> Scores:
    """The task's scores with their 95 % intervals."""
    answers, references = [row.prediction for row in rows], [row.references for row in rows]
    return bootstrap(task.scorers, answers, references, [row.source for row in rows])


def _probability_scores(rows: Sequence[Prediction]) -> Scores:
    """What the probability of yes is worth as a rank; nothing of who gives none."""
    known = [row.label_probabilities["yes"] for row in rows if row.label_probabilities is not None]
    if len(known) < len(rows):
        return {}
    return bootstrap([auc("yes")], list(map(repr, known)), [row.references for row in rows], [""] * len(rows))


def _auc_of(values: Sequence[float], examples: Sequence[Example]) -> Score:
    references = [example.references for example in examples]
    return bootstrap([auc("yes")], list(map(repr, values)), references, [""] * len(values))["auc"]


def auc(positive: str) -> Scorer:
    """auc, in [0, 1]: how often a positive row has a higher value than a negative one, ties as half.

    The answers are numbers written as text. 0.5 where rows are of one kind only.

    Source: Hanley and McNeil, The meaning and use of the area under a ROC curve (1982).
    """
    import numpy as np

    def statistics(
        predictions: Sequence[str], references: Sequence[Sequence[str]], sources: Sequence[str]
    ) -> FloatArray:
        pairs = zip(predictions, references, strict=True)
        return np.array([[float(value), reference[0] == positive] for value, reference in pairs], dtype=np.float64)

    def reduce(rows: FloatArray) -> dict[str, float]:
        values, is_positive = rows[:, 0], rows[:, 1] > 0
        num_positive = int(is_positive.sum())
        num_pairs = num_positive * (len(rows) - num_positive)
        if not num_pairs:
            return {"auc": 0.5}
        _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks = (counts.cumsum() - (counts - 1) / 2)[place]  # ties share their mean rank
        above = float(ranks[is_positive].sum()) - num_positive * (num_positive + 1) / 2
        return {"auc": above / num_pairs}

    return Scorer(statistics, reduce, ("auc",))


# Trivial predictors, beside the tasks' own

Predict = Callable[[Sequence[Example]], list[str]]


def _baselines(one: ForeignSet) -> dict[str, Predict]:
    """By name: the task's own, and the first sentence or turn. The majority is that of the rows themselves."""
    found: dict[str, Predict] = {item.name: partial(_on_itself, item) for item in get_task(one.task).baselines}
    if one.task == "qa":
        found["first_sentence"] = _first_sentences
    if one.task == "summarization":
        found["first_turn"] = _first_turns
    return found


def _on_itself(baseline: Baseline, examples: Sequence[Example]) -> list[str]:
    return baseline.predict(examples, examples)


def _first_sentences(examples: Sequence[Example]) -> list[str]:
    return [(sentences(example.inputs["context"]) or [""])[0] for example in examples]


def _first_turns(examples: Sequence[Example]) -> list[str]:
    return [turns(example.inputs["dialogue"])[0] for example in examples]


def _as_predictions(task: Task, examples: Sequence[Example], answers: Sequence[str]) -> list[Prediction]:
    return [
        Prediction(example.key, example.inputs[task.inputs[0]], answer, example.references, answer)
        for example, answer in zip(examples, answers, strict=True)
    ]


def _overlap(example: Example) -> float:
    return word_overlap(example.inputs["sentence1"], example.inputs["sentence2"])
