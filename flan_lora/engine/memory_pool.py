"""The memory of resident LoRA adapters: one tensor of slots, and where each linear's A and B lie in a slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from flan_lora.adapters.weights import AdapterWeights, Linears


@dataclass(frozen=True)
class SlotLayout:
    """Where the A and B of each adapted linear lie in a slot; every linear has room for ``rank``."""

    rank: int
    linears: Linears
    starts: Mapping[str, int]
    """Linear -> place of its A (rank, in), behind which its B^T (rank, out) lies."""
    width: int
    """Numbers per slot."""

    @staticmethod
    def of(rank: int, linears: Linears) -> SlotLayout:
        """Linears one after the other, in the order of their names."""
        starts, width = {}, 0
        for name in sorted(linears):
            starts[name] = width
            width += rank * sum(linears[name])
        return SlotLayout(rank, {name: linears[name] for name in sorted(linears)}, starts, width)

    def holds(self, weights: AdapterWeights) -> bool:
        """Whether an adapter fits as it is."""
        return weights.rank <= self.rank and weights.pairs.keys() <= self.linears.keys()

    def part(self, rows: Tensor, linear: str) -> Tensor:
        """One linear in rows (N, width): (N, rank * (in + out))."""
        start = self.starts[linear]
        return rows[:, start : start + self.rank * sum(self.linears[linear])]

    def views(self, part: Tensor, linear: str) -> tuple[Tensor, Tensor]:
        """A (N, rank, in) and B^T (N, rank, out) in what `part` gave."""
        features_in, features_out = self.linears[linear]
        middle = self.rank * features_in
        a = part[:, :middle].view(-1, self.rank, features_in)
        b = part[:, middle:].view(-1, self.rank, features_out)
        return a, b


@dataclass(frozen=True, eq=False)
class LoraMemoryPool:
    """The stacked adapters: one tensor, so that loading is one copy per linear and a batch copies nothing."""

    layout: SlotLayout
    rows: Tensor
    """(num_slots, width)"""

    def pairs(self, first: int, number: int, linear: str) -> tuple[Tensor, Tensor]:
        """Views of A^T (number, in, rank) and B^T (number, rank, out) in slots that lie one after the other."""
        a, b = self.layout.views(self.layout.part(self.rows[first : first + number], linear), linear)
        return a.transpose(1, 2), b

    def write(self, slot: int, weights: AdapterWeights) -> None:
        """Make ``slot`` this adapter; ranks and linears that it lacks are zeros."""
        there = self.rows[slot : slot + 1]
        row = there if there.device.type == "cpu" else torch.empty(there.shape, dtype=there.dtype)
        for linear in self.layout.linears:
            part = self.layout.part(row, linear)
            pair = weights.pairs.get(linear)
            if pair is None or len(pair[0]) < self.layout.rank:
                part.zero_()
            if pair is not None:
                (a, b), (to_a, to_b) = pair, self.layout.views(part, linear)
                to_a[0, : len(a)] = a
                torch.mul(b.T, weights.scalings[linear], out=to_b[0, : len(a)])
        if row is not there:
            there.copy_(row)

    @staticmethod
    def empty(num_slots: int, *, dtype: torch.dtype, device: torch.device) -> LoraMemoryPool:
        """Slots without room for any linear."""
        return LoraMemoryPool(SlotLayout.of(0, {}), torch.zeros(num_slots, 0, dtype=dtype, device=device))

    def with_room_for(self, weights: AdapterWeights, linears: Linears) -> LoraMemoryPool:
        """Itself, or a larger copy if the adapter's rank or linears ask for it; who uses this one keeps it.

        Args:
            linears: of the base.
        """
        if self.layout.holds(weights):
            return self
        wanted = {**self.layout.linears, **{linear: linears[linear] for linear in weights.pairs}}
        return self.grown(SlotLayout.of(max(self.layout.rank, weights.rank), wanted))

    def grown(self, layout: SlotLayout) -> LoraMemoryPool:
        """The same adapters in a roomier layout."""
        larger = LoraMemoryPool(layout, self.rows.new_zeros(self.rows.shape[0], layout.width))
        for linear in self.layout.linears:
            new_part, old_part = layout.part(larger.rows, linear), self.layout.part(self.rows, linear)
            pairs = zip(layout.views(new_part, linear), self.layout.views(old_part, linear), strict=True)
            for new, old in pairs:
                new[:, : self.layout.rank] = old
        return larger
