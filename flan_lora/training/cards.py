"""Which dials make a run fit a GPU of some size: the recipe's own first, then one change after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flan_lora.recipe import Recipe
from flan_lora.training.estimate import Estimate, Lengths, Machine, estimate

if TYPE_CHECKING:
    from transformers import T5Config

CARDS_GB = (16, 24, 80)
"""T4 and A4000, RTX 4090 and A10, A100 and H100."""
USABLE_SHARE = 0.9
"""Of a card's memory: the rest is the driver's, lost between blocks, or what the estimate misses."""
_CHEAPER = {"fp32": ("bf16", "int8", "nf4"), "bf16": ("int8", "nf4"), "int8": ("nf4",), "nf4": ()}


@dataclass(frozen=True)
class CardPlan:
    """How a recipe is trained on a card with hardware bf16."""

    card_gb: int
    fits: bool
    changes: tuple[str, ...]
    """What to ``--set``; the last try where nothing fits."""
    peak_bytes: int

    def __str__(self) -> str:
        dials = " ".join(f"--set {change}" for change in self.changes) or "as it is"
        size = f"{self.peak_bytes / 1e9:.1f} GB"
        return f"{size}, {dials}" if self.fits else f"does not fit: {size} even with {dials}"


def plan_cards(recipe: Recipe, config: T5Config, lengths: Lengths) -> tuple[CardPlan, ...]:
    """For each of `CARDS_GB` the first tries that fit it. Knows shapes only, loads nothing."""
    tried = [(changes, _cost(recipe, changes, config, lengths)) for changes in _tries(recipe)]
    return tuple(_plan(card_gb, tried) for card_gb in CARDS_GB)


def _plan(card_gb: int, tried: list[tuple[dict[str, Any], Estimate]]) -> CardPlan:
    usable = USABLE_SHARE * card_gb * 1e9
    fitting = [(changes, cost) for changes, cost in tried if cost.peak_bytes <= usable]
    changes, cost = fitting[0] if fitting else min(tried, key=lambda each: each[1].peak_bytes)
    written = tuple(f"{name}={str(value).lower()}" for name, value in changes.items())
    return CardPlan(card_gb, bool(fitting), written, cost.peak_bytes)


def _tries(recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Changes, the least costly first: smaller micro batches, then checkpointing, then fewer bits; each with fewer
    sources per batch of answers where micro batches are smaller."""
    own = recipe.training.micro_batch_size or recipe.training.batch_size
    for quantization in (recipe.base.quantization, *_CHEAPER[recipe.base.quantization]):
        bits = {} if quantization == recipe.base.quantization else {"base.quantization": quantization}
        for checkpoints in sorted({recipe.training.gradient_checkpointing, True}):
            is_new = checkpoints and not recipe.training.gradient_checkpointing
            recomputed = {"training.gradient_checkpointing": True} if is_new else {}
            for micro in _halves(own, recipe.training.batch_size):
                smaller = {} if micro == own else {"training.micro_batch_size": micro}
                fewer = {} if micro == own else _fewer_answers(recipe, micro)
                yield {**bits, **recomputed, **smaller, **fewer}


def _halves(own: int, batch_size: int) -> Iterator[int]:
    """Divisors of the batch, each at most half of the one before."""
    last = 2 * own
    for size in range(own, 0, -1):
        if batch_size % size == 0 and 2 * size <= last:
            last = size
            yield size


def _fewer_answers(recipe: Recipe, micro: int) -> dict[str, Any]:
    most = max(micro, recipe.evaluation.batch_size * micro // recipe.training.batch_size)
    return {"evaluation.batch_size": most} if most < recipe.evaluation.batch_size else {}


def _cost(recipe: Recipe, changes: dict[str, Any], config: T5Config, lengths: Lengths) -> Estimate:
    for name, value in changes.items():
        section, field = name.split(".")
        changed = getattr(recipe, section).model_copy(update={field: value})
        recipe = recipe.model_copy(update={section: changed})
    is_bf16 = recipe.training.precision != "fp32"
    return estimate(recipe, config, lengths, Machine("cuda", bf16=is_bf16))
