"""What adapters add to the linears of a base: where their A and B lie, and which rows of a batch use which.

Knows tensors and slot numbers; never an adapter's name, a file or a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flan_lora.lora import AdapterWeights, Linears


@dataclass(frozen=True)
class Layout:
    """Where the A and B of each adapted linear lie in a slot; every linear has room for ``rank``."""

    rank: int
    linears: Linears
    starts: Mapping[str, int]
    """Linear -> place of its A (rank, in), behind which its B^T (rank, out) lies."""
    width: int
    """Numbers per slot."""

    @staticmethod
    def of(rank: int, linears: Linears) -> Layout:
        """Linears one after the other, in the order of their names."""
        starts, width = {}, 0
        for name in sorted(linears):
            starts[name] = width
            width += rank * sum(linears[name])
        return Layout(rank, {name: linears[name] for name in sorted(linears)}, starts, width)

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
class Slots:
    """The stacked adapters: one tensor, so that loading is one copy per linear and a batch copies nothing."""

    layout: Layout
    rows: Tensor
    """(num_slots, width)"""
    _pairs: dict[tuple[int, str], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def pair(self, slot: int, linear: str) -> tuple[Tensor, Tensor]:
        """A^T (in, rank) and B^T (rank, out) of one adapter in one linear: views, made once."""
        found = self._pairs.get((slot, linear))
        if found is None:
            a, b = self.layout.views(self.layout.part(self.rows[slot : slot + 1], linear), linear)
            found = self._pairs[slot, linear] = a[0].T, b[0]
        return found

    def write(self, slot: int, weights: AdapterWeights) -> None:
        """Make ``slot`` this adapter; ranks and linears that it lacks are zeros."""
        row = torch.zeros(1, self.layout.width, dtype=self.rows.dtype)
        for linear, (a, b) in weights.pairs.items():
            rank, (to_a, to_b) = a.shape[0], self.layout.views(self.layout.part(row, linear), linear)
            to_a[0, :rank], to_b[0, :rank] = a, b
        self.rows[slot : slot + 1] = row.to(self.rows.device)

    def grown(self, layout: Layout) -> Slots:
        """The same adapters in a roomier layout."""
        larger = Slots(layout, self.rows.new_zeros(self.rows.shape[0], layout.width))
        for linear in self.layout.linears:
            new_part, old_part = layout.part(larger.rows, linear), self.layout.part(self.rows, linear)
            pairs = zip(layout.views(new_part, linear), self.layout.views(old_part, linear), strict=True)
            for new, old in pairs:
                new[:, : self.layout.rank] = old
        return larger


@dataclass(frozen=True, slots=True)
class Update:
    """One adapter of one row: where it lies, and how much of it."""

    slots: Slots
    slot: int
    linears: frozenset[str]
    weight: float


_MANY_SEGMENTS = 2
"""More than these are gathered on a GPU: four launches per linear for all, in place of two for each."""


class Deltas:
    """The updates of the rows of a batch: ``add`` is all that a linear of the base ever sees.

    Neighbours with the same updates are one segment, one pair of small products per linear. Nothing is copied:
    each segment reads its adapters where they lie, and they may lie in slots of different layouts. Only on a GPU,
    where launching a product takes longer than to copy what it reads, many segments are `Gathered` instead.
    """

    def __init__(self, rows: Sequence[tuple[Update, ...]]) -> None:
        self._rows = tuple(rows)
        self._segments: list[tuple[int, int, tuple[Update, ...]]] = []
        for place, updates in enumerate(self._rows):
            if self._segments and self._segments[-1][2] == updates:
                self._segments[-1] = self._segments[-1][0], place + 1, updates
            else:
                self._segments.append((place, place + 1, updates))
        distinct = {update for _, _, updates in self._segments for update in updates}
        self._linears = frozenset[str]().union(*(update.linears for update in distinct))
        self._dtype = next((update.slots.rows.dtype for update in distinct), None)
        self._gathered: Gathered | None = None
        slots = {id(update.slots): update.slots for update in distinct}
        self._to_gather = None  # the slots to do it from
        if len(self._segments) > _MANY_SEGMENTS and len(slots) == 1:
            (only,) = slots.values()
            self._to_gather = only if only.rows.is_cuda else None

    def cast(self, x: Tensor) -> Tensor:
        """``x`` in the dtype of the updates, once for all linears that read it; as it is if none will."""
        return x if self._dtype is None else x.to(self._dtype)

    def add(self, linear: str, x: Tensor, out: Tensor) -> Tensor:
        """``out``, written in place: plus each row's update of ``x`` in the named linear.

        Shapes (R rows of the batch, W sequences per row, T tokens): x (R * W, T, in), out (R * W, T, out).
        Sequences of one row (beams) lie together and share the row's updates.

        Source: h = W0 x + s B A x, arXiv:2106.09685 section 4.1; s is folded into B.
        """
        if linear not in self._linears:
            return out
        if self._to_gather is not None:
            if self._gathered is None:
                numbers, weights = slot_numbers(self._rows)
                is_plain = bool((weights == 1).all())
                self._gathered = Gathered(self._to_gather, numbers, None if is_plain else weights)
            return self._gathered.add(linear, x, out)
        flat, result = x.reshape(-1, x.shape[-1]), out.view(-1, out.shape[-1])
        per_row = flat.shape[0] // len(self._rows)
        for start, stop, updates in self._segments:
            own = slice(start * per_row, stop * per_row)
            for update in updates:
                if linear not in update.linears:
                    continue
                a, b = update.slots.pair(update.slot, linear)
                low = flat[own] @ a
                if result.dtype == low.dtype:
                    result[own].addmm_(low, b, alpha=update.weight)
                else:  # summed in the update's dtype, then rounded once
                    result[own] += (low @ b) * update.weight
        return out

    def select(self, rows: Sequence[int]) -> Deltas:
        """The deltas of some of the rows, when the others have left the batch."""
        return Deltas([self._rows[row] for row in rows])

    def repeat(self, width: int) -> Deltas:
        """One row per sequence, where each row decodes ``width`` of them."""
        return self if width == 1 else Deltas([updates for updates in self._rows for _ in range(width)])

    @staticmethod
    def joined(parts: Sequence[Deltas]) -> Deltas:
        """The rows of several, one after the other."""
        return parts[0] if len(parts) == 1 else Deltas([updates for part in parts for updates in part._rows])


class Gathered:
    """The updates of rows by the numbers of their slots: the same launches whatever those are, for all at once.

    The numbers may be changed in place between two uses, which is what lets a GPU replay them.
    """

    def __init__(self, slots: Slots, numbers: Tensor, weights: Tensor | None) -> None:
        """
        Args:
            numbers: of the slots, (R rows, K updates of each) int64; slot 0 for want of one.
            weights: of the updates, (R, K); None is 1 for all.
        """
        self._slots = slots
        self.numbers = numbers.to(slots.rows.device)
        self.weights = None if weights is None else weights.to(slots.rows)

    def cast(self, x: Tensor) -> Tensor:
        """As `Deltas.cast`."""
        return x.to(self._slots.rows.dtype)

    def add(self, linear: str, x: Tensor, out: Tensor) -> Tensor:
        """As `Deltas.add`."""
        layout, (num_rows, num_updates) = self._slots.layout, self.numbers.shape
        if linear not in layout.linears:
            return out
        x, result = x.reshape(num_rows, -1, x.shape[-1]), out.view(num_rows, -1, out.shape[-1])
        part = layout.part(self._slots.rows, linear)
        for update in range(num_updates):
            a, b = layout.views(part.index_select(0, self.numbers[:, update]), linear)
            low = torch.bmm(x, a.transpose(1, 2))
            if self.weights is not None:
                low *= self.weights[:, update, None, None]
            if result.dtype == low.dtype:
                result.baddbmm_(low, b)
            else:  # summed in the update's dtype, then rounded once
                result += torch.bmm(low, b)
        return out


def slot_numbers(rows: Sequence[tuple[Update, ...]], most: int | None = None) -> tuple[Tensor, Tensor]:
    """Numbers of slots and weights of updates (R, K), for rows whose updates lie in the same slots.

    Args:
        most: K, at least the most updates of a row; None is just that.
    """
    shape = len(rows), max(map(len, rows), default=0) if most is None else most
    numbers, weights = torch.zeros(shape, dtype=torch.int64), torch.ones(shape)
    for row, updates in enumerate(rows):
        for place, update in enumerate(updates):
            numbers[row, place], weights[row, place] = update.slot, update.weight
    return numbers, weights


NO_DELTAS = Deltas(())
"""Every row is the bare base."""
