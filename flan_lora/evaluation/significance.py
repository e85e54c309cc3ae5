"""Two predictors on the same rows: is the difference more than the luck of the rows?

Rows are paired throughout: what both get right or both get wrong says nothing about the difference, and
resamples draw the same rows for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flan_lora.tasks.scorers import CONFIDENCE_PERCENTILES, References, Score, Scorer, check_rows, reduce_all


@dataclass(frozen=True, slots=True)
class Difference:
    """One score of a predictor minus that of the reference, in the score's own unit."""

    value: float
    low: float
    high: float
    """Ends of the 95 % percentile interval of the paired bootstrap."""
    p_value: float
    """Two-sided, from the same resamples; never below 1 / (num_resamples + 1)."""


@dataclass(frozen=True)
class Paired:
    """Scores of N predictors on the same rows, and what each gains on the first."""

    scores: tuple[dict[str, Score], ...]
    """One per predictor."""
    differences: tuple[dict[str, Difference], ...]
    """One per predictor but the first, against the first."""


def paired_bootstrap(
    scorers: Sequence[Scorer],
    predictions: Sequence[Sequence[str]],
    references: References,
    sources: Sequence[str],
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Paired:
    """Score every predictor on the same resamples of rows; equal seeds give `tasks.scorers.bootstrap`'s intervals.

    The p-value is twice the share of resamples in which the difference is not on its own side of zero, with one
    added to both counts, so that it is never 0.

    Args:
        predictions: one sequence of answers per predictor, at least one; the first is the reference.

    Raises:
        DataError: no rows, or a row without a reference.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 16; Koehn, Statistical
    Significance Tests for Machine Translation Evaluation (EMNLP 2004), section 4.
    """
    import numpy as np

    for answers in predictions:
        check_rows(answers, references, sources)
    tables = [[scorer.statistics(answers, references, sources) for scorer in scorers] for answers in predictions]
    values = [reduce_all(scorers, table) for table in tables]
    generator = np.random.default_rng(seed)
    draws: list[list[dict[str, float]]] = [[] for _ in predictions]
    for _ in range(num_resamples):
        rows = generator.integers(0, len(references), len(references))
        for drawn, table in zip(draws, tables, strict=True):
            drawn.append(reduce_all(scorers, [part[rows] for part in table]))
    scores = tuple(
        {name: Score(value[name], *_interval([draw[name] for draw in drawn])) for name in value}
        for value, drawn in zip(values, draws, strict=True)
    )
    differences = tuple(
        {name: _difference(name, values[0], value, draws[0], drawn) for name in value}
        for value, drawn in zip(values[1:], draws[1:], strict=True)
    )
    return Paired(scores, differences)


def mcnemar(num_won: int, num_lost: int) -> float:
    """Exact two-sided p-value of McNemar's test, from the rows that only one of two predictors gets right.

    Under the null hypothesis each such row is a fair coin: twice the smaller binomial tail, at most 1.

    Source: McNemar (1947), Psychometrika 12; exact form: Fagerland, Lydersen and Laake (2013),
    BMC Medical Research Methodology 13:91.
    """
    if min(num_won, num_lost) < 0:
        raise ValueError(f"counts of rows are not negative (got {num_won} won, {num_lost} lost)")
    total = num_won + num_lost
    term = tail = 1  # coefficients one from the other: each anew takes seconds at thousands of rows
    for count in range(1, min(num_won, num_lost) + 1):
        term = term * (total - count + 1) // count
        tail += term
    return float(min(1.0, 2 * tail / 2**total))


def _interval(draws: Sequence[float]) -> tuple[float, float]:
    import numpy as np

    low, high = np.percentile(draws, CONFIDENCE_PERCENTILES)
    return float(low), float(high)


def _difference(
    name: str,
    first: dict[str, float],
    second: dict[str, float],
    first_draws: Sequence[dict[str, float]],
    second_draws: Sequence[dict[str, float]],
) -> Difference:
    gained = [b[name] - a[name] for a, b in zip(first_draws, second_draws, strict=True)]
    not_more, not_less = sum(gain <= 0 for gain in gained), sum(gain >= 0 for gain in gained)
    p_value = min(1.0, 2 * (1 + min(not_more, not_less)) / (1 + len(gained)))
    return Difference(second[name] - first[name], *_interval(gained), p_value)
