"""Adapters of the tiny T5 in a cache, and what they add."""

from __future__ import annotations

from pathlib import Path

import torch

from flan_lora.adapters.weights import PlainFolder, base_linears, open_folder
from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.lease import AdapterState
from tests.published import stage, tiny_fingerprint, tiny_peft
from tests.tiny import tiny_t5

LINEARS = base_linears(tiny_t5())
Q = "encoder.block.0.layer.0.SelfAttention.q"


def folder(path: Path, name: str = "one", seed: int = 0, **lora: object) -> PlainFolder:
    """A plain PEFT folder on the tiny T5, opened."""
    return open_folder(name, stage(path / name, seed, **lora))[0]


def make_cache(*sources: PlainFolder, num_slots: int = 4, **settings: int) -> AdapterCache:
    cache = AdapterCache(LINEARS, fingerprint=tiny_fingerprint(), num_slots=num_slots, **settings)
    for source in sources:
        cache.add(source)
    return cache


def peft_deltas(seed: int, **lora: object) -> dict[str, torch.Tensor]:
    """PEFT's own B A * scaling for every adapted linear."""
    from peft.tuners.lora import LoraLayer

    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach()
        for name, module in tiny_peft(seed, **lora).named_modules()
        if isinstance(module, LoraLayer)
    }


def slot_deltas(cache: AdapterCache, name: str, linears: list[str]) -> dict[str, torch.Tensor]:
    """What the cache adds for one row of an adapter, as weights: the identity goes in."""
    with cache.lease([name]) as lease:
        lora = lease.gather([{name: 1.0}, {}])
        found = {}
        for linear in linears:
            features_in, features_out = LINEARS[linear]
            x = torch.eye(features_in).expand(2, -1, -1)
            added = lora.add_lora(linear, x, torch.zeros(2, features_in, features_out))
            assert not added[1].any(), "the bare row beside it got something"
            found[linear] = added[0].T
        return found


def resident(cache: AdapterCache) -> list[str]:
    return [status.name for status in cache.status() if status.state is AdapterState.RESIDENT]


def use(cache: AdapterCache, *names: str) -> None:
    with cache.lease(names):
        pass
