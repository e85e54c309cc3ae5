"""Weights of a mix found without gradients: on losses whose minimum is known."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping

import pytest

from flan_lora.composition.search import SearchSettings, search_weights
from flan_lora.errors import FlanLoraError, RequestError

NAMES = ("a", "b", "c")
BEST = {"a": 0.8, "b": -0.4, "c": 0.0}


def bowl(weights: Mapping[str, float]) -> float:
    return 1.0 + sum((weights.get(name, 0.0) - best) ** 2 for name, best in BEST.items())


def test_the_minimum_is_found_and_nothing_tried_is_better() -> None:
    found = search_weights(NAMES, bowl, SearchSettings(budget=60, l1=0.0))
    assert found.best.loss < 1.02 and found.best.loss == min(each.loss for each in found.evaluated)
    assert found.best.weights["a"] == pytest.approx(0.8, abs=0.15)
    assert found.best.weights["b"] == pytest.approx(-0.4, abs=0.15), "weights may be negative"


def test_the_base_and_each_adapter_alone_come_first_and_count_in_the_budget() -> None:
    asked: list[Mapping[str, float]] = []

    def loss(weights: Mapping[str, float]) -> float:
        asked.append(weights)
        return bowl(weights)

    found = search_weights(NAMES, loss, SearchSettings(budget=12))
    assert asked[:4] == [{}, {"a": 1.0}, {"b": 1.0}, {"c": 1.0}] and len(asked) == 12
    assert found.base.weights == {} and found.single.weights == {"a": 1.0}
    assert [each.weights for each in found.evaluated] == asked


def test_equal_losses_give_equal_searches() -> None:
    first, again = (
        [each.weights for each in search_weights(NAMES, bowl, SearchSettings(budget=15)).evaluated]
        for _ in range(2)
    )
    assert first == again


def test_weights_stay_within_their_bounds() -> None:
    def downhill(weights: Mapping[str, float]) -> float:
        return -weights.get("a", 0.0) + weights.get("b", 0.0)

    found = search_weights(NAMES, downhill, SearchSettings(budget=60, l1=0.0, max_weight=1.5))
    values = [value for each in found.evaluated for value in each.weights.values()]
    assert max(map(abs, values)) <= 1.5
    assert found.best.weights["a"] > 1.2 and found.best.weights["b"] < -1.2


def test_the_l1_term_prefers_fewer_adapters() -> None:
    """Of two mixes of one loss the one with the smaller mean absolute weight is the best."""
    found = search_weights(NAMES, lambda _: 1.0, SearchSettings(budget=10))
    assert found.best.weights == {}
    assert found.evaluated[1].objective == pytest.approx(1.0 + 0.05 / 3)


def test_a_mix_without_numbers_is_never_the_best() -> None:
    found = search_weights(
        NAMES, lambda weights: math.nan if "a" in weights else bowl(weights), SearchSettings(budget=20)
    )
    assert "a" not in found.best.weights and math.isfinite(found.best.loss)
    with pytest.raises(FlanLoraError, match="none of 6 mixes has a finite loss"):
        search_weights(NAMES, lambda _: math.nan, SearchSettings(budget=6))


@pytest.mark.parametrize(
    ("names", "budget", "problem"),
    [((), 40, "no adapters to compose"), (NAMES, 4, r"budget of 4 .*\nGive at least 5")],
)
def test_what_cannot_be_searched_is_refused(names: tuple[str, ...], budget: int, problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        search_weights(names, bowl, SearchSettings(budget=budget))


def test_without_nevergrad_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nevergrad", None)
    with pytest.raises(FlanLoraError, match=r"pip install 'flan-lora\[compose\]'"):
        search_weights(NAMES, bowl, SearchSettings())
