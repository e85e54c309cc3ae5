"""What adapters add to the linears of a base: where their A and B lie, and which rows of a batch use which.

Knows tensors and slot numbers; never an adapter's name, a file or a token.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import ModuleType

import torch
from torch import Tensor

from flan_lora.adapters.weights import AdapterWeights, Linears

log = logging.getLogger(__name__)


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


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring rows, equally many for each of some updates whose slots lie one after the other."""

    start: int
    stop: int
    first: Update
    number: int = 1

    def joined(self, other: Run) -> Run | None:
        """Both in one, if ``other`` goes on where this ends."""
        is_next = replace(self.first, slot=self.first.slot + self.number) == other.first
        num_rows = (self.stop - self.start) // self.number
        if self.stop != other.start or not is_next or other.number * num_rows != other.stop - other.start:
            return None
        return Run(self.start, other.stop, self.first, self.number + other.number)


class Deltas:
    """The updates of the rows of a batch: ``add`` is all that a linear of the base ever sees.

    Rows of one `Run` share a pair of small products per linear. Nothing is copied: each run reads its adapters
    where they lie, and they may lie in slots of different layouts. Only on a GPU, where launching a product takes
    longer than running it, rows whose adapters lie together are `Numbered`.
    """

    def __init__(self, rows: Sequence[tuple[Update, ...]]) -> None:
        self._rows = tuple(rows)
        self._runs = _runs(self._rows)
        self._pairs: dict[str, list[tuple[Run, Tensor, Tensor]]] = {}
        distinct = {update for updates in self._rows for update in updates}
        self._linears = frozenset[str]().union(*(update.linears for update in distinct))
        self._dtype = next((update.slots.rows.dtype for update in distinct), None)
        slots = {id(update.slots): update.slots for update in distinct}
        self._slots = next(iter(slots.values())) if len(slots) == 1 else None

    def cast(self, x: Tensor) -> Tensor:
        """``x`` in the dtype of the updates, once for all linears that read it; as it is if none will."""
        if self._numbered is not None:
            return self._numbered.cast(x)
        return x if self._dtype is None else x.to(self._dtype)

    def add(self, linear: str, x: Tensor, out: Tensor) -> Tensor:
        """``out``, written in place: plus each row's update of ``x`` in the named linear.

        Shapes (R rows of the batch, W sequences per row, T tokens): x (R * W, T, in), out (R * W, T, out).
        Sequences of one row (beams) lie together and share the row's updates.

        Source: h = W0 x + s B A x, arXiv:2106.09685 section 4.1; s is folded into B.
        """
        if linear not in self._linears:
            return out
        if self._numbered is not None:
            return self._numbered.add(linear, x, out)
        flat, result = x.reshape(-1, x.shape[-1]), out.view(-1, out.shape[-1])
        per_row = flat.shape[0] // len(self._rows)
        for run, a, b in self._pairs_of(linear):
            own, weight = slice(run.start * per_row, run.stop * per_row), run.first.weight
            low = torch.bmm(flat[own].view(run.number, -1, flat.shape[-1]), a)
            there = result[own].view(run.number, -1, result.shape[-1])
            if result.dtype == low.dtype:
                there.baddbmm_(low, b, alpha=weight)
            else:  # summed in the update's dtype, then rounded once
                there += torch.bmm(low, b) * weight
        return out

    def select(self, rows: Sequence[int]) -> Deltas:
        """The deltas of some of the rows, when the others have left the batch."""
        return Deltas([self._rows[row] for row in rows])

    def repeat(self, width: int) -> Deltas:
        """One row per sequence, where each row decodes ``width`` of them."""
        return self if width == 1 else Deltas([updates for updates in self._rows for _ in range(width)])

    def _pairs_of(self, linear: str) -> list[tuple[Run, Tensor, Tensor]]:
        """The runs that change a linear, with what they read; the same for every step."""
        found = self._pairs.get(linear)
        if found is None:
            runs = [run for run in self._runs if linear in run.first.linears]
            found = [(run, *run.first.slots.pairs(run.first.slot, run.number, linear)) for run in runs]
            self._pairs[linear] = found
        return found

    @cached_property
    def _numbered(self) -> Numbered | None:
        slots = self._slots
        return Numbered.of(slots, self._rows) if slots is not None and slots.rows.is_cuda else None

    @staticmethod
    def joined(parts: Sequence[Deltas]) -> Deltas:
        """The rows of several, one after the other."""
        return parts[0] if len(parts) == 1 else Deltas([updates for part in parts for updates in part._rows])


