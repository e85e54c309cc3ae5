"""Who answers the held-out rows beside the mix, and the scores of all with intervals, paired by rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flan_lora.evaluation.predictions import Prediction
from flan_lora.evaluation.significance import Difference, paired_bootstrap
from flan_lora.tasks.scorers import Score
from flan_lora.tasks.task import Task

MIX, BASE, FEW_SHOT, MERGED = "mix", "bare base", "few-shot LoRA", "merged"


@dataclass(frozen=True)
class Candidate:
    """One way to answer."""

    name: str
    about: str
    mix: Mapping[str, float]
    """As the engine runs it; empty: the bare base."""


@dataclass(frozen=True)
class Compared:
    """How a candidate did on the held-out rows."""

    name: str
    about: str
    scores: Mapping[str, Score]
    against_mix: Mapping[str, Difference]
    """What it gains on the mix, from the same resamples; empty for the mix itself."""


def compare_candidates(
    task: Task, candidates: Sequence[Candidate], answers: Sequence[Sequence[Prediction]]
) -> tuple[Compared, ...]:
    """Scores with 95 % intervals over rows, and differences to the first candidate, the mix.

    Raises:
        DataError: no rows, or a row without a reference.
    """
    first = answers[0]
    found = paired_bootstrap(
        task.scorers,
        [[row.prediction for row in rows] for rows in answers],
        [row.references for row in first],
        [row.source for row in first],
    )
    differences: tuple[Mapping[str, Difference], ...] = ({}, *found.differences)
    return tuple(
        Compared(candidate.name, candidate.about, scores, difference)
        for candidate, scores, difference in zip(candidates, found.scores, differences, strict=True)
    )


def equal_share(one: Sequence[Prediction], other: Sequence[Prediction]) -> float:
    """Of rows that both answer alike, word for word."""
    return sum(a.prediction == b.prediction for a, b in zip(one, other, strict=True)) / len(one)
