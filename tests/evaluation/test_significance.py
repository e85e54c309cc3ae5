"""Paired tests against closed forms, scipy-free enumerations and the plain bootstrap."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from flan_lora.errors import DataError
from flan_lora.evaluation.significance import mcnemar, paired_bootstrap
from flan_lora.tasks.scorers import bootstrap, classification

LABELS = ("joy", "fear")


def by_enumeration(won: int, lost: int) -> float:
    """Every sequence of fair coins, counted."""
    outcomes = [sum(coins) for coins in itertools.product((0, 1), repeat=won + lost)]
    extreme = abs(won - lost)
    return sum(abs(2 * heads - won - lost) >= extreme for heads in outcomes) / len(outcomes)


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (5, 0), (3, 2), (2, 2), (8, 1), (4, 9)])
def test_mcnemar_is_the_exact_two_sided_binomial(won: int, lost: int) -> None:
    assert mcnemar(won, lost) == pytest.approx(by_enumeration(won, lost))
    assert mcnemar(won, lost) == mcnemar(lost, won)


def test_mcnemar_holds_for_thousands_of_rows_and_refuses_nonsense() -> None:
    assert mcnemar(5000, 5000) == 1.0
    assert 0 <= mcnemar(6000, 4000) < 1e-80
    assert mcnemar(83, 71) == pytest.approx(0.376, abs=1e-3)
    with pytest.raises(ValueError, match="-1 won"):
        mcnemar(-1, 2)


def answers(accuracy: float, references: list[str], seed: int) -> list[str]:
    draw = random.Random(seed)
    other = {"joy": "fear", "fear": "joy"}
    return [label if draw.random() < accuracy else other[label] for label in references]


def compared(first: list[str], second: list[str], references: list[str], **options: int):  # type: ignore[no-untyped-def]
    rows = [(label,) for label in references]
    return paired_bootstrap((classification(LABELS),), [first, second], rows, [""] * len(rows), **options)


REFERENCES = ["joy", "fear"] * 100


def test_scores_have_the_intervals_of_the_plain_bootstrap() -> None:
    first, second = answers(0.7, REFERENCES, 1), answers(0.8, REFERENCES, 2)
    rows = [(label,) for label in REFERENCES]
    paired = compared(first, second, REFERENCES, num_resamples=200, seed=3)
    for own, scores in zip((first, second), paired.scores, strict=True):
        plain = bootstrap((classification(LABELS),), own, rows, [""] * len(rows), num_resamples=200, seed=3)
        assert scores == plain


def test_a_difference_is_paired_so_shared_mistakes_do_not_blur_it() -> None:
    """Both make the same mistakes but for 12: unpaired intervals overlap, the paired one is clear."""
    shared = answers(0.5, REFERENCES, 1)
    wrong = [row for row, (a, b) in enumerate(zip(shared, REFERENCES, strict=True)) if a != b][:12]
    better = [REFERENCES[row] if row in wrong else answer for row, answer in enumerate(shared)]
    paired = compared(shared, better, REFERENCES)
    [difference] = paired.differences
    gain = difference["accuracy"]
    assert gain.value == pytest.approx(0.06)
    assert 0 < gain.low < 0.06 < gain.high and gain.p_value <= 0.01
    assert paired.scores[0]["accuracy"].high > paired.scores[1]["accuracy"].low, "the plain intervals overlap"


def test_equal_answers_differ_by_nothing_and_p_is_one() -> None:
    same = answers(0.7, REFERENCES, 1)
    gain = compared(same, same, REFERENCES, num_resamples=50).differences[0]["accuracy"]
    assert (gain.value, gain.low, gain.high, gain.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_p_values_are_uniform_where_nothing_differs() -> None:
    """Of 60 pairs of equally good predictors about 5 % may look different at 0.05, not 30 %."""
    found = [
        compared(
            answers(0.7, REFERENCES, 2 * seed),
            answers(0.7, REFERENCES, 2 * seed + 1),
            REFERENCES,
            num_resamples=200,
        )
        .differences[0]["accuracy"]
        .p_value
        for seed in range(60)
    ]
    assert np.mean([p < 0.05 for p in found]) <= 0.12
    assert 0.3 < np.mean(found) < 0.75


def test_a_p_value_is_never_zero_and_swaps_with_the_sign() -> None:
    worst, best = answers(0.0, REFERENCES, 1), answers(1.0, REFERENCES, 1)
    up = compared(worst, best, REFERENCES, num_resamples=99).differences[0]["accuracy"]
    down = compared(best, worst, REFERENCES, num_resamples=99).differences[0]["accuracy"]
    assert up.p_value == down.p_value == pytest.approx(2 / 100)
    assert (up.value, down.value) == (1.0, -1.0)


def test_no_rows_are_an_error() -> None:
    with pytest.raises(DataError, match="no rows"):
        paired_bootstrap((classification(LABELS),), [[], []], [], [])
