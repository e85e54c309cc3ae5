"""Weights of a mix, searched without gradients: every candidate is one evaluation of a loss on a few rows.

Knows names, weights and a loss; never a tensor or a text.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flan_lora.errors import FlanLoraError, RequestError

Loss = Callable[[Mapping[str, float]], float]
"""Adapter -> weight, those of weight 0 left out (none: the bare base), to nats per target token."""
OPTIMIZER = "Cobyla"
"""What nevergrad's NGOpt, which LoraHub takes, chooses for so few weights and evaluations (docs/log.md compares);
named itself, because NGOpt's models of the loss fail beside NumPy 2.4."""
_DIGITS = 3
"""Of a weight: what is printed is what was evaluated."""


@dataclass(frozen=True)
class SearchSettings:
    """How weights are searched. The defaults are LoraHub's (arXiv:2307.13269, sections 3.3 and 4.1)."""

    budget: int = 40
    """Evaluations of the loss, those of the base and of each adapter alone among them."""
    l1: float = 0.05
    """Added to the loss: this times the mean absolute weight, so that few adapters are used."""
    max_weight: float = 1.5
    """Bound of a weight, either way."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One mix and how it did."""

    weights: Mapping[str, float]
    """Without those of weight 0; empty: the bare base."""
    loss: float
    """Nats per target token."""
    objective: float
    """What is minimised: the loss and the L1 term."""


@dataclass(frozen=True)
class SearchResult:
    """All that was tried, in order."""

    evaluated: tuple[Evaluated, ...]
    settings: SearchSettings

    @property
    def best(self) -> Evaluated:
        """The lowest objective; of equals the one that was tried first."""
        return min(self.evaluated, key=lambda each: each.objective)

    @property
    def base(self) -> Evaluated:
        """No adapter."""
        return next(each for each in self.evaluated if not each.weights)

    @property
    def single(self) -> Evaluated:
        """Of the adapters alone, at weight 1, the one with the lowest loss."""
        alone = [each for each in self.evaluated if list(each.weights.values()) == [1.0]]
        return min(alone, key=lambda each: each.loss)


def search_weights(names: Sequence[str], loss: Loss, settings: SearchSettings) -> SearchResult:
    """Find weights for a mix of the named adapters.

    The bare base and each adapter alone come first, so that none of them beats what is found; then COBYLA goes on
    from the bare base, by linear models of the loss. Nothing is drawn: equal losses give equal searches.

    Raises:
        RequestError: no adapters, or a budget that ends before the search begins.
        FlanLoraError: nevergrad is not installed, or no candidate has a finite loss.

    Source: LoraHub, arXiv:2307.13269, section 3.3; Powell (1994), A direct search optimization method that models
    the objective and constraint functions by linear interpolation.
    """
    _check(names, settings)
    evaluated = [_evaluate(names, point, loss, settings) for point in _starts(len(names))]
    for point, tell in _proposals(len(names), settings, settings.budget - len(evaluated)):
        found = _evaluate(names, point, loss, settings)
        evaluated.append(found)
        tell(found.objective)
    if not any(math.isfinite(each.objective) for each in evaluated):
        raise FlanLoraError(
            f"none of {len(evaluated)} mixes has a finite loss on these rows, not even the bare base.\n"
            "Look at the rows (flan-lora data inspect), or at the adapters (flan-lora adapter verify)."
        )
    return SearchResult(tuple(evaluated), settings)


def check_nevergrad() -> None:
    """Raise FlanLoraError with the remedy where the search cannot run."""
    try:
        _nevergrad()
    except ImportError as error:
        raise FlanLoraError(
            "composing adapters needs nevergrad, which is not installed.\n"
            "Install it: pip install 'flan-lora[compose]'"
        ) from error


def _check(names: Sequence[str], settings: SearchSettings) -> None:
    check_nevergrad()
    if not names:
        raise RequestError("there are no adapters to compose.\nPublish some (flan-lora train), or name them.")
    least = len(names) + 2
    if settings.budget < least:
        raise RequestError(
            f"a budget of {settings.budget} evaluations ends before the search begins: the base and each of "
            f"{len(names)} adapters take one.\nGive at least {least}, or name fewer adapters."
        )


def _starts(num_names: int) -> Iterator[list[float]]:
    """The bare base, then each adapter alone."""
    yield [0.0] * num_names
    for place in range(num_names):
        yield [float(place == other) for other in range(num_names)]


def _evaluate(names: Sequence[str], point: Sequence[float], loss: Loss, settings: SearchSettings) -> Evaluated:
    weights = {name: weight for name, value in zip(names, point, strict=True) if (weight := round(value, _DIGITS))}
    found = loss(weights)
    found = found if math.isfinite(found) else math.inf
    penalty = settings.l1 * sum(map(abs, weights.values())) / len(names)
    return Evaluated(weights, found, found + penalty)


def _proposals(
    num_names: int, settings: SearchSettings, number: int
) -> Iterator[tuple[list[float], Callable[[float], None]]]:
    """So many points to try, each with whom to tell what came of it."""
    ng, bound = _nevergrad(), settings.max_weight
    array = ng.p.Array(init=[0.0] * num_names, lower=[-bound] * num_names, upper=[bound] * num_names)
    with warnings.catch_warnings():  # of the libraries below it, about themselves
        warnings.simplefilter("ignore")
        optimizer = ng.optimizers.registry[OPTIMIZER](parametrization=array, budget=number)
        for _ in range(number):
            candidate = optimizer.ask()

            def tell(objective: float, own: Any = candidate) -> None:
                optimizer.tell(own, _finite(objective))

            yield list(map(float, candidate.value)), tell


def _finite(objective: float) -> float:
    """What an optimizer can order: worse than every loss there is."""
    return objective if math.isfinite(objective) else 1e6


def _nevergrad() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nevergrad
    return nevergrad
