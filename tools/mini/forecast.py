"""Where the trunk's loss will stand after more reading: a power law through its log.

    loss(tokens) = floor + scale * tokens ** -exponent

The rate of a trunk never falls, so its curve is one law from some point on; an annealing ends below it. How far
the law carries is shown by a forecast whose end is known: fitted on the first half of the log, asked for its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flan_lora.errors import FlanLoraError

FEWEST_RECORDS = 20
SKIPPED_SHARE = 0.15
"""Of the tokens so far: warm-up and the first fast fall follow another law."""


@dataclass(frozen=True)
class PowerLaw:
    """loss(tokens) = floor + scale * (tokens / 1e6) ** -exponent."""

    floor: float
    scale: float
    exponent: float

    def loss(self, tokens: float) -> float:
        """Nats per target token after so many source tokens."""
        return float(self.floor + self.scale * (tokens / 1e6) ** -self.exponent)


def fit(records: Sequence[Mapping[str, Any]], until: float = float("inf")) -> PowerLaw:
    """The law through the records up to `until` source tokens: floor by search, the rest by least squares in logs.

    Raises:
        FlanLoraError: fewer records than a curve needs.
    """
    tokens = np.array([record["source_tokens"] for record in records], dtype=np.float64)
    losses = np.array([record["loss"] for record in records], dtype=np.float64)
    end = min(until, tokens.max(initial=0.0))
    used = (tokens <= end) & (tokens >= SKIPPED_SHARE * end)
    if used.sum() < FEWEST_RECORDS:
        raise FlanLoraError(
            f"{int(used.sum())} records are too few for a curve (at least {FEWEST_RECORDS}).\nRead on first."
        )
    tokens, losses = tokens[used] / 1e6, losses[used]
    laws = (_at_floor(tokens, losses, floor) for floor in np.arange(0.0, losses.min() - 0.05, 0.05))
    return min(laws, key=lambda law: _error(law, tokens, losses))


def backtest(records: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """(forecast, measured) loss at the log's end, the law fitted on the first half of the tokens."""
    end = records[-1]["source_tokens"]
    law = fit(records, until=end / 2)
    measured = [record["loss"] for record in records[-10:]]
    return law.loss(end), float(np.mean(measured))


def _at_floor(tokens: Any, losses: Any, floor: float) -> PowerLaw:
    slope, intercept = np.polyfit(np.log(tokens), np.log(losses - floor), 1)
    return PowerLaw(float(floor), float(np.exp(intercept)), float(-slope))


def _error(law: PowerLaw, tokens: Any, losses: Any) -> float:
    predicted = law.floor + law.scale * tokens**-law.exponent
    return float(np.mean((predicted - losses) ** 2))