class Numbered:
    """The updates of rows by the numbers of their slots: the same launches whatever those are, for all at once.

    The numbers may be changed in place between two uses, which is what lets a GPU replay them.
    """

    def __init__(self, slots: Slots, num_rows: int, num_updates: int, *, is_weighted: bool) -> None:
        """The bare base for every row.

        Args:
            num_updates: of a row, at most.
            is_weighted: whether an update may have another weight than 1.
        """
        self._slots = slots
        self._numbers = torch.zeros(num_rows, num_updates, dtype=torch.int64, device=slots.rows.device)
        self._weights = slots.rows.new_ones(num_rows, num_updates) if is_weighted else None
        self._kernels = _kernels() if slots.rows.is_cuda else None

    @staticmethod
    def of(slots: Slots, rows: Sequence[tuple[Update, ...]]) -> Numbered:
        """These rows, whose updates lie in these slots."""
        is_weighted = any(update.weight != 1 for updates in rows for update in updates)
        numbered = Numbered(slots, len(rows), max(map(len, rows), default=0), is_weighted=is_weighted)
        numbered.write(torch.arange(len(rows), device=slots.rows.device), rows)
        return numbered

    def write(self, rows: Tensor, updates: Sequence[tuple[Update, ...]]) -> None:
        """Let rows (N,) have these updates from now on."""
        shape = len(updates), self._numbers.shape[1]
        numbers, weights = torch.zeros(shape, dtype=torch.int64), torch.ones(shape)
        for row, own in enumerate(updates):
            for place, update in enumerate(own):
                numbers[row, place], weights[row, place] = update.slot, update.weight
        self._numbers.index_copy_(0, rows, numbers.to(rows.device))
        if self._weights is not None:
            self._weights.index_copy_(0, rows, weights.to(self._weights))

    def cast(self, x: Tensor) -> Tensor:
        """As `Deltas.cast`."""
        return x if self._kernels is not None else x.to(self._slots.rows.dtype)

    def add(self, linear: str, x: Tensor, out: Tensor) -> Tensor:
        """As `Deltas.add`."""
        layout, slots = self._slots.layout, self._slots.rows
        if linear not in layout.linears:
            return out
        if self._kernels is None:
            self._add_gathered(layout.part(slots, linear), linear, x, out)
        else:
            flat, result = x.reshape(-1, x.shape[-1]).contiguous(), out.view(-1, out.shape[-1])
            at = layout.starts[linear], layout.rank
            self._kernels.add(slots, *at, self._numbers, self._weights, flat, result)
        return out

    def _add_gathered(self, part: Tensor, linear: str, x: Tensor, out: Tensor) -> None:
        """Copy each row's A and B together, then two batched products per update."""
        num_rows, num_updates = self._numbers.shape
        x, result = x.reshape(num_rows, -1, x.shape[-1]), out.view(num_rows, -1, out.shape[-1])
        for update in range(num_updates):
            own = part.index_select(0, self._numbers[:, update])
            a, b = self._slots.layout.views(own, linear)
            low = torch.bmm(x, a.transpose(1, 2))
            if self._weights is not None:
                low *= self._weights[:, update, None, None]
            if result.dtype == low.dtype:
                result.baddbmm_(low, b)
            else:  # summed in the update's dtype, then rounded once
                result += torch.bmm(low, b)


@cache
def _kernels() -> ModuleType | None:
    """`engine.bgmv` if it works on this GPU: it takes Triton and, to build its launcher, a C compiler."""
    try:
        from flan_lora.engine import bgmv

        bgmv.try_out()
    except Exception as error:
        log.warning(
            "the Triton kernels for adapters do not work here (%s: %s), so they are gathered, which is slower",
            type(error).__name__,
            str(error).splitlines()[0] if str(error) else "no reason given",
        )
        return None
    return bgmv


def _runs(rows: Sequence[tuple[Update, ...]]) -> list[Run]:
    """Neighbours with the same updates together; of those with one update each, neighbours in the slots too."""
    runs: list[Run] = []
    start = 0
    for stop in range(1, len(rows) + 1):
        if stop < len(rows) and rows[stop] == rows[start]:
            continue
        own = [Run(start, stop, update) for update in rows[start]]
        joined = runs[-1].joined(own[0]) if runs and len(own) == 1 else None
        if joined is not None:
            runs[-1] = joined
        else:
            runs += own
        start = stop
    return runs


NO_DELTAS = Deltas(())
"""Every row is the bare base."""
