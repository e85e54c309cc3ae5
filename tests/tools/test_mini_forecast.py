"""A power law through a loss curve finds the law that made it, and says when there is too little of one."""

from __future__ import annotations

import numpy as np
import pytest

from flan_lora.errors import FlanLoraError
from tools.mini.forecast import PowerLaw, backtest, fit


def _records(law: PowerLaw, count: int, noise: float = 0.02) -> list[dict[str, float]]:
    rng = np.random.default_rng(0)
    tokens = [1e6 * (n + 1) / 10 for n in range(count)]
    return [{"source_tokens": t, "loss": law.loss(t) + noise * rng.standard_normal()} for t in tokens]


def test_a_known_law_is_found_again_far_beyond_the_log():
    law = PowerLaw(2.0, 4.0, 0.3)
    found = fit(_records(law, 400))
    assert found.loss(250e6) == pytest.approx(law.loss(250e6), abs=0.1)
    assert found.loss(20e6) == pytest.approx(law.loss(20e6), abs=0.02)


def test_the_first_half_tells_the_end_and_a_bend_shows():
    law = PowerLaw(2.0, 4.0, 0.3)
    records = _records(law, 400)
    forecast, measured = backtest(records)
    assert forecast == pytest.approx(measured, abs=0.05)
    for record in records[300:]:
        record["loss"] += 0.5
    forecast, measured = backtest(records)
    assert measured - forecast > 0.4


def test_too_short_a_log_is_refused():
    with pytest.raises(FlanLoraError, match="too few for a curve"):
        fit(_records(PowerLaw(2.0, 4.0, 0.3), 12))
