"""Every row gets its own updates, and neighbours share products where their slots allow it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from flan_lora.engine.lora_batch import AdapterRef, SegmentedLora
from flan_lora.engine.memory_pool import LoraMemoryPool, SlotLayout

LINEARS = {"q": (5, 4), "wo": (7, 5)}
LAYOUT = SlotLayout.of(3, LINEARS)


def make_slots(seed: int, num_slots: int = 6) -> LoraMemoryPool:
    generator = torch.Generator().manual_seed(seed)
    return LoraMemoryPool(LAYOUT, torch.randn(num_slots, LAYOUT.width, generator=generator, dtype=torch.float64))


SLOTS, OTHERS = make_slots(0), make_slots(1)


def update(
    slot: int, weight: float = 1.0, pool: LoraMemoryPool = SLOTS, linears: Sequence[str] = ("q", "wo")
) -> AdapterRef:
    return AdapterRef(pool, slot, frozenset(linears), weight)


def by_hand(
    linear: str, x: torch.Tensor, out: torch.Tensor, rows: Sequence[tuple[AdapterRef, ...]]
) -> torch.Tensor:
    """Row by row, update by update."""
    width, found = len(x) // len(rows), out.clone()
    for row, updates in enumerate(rows):
        own = slice(row * width, (row + 1) * width)
        for each in updates:
            if linear in each.linears:
                a, b = LAYOUT.views(LAYOUT.part(each.pool.rows[each.slot : each.slot + 1], linear), linear)
                found[own] += each.weight * (x[own] @ a[0].T @ b[0])
    return found


@pytest.mark.parametrize("seed", range(60))
def test_every_row_gets_its_own_updates(seed: int) -> None:
    draw = random.Random(seed)
    choices = [
        (),
        *((update(slot),) for slot in range(1, 6)),
        (update(2, 0.5),),
        (update(3, 0.5),),
        (update(3, pool=OTHERS),),
        (update(4, linears=["q"]),),
        (update(1, 0.3), update(2, 0.7)),
        (update(5), update(1, -1.0, OTHERS)),
    ]
    rows = [draw.choice(choices) for _ in range(draw.randrange(1, 12))]
    if draw.random() < 0.5:
        rows.sort(key=lambda updates: [each.slot for each in updates])
    width, tokens = draw.choice((1, 3)), draw.choice((1, 4))
    generator = torch.Generator().manual_seed(seed)
    for linear, (features_in, features_out) in LINEARS.items():
        x = torch.randn(len(rows) * width, tokens, features_in, generator=generator, dtype=torch.float64)
        out = torch.randn(len(rows) * width, tokens, features_out, generator=generator, dtype=torch.float64)
        expected = by_hand(linear, x, out, rows)
        torch.testing.assert_close(
            SegmentedLora([own for own in rows for _ in range(width)]).add_lora(linear, x, out), expected
        )


@pytest.mark.parametrize(
    ("rows", "segments"),
    [
        ([1, 1, 2, 2, 3, 3], [(0, 6, 3)]),
        ([1, 2, 3, 4], [(0, 4, 4)]),
        ([2, 2, 2], [(0, 3, 1)]),
        ([1, 1, 2], [(0, 2, 1), (2, 3, 1)]),
        ([1, 2, 2], [(0, 1, 1), (1, 3, 1)]),
        ([1, 3, 2], [(0, 1, 1), (1, 2, 1), (2, 3, 1)]),
        ([1, 2, 1, 2], [(0, 2, 2), (2, 4, 2)]),
        ([1, None, 2], [(0, 1, 1), (2, 3, 1)]),
    ],
)
def test_neighbours_in_batch_and_slots_share_their_products(
    rows: list[int | None], segments: list[tuple[int, int, int]]
) -> None:
    lora = SegmentedLora([() if slot is None else (update(slot),) for slot in rows])
    assert [(run.start, run.stop, run.number) for run, *_ in lora.segments("q")] == segments


@pytest.mark.parametrize(
    "change",
    [{"weight": 0.5}, {"pool": OTHERS}, {"linears": frozenset(["q"])}],
    ids=lambda change: next(iter(change)),
)
def test_only_updates_that_are_alike_share_products(change: dict[str, object]) -> None:
    lora = SegmentedLora([(update(1),), (replace(update(2), **change),)])
    assert len(lora.segments("q")) == 2
