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
    is_rescaled: bool = False
    """Whether behind B^T there is room for what DoRA multiplies the base's outputs by, less 1 (out,)."""

    @staticmethod
    def of(rank: int, linears: Linears, *, is_rescaled: bool = False) -> SlotLayout:
        """Linears one after the other, in the order of their names."""
        starts, width = {}, 0
        for name in sorted(linears):
            starts[name] = width
            width += rank * sum(linears[name]) + is_rescaled * linears[name][1]
        return SlotLayout(rank, {name: linears[name] for name in sorted(linears)}, starts, width, is_rescaled)

    def holds(self, weights: AdapterWeights) -> bool:
        """Whether an adapter fits as it is."""
        has_room = weights.rank <= self.rank and weights.pairs.keys() <= self.linears.keys()
        return has_room and (self.is_rescaled or not weights.rescales)

    def part(self, rows: Tensor, linear: str) -> Tensor:
        """One linear in rows (N, width): (N, rank * (in + out)), and out more where it is rescaled."""
        start, (features_in, features_out) = self.starts[linear], self.linears[linear]
        stop = start + self.rank * (features_in + features_out) + self.is_rescaled * features_out
        return rows[:, start:stop]

    def views(self, part: Tensor, linear: str) -> tuple[Tensor, Tensor]:
        """A (N, rank, in) and B^T (N, rank, out) in what `part` gave."""
        features_in, features_out = self.linears[linear]
        middle, end = self.rank * features_in, self.rank * (features_in + features_out)
        a = part[:, :middle].view(-1, self.rank, features_in)
        b = part[:, middle:end].view(-1, self.rank, features_out)
        return a, b

    def rescale(self, part: Tensor, linear: str) -> Tensor | None:
        """(N, out) in what `part` gave; None where there is no room for it."""
        return part[:, self.rank * sum(self.linears[linear]) :] if self.is_rescaled else None


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

    def rescale(self, first: int, number: int, linear: str) -> Tensor | None:
        """View of `SlotLayout.rescale` (number, 1, out) in slots that lie one after the other."""
        part = self.layout.part(self.rows[first : first + number], linear)
        found = self.layout.rescale(part, linear)
        return None if found is None else found[:, None]

    def write(self, slot: int, weights: AdapterWeights) -> None:
        """Make ``slot`` this adapter; ranks and linears that it lacks are zeros."""
        there = self.rows[slot : slot + 1]
        row = there if there.device.type == "cpu" else torch.empty(there.shape, dtype=there.dtype)
        for linear in self.layout.linears:
            part = self.layout.part(row, linear)
            pair = weights.pairs.get(linear)
            if pair is None or len(pair[0]) < self.layout.rank or self.layout.is_rescaled:
                part.zero_()
            if pair is not None:
                (a, b), (to_a, to_b) = pair, self.layout.views(part, linear)
                to_a[0, : len(a)] = a
                torch.mul(b.T, weights.scalings[linear], out=to_b[0, : len(a)])
            if linear in weights.rescales:
                rescale = self.layout.rescale(part, linear)
                assert rescale is not None, "an adapter is written where it fits"
                rescale[0] = weights.rescales[linear]
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
        is_rescaled = self.layout.is_rescaled or bool(weights.rescales)
        return self.grown(SlotLayout.of(max(self.layout.rank, weights.rank), wanted, is_rescaled=is_rescaled))

    def grown(self, layout: SlotLayout) -> LoraMemoryPool:
        """The same adapters in a roomier layout."""
        larger = LoraMemoryPool(layout, self.rows.new_zeros(self.rows.shape[0], layout.width))
        for linear in self.layout.linears:
            new_part, old_part = layout.part(larger.rows, linear), self.layout.part(self.rows, linear)
            pairs = zip(layout.views(new_part, linear), self.layout.views(old_part, linear), strict=True)
            for new, old in pairs:
                new[:, : self.layout.rank] = old
            old_rescale, new_rescale = self.layout.rescale(old_part, linear), layout.rescale(new_part, linear)
            if old_rescale is not None and new_rescale is not None:
                new_rescale.copy_(old_rescale)
        return larger
