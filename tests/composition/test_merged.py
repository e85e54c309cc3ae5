"""A mix as one adapter: the sum of its updates, or the nearest of a lower rank."""

from __future__ import annotations

import pytest
import torch

from flan_lora.adapters.weights import AdapterWeights
from flan_lora.composition.merged import merge_mix
from flan_lora.errors import AdapterError

LINEARS = {"encoder.q": (12, 8), "decoder.q": (12, 10), "encoder.wo": (9, 12), "encoder.k": (12, 8)}
MIX = {"one": 0.7, "two": -0.4}


def part(name: str, rank: int, linears: tuple[str, ...], scaling: float, seed: int) -> AdapterWeights:
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for linear in linears:
        features_in, features_out = LINEARS[linear]
        pairs[linear] = (
            torch.randn(rank, features_in, generator=generator),
            torch.randn(features_out, rank, generator=generator),
        )
    return AdapterWeights(name, pairs, dict.fromkeys(linears, scaling))


PARTS = [part("one", 2, ("encoder.q", "encoder.wo"), 2.0, 0), part("two", 3, ("encoder.q", "decoder.q"), 0.5, 1)]


def summed(linear: str) -> torch.Tensor:
    features_in, features_out = LINEARS[linear]
    total = torch.zeros(features_out, features_in)
    for each in PARTS:
        if linear in each.pairs:
            a, b = each.pairs[linear]
            total += MIX[each.name] * each.scalings[linear] * (b @ a)
    return total


def test_with_room_for_all_ranks_the_merged_update_is_the_mix() -> None:
    merged = merge_mix(PARTS, MIX, LINEARS, rank=5)
    for linear, (a, b) in merged.pairs.items():
        assert a.shape == (5, LINEARS[linear][0]) and b.shape == (LINEARS[linear][1], 5)
        torch.testing.assert_close(b @ a, summed(linear), rtol=1e-5, atol=1e-5)
    assert merged.relative_error == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_lower_rank_is_the_nearest_and_its_error_is_the_measured_one(rank: int) -> None:
    merged = merge_mix(PARTS, MIX, LINEARS, rank)
    lost = total = 0.0
    for linear, (a, b) in merged.pairs.items():
        whole = summed(linear)
        u, s, v = torch.linalg.svd(whole)
        nearest = (u[:, :rank] * s[:rank]) @ v[:rank]
        torch.testing.assert_close(b @ a, nearest, rtol=1e-4, atol=1e-4)
        if whole.any():
            assert merged.errors[linear] == pytest.approx(float((whole - b @ a).norm() / whole.norm()), abs=1e-5)
        lost += float((whole - b @ a).square().sum())
        total += float(whole.square().sum())
    assert merged.relative_error == pytest.approx((lost / total) ** 0.5, abs=1e-5)
    assert merged.largest_error[1] == max(merged.errors.values()) > 0.05


def test_the_rank_is_the_parts_largest_and_every_linear_of_a_changed_name_gets_an_update() -> None:
    merged = merge_mix(PARTS, MIX, LINEARS)
    assert merged.rank == 3
    assert set(merged.pairs) == {"encoder.q", "decoder.q", "encoder.wo"}, "nobody changes a k"
    alone = merge_mix(PARTS[:1], {"one": 0.7}, LINEARS)
    assert not (alone.pairs["decoder.q"][1] @ alone.pairs["decoder.q"][0]).any() and alone.rank == 2


def test_a_dora_is_refused_by_name() -> None:
    dora = AdapterWeights("heavy", PARTS[0].pairs, PARTS[0].scalings, {"encoder.q": torch.ones(8)})
    with pytest.raises(AdapterError, match="heavy: DoRA"):
        merge_mix([dora], {"heavy": 1.0}, LINEARS)
