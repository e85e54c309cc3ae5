"""Reliability bins against numbers worked out by hand."""

from __future__ import annotations

import random

import pytest

from flan_lora.errors import DataError
from flan_lora.evaluation.calibration import (
    TEMPERATURES,
    Bin,
    averaged,
    calibrate,
    calibration_of,
    fit_temperature,
    tempered,
)


def test_bins_error_and_brier_score_by_hand() -> None:
    found = calibrate([0.95, 0.85, 0.85, 0.15], [True, True, False, False])
    assert [(b.low, b.high, b.num_rows) for b in found.bins] == [(0.1, 0.2, 1), (0.8, 0.9, 2), (0.9, 1.0, 1)]
    assert found.bins[1] == Bin(0.8, 0.9, 2, 0.85, 0.5)
    assert found.error == pytest.approx((1 * 0.15 + 2 * 0.35 + 1 * 0.05) / 4)
    assert found.brier == pytest.approx((0.05**2 + 0.15**2 + 0.85**2 + 0.15**2) / 4)


def test_ends_belong_to_the_bin_below_and_zero_to_the_first() -> None:
    found = calibrate([0.0, 0.1, 1.0, 0.10001], [False, False, True, True])
    assert [(b.low, b.num_rows) for b in found.bins] == [(0.0, 2), (0.1, 1), (0.9, 1)]


def test_perfect_confidence_has_no_error_and_blind_confidence_has_all_of_it() -> None:
    assert calibrate([1.0] * 5, [True] * 5).error == 0
    assert calibrate([1.0] * 5, [False] * 5).error == 1


@pytest.mark.parametrize(("confidences", "got"), [([], "no rows"), ([1.5], "1.5"), ([-0.1], "-0.1")])
def test_nonsense_is_refused(confidences: list[float], got: str) -> None:
    with pytest.raises(DataError, match=got):
        calibrate(confidences, [True] * len(confidences))


def drawn_rows(temperature: float, num_rows: int = 4000) -> tuple[list[dict[str, float]], list[str]]:
    """Distributions, and truths that follow the same logits divided by ``temperature``."""
    draw = random.Random(0)
    rows = [tempered({label: draw.random() ** 4 for label in "abc"}, 1.0) for _ in range(num_rows)]
    truths = [draw.choices("abc", list(tempered(row, temperature).values()))[0] for row in rows]
    return rows, truths


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_the_truths_follow_is_found_and_lowers_the_error(temperature: float) -> None:
    rows, truths = drawn_rows(temperature)
    found = fit_temperature(rows, truths)
    assert found == pytest.approx(temperature, rel=0.08)
    if temperature != 1.0:
        after = calibration_of([tempered(row, found) for row in rows], truths).error
        assert after < calibration_of(rows, truths).error / 3


def test_tempering_by_hand() -> None:
    assert tempered({"a": 0.8, "b": 0.2}, 2.0) == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    assert tempered({"a": 0.8, "b": 0.2}, 0.5) == pytest.approx({"a": 16 / 17, "b": 1 / 17})
    assert tempered({"a": 0.8, "b": 0.2}, 1.0) == pytest.approx({"a": 0.8, "b": 0.2})
    assert tempered({"a": 1.0, "b": 0.0}, 5.0)["a"] == pytest.approx(1.0)


def test_a_few_rows_that_are_all_right_do_not_make_it_certain() -> None:
    found = fit_temperature([{"a": 0.9, "b": 0.1}] * 8, ["a"] * 8)
    assert found > TEMPERATURES[0] * 2
    assert tempered({"a": 0.9, "b": 0.1}, found)["a"] == pytest.approx(9 / 10)  # (N + 1) / (N + 2)


def test_a_model_that_is_sure_and_wrong_is_tempered_as_far_as_it_goes() -> None:
    assert fit_temperature([{"a": 1.0, "b": 0.0}] * 9, ["b"] * 9) == pytest.approx(TEMPERATURES[1])
    with pytest.raises(DataError, match="no rows"):
        fit_temperature([], [])


def test_the_likeliest_label_is_what_is_calibrated() -> None:
    found = calibration_of([{"a": 0.9, "b": 0.1}, {"a": 0.2, "b": 0.8}], ["a", "a"])
    assert found.error == pytest.approx((0.1 + 0.8) / 2)
    assert averaged({"a": 0.9, "b": 0.1}, {"a": 0.5, "b": 0.5}) == pytest.approx({"a": 0.7, "b": 0.3})
