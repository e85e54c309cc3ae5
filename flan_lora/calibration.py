"""How far a classifier's probabilities can be believed. Knows confidences and hits; never a model or a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flan_lora.errors import DataError

NUM_BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of like confidence."""

    low: float
    high: float
    """Confidence c with low < c <= high; the first bin takes 0 as well."""
    num_rows: int
    confidence: float
    """Mean over the bin's rows, in [0, 1]."""
    accuracy: float
    """Share of its rows that are right."""


@dataclass(frozen=True)
class Calibration:
    """Reliability of one predictor."""

    bins: tuple[Bin, ...]
    """Those with rows, in ascending order."""
    error: float
    """Expected calibration error in [0, 1]: mean gap between accuracy and confidence, bins weighted by rows."""
    brier: float
    """Mean squared gap between the confidence in the answer and whether it is right; in [0, 1], 0 is best."""


def calibrate(confidences: Sequence[float], hits: Sequence[bool], *, num_bins: int = NUM_BINS) -> Calibration:
    """Bins of equal width over the confidence in the answer that was given.

    Args:
        confidences: (N) probability of each row's answer, in [0, 1].
        hits: (N) whether it is right.

    Raises:
        DataError: no rows, or a confidence outside [0, 1].

    Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017), section 2.
    """
    pairs = list(zip(confidences, hits, strict=True))
    outside = [value for value in confidences if not 0 <= value <= 1]
    if not pairs or outside:
        got = f"a confidence of {outside[0]}" if outside else "no rows"
        raise DataError(f"calibration takes rows with probabilities from 0 to 1 (got {got}).")
    binned: list[list[tuple[float, bool]]] = [[] for _ in range(num_bins)]
    for confidence, hit in pairs:
        place = next(k for k in range(num_bins) if confidence <= (k + 1) / num_bins or k == num_bins - 1)
        binned[place].append((confidence, hit))
    bins = tuple(_bin(place, rows, num_bins) for place, rows in enumerate(binned) if rows)
    error = sum(item.num_rows * abs(item.accuracy - item.confidence) for item in bins) / len(pairs)
    return Calibration(bins, error, sum((confidence - hit) ** 2 for confidence, hit in pairs) / len(pairs))


def _bin(place: int, rows: Sequence[tuple[float, bool]], num_bins: int) -> Bin:
    confidences, hits = zip(*rows, strict=True)
    return Bin(
        place / num_bins, (place + 1) / num_bins, len(rows), sum(confidences) / len(rows), sum(hits) / len(rows)
    )
