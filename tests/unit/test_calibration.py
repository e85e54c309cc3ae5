"""Reliability bins against numbers worked out by hand."""

from __future__ import annotations

import pytest

from flan_lora.calibration import Bin, calibrate
from flan_lora.errors import DataError


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
