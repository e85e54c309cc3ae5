"""How far a classifier's probabilities can be believed, and one number that corrects them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flan_lora.errors import DataError

NUM_BINS = 10
TEMPERATURES = (0.05, 20.0)
"""Where the temperature is looked for."""
_NUM_HALVINGS = 50
_LEAST = 1e-300
"""Stands for a probability that is 0 in floating point."""

Distribution = Mapping[str, float]
"""Label -> probability; they add up to 1."""


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


def fit_temperature(distributions: Sequence[Distribution], truths: Sequence[str]) -> float:
    """The temperature that makes the true labels likeliest: above 1 for a model that is surer than it is right.

    The truth of each of N rows counts (N + 1) / (N + 2), its other labels share the rest (Platt's targets): else a
    few rows that are all right would ask for no doubt at all. Never changes which label is the likeliest.

    Raises:
        DataError: no rows.

    Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017), section 4.2; Platt, Probabilistic
    Outputs for Support Vector Machines (1999), section 2.2.
    """
    import numpy as np

    if not distributions:
        raise DataError("a temperature is fitted on rows with their true labels (got no rows).")
    labels = list(distributions[0])
    doubt = 1 / (len(distributions) + 2)
    logits = np.log(np.maximum([[row[label] for label in labels] for row in distributions], _LEAST))
    is_true = np.array([[label == truth for label in labels] for truth in truths])
    targets = np.where(is_true, 1 - doubt, doubt / max(len(labels) - 1, 1))

    def slope(inverse: float) -> float:
        """Of the mean cross entropy, by 1 / temperature: convex, so it crosses 0 once."""
        scaled = np.exp(inverse * (logits - logits.max(axis=1, keepdims=True)))
        found = scaled / scaled.sum(axis=1, keepdims=True)
        return float(((found - targets) * logits).sum(axis=1).mean())

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    for _ in range(_NUM_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / low


def tempered(distribution: Distribution, temperature: float) -> dict[str, float]:
    """The distribution of the same logits divided by ``temperature``; 1 leaves it as it is."""
    logs = {label: math.log(max(value, _LEAST)) / temperature for label, value in distribution.items()}
    most = max(logs.values())
    weights = {label: math.exp(value - most) for label, value in logs.items()}
    total = sum(weights.values())
    return {label: weight / total for label, weight in weights.items()}


def averaged(one: Distribution, other: Distribution) -> dict[str, float]:
    """The mean of two distributions over the same labels: of both orders of a symmetric question."""
    return {label: (value + other[label]) / 2 for label, value in one.items()}


def calibration_of(distributions: Sequence[Distribution], truths: Sequence[str]) -> Calibration:
    """Of the likeliest labels. Raises DataError for no rows."""
    likeliest = [max(row, key=row.__getitem__) for row in distributions]
    confidences = [min(row[label], 1.0) for row, label in zip(distributions, likeliest, strict=True)]
    return calibrate(confidences, [label == truth for label, truth in zip(likeliest, truths, strict=True)])


def _bin(place: int, rows: Sequence[tuple[float, bool]], num_bins: int) -> Bin:
    confidences, hits = zip(*rows, strict=True)
    return Bin(
        place / num_bins, (place + 1) / num_bins, len(rows), sum(confidences) / len(rows), sum(hits) / len(rows)
    )
