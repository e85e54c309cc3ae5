"""The LoRA updates of a batch: which rows use which adapters, and the products that add them to an output."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import ModuleType

import torch
from torch import Tensor

from flan_lora.engine.memory_pool import LoraMemoryPool

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """One adapter of one row: where it lies, and how much of it."""

    pool: LoraMemoryPool
    slot: int
    linears: frozenset[str]
    weight: float


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring rows, equally many for each of some updates whose slots lie one after the other."""

    start: int
    stop: int
    first: AdapterRef
    number: int = 1

    def joined(self, other: Segment) -> Segment | None:
        """Both in one, if ``other`` goes on where this ends."""
        is_next = replace(self.first, slot=self.first.slot + self.number) == other.first
        num_rows = (self.stop - self.start) // self.number
        if self.stop != other.start or not is_next or other.number * num_rows != other.stop - other.start:
            return None
        return Segment(self.start, other.stop, self.first, self.number + other.number)


class SegmentedLora:
    """The updates of the rows of a batch: ``add_lora`` is all that a linear of the base ever sees.

    Rows of one `Segment` share a pair of small products per linear. Nothing is copied: each run reads its adapters
    where they lie, and they may lie in slots of different layouts. Only on a GPU, where launching a product takes
    longer than running it, rows whose adapters lie together are `IndexedLora`.
    """

    def __init__(self, rows: Sequence[tuple[AdapterRef, ...]]) -> None:
        self._rows = tuple(rows)
        self._segments = _segments(self._rows)
        self._pairs: dict[str, list[tuple[Segment, Tensor, Tensor]]] = {}
        distinct = {update for updates in self._rows for update in updates}
        self._linears = frozenset[str]().union(*(update.linears for update in distinct))
        self._dtype = next((update.pool.rows.dtype for update in distinct), None)
        pool = {id(update.pool): update.pool for update in distinct}
        self._pool = next(iter(pool.values())) if len(pool) == 1 else None

    def cast(self, x: Tensor) -> Tensor:
        """``x`` in the dtype of the updates, once for all linears that read it; as it is if none will."""
        if self._indexed is not None:
            return self._indexed.cast(x)
        return x if self._dtype is None else x.to(self._dtype)

    def add_lora(self, linear: str, x: Tensor, out: Tensor) -> Tensor:
        """``out``, written in place: plus each row's update of ``x`` in the named linear.

        Shapes (R rows of the batch, W sequences per row, T tokens): x (R * W, T, in), out (R * W, T, out).
        Sequences of one row (beams) lie together and share the row's updates.

        Source: h = W0 x + s B A x, arXiv:2106.09685 section 4.1; s is folded into B.
        """
        if linear not in self._linears:
            return out
        if self._indexed is not None:
            return self._indexed.add_lora(linear, x, out)
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

    def filter(self, rows: Sequence[int]) -> SegmentedLora:
        """The deltas of some of the rows, when the others have left the batch."""
        return SegmentedLora([self._rows[row] for row in rows])

    def repeat(self, width: int) -> SegmentedLora:
        """One row per sequence, where each row decodes ``width`` of them."""
        return self if width == 1 else SegmentedLora([updates for updates in self._rows for _ in range(width)])

    def _pairs_of(self, linear: str) -> list[tuple[Segment, Tensor, Tensor]]:
        """The runs that change a linear, with what they read; the same for every step."""
        found = self._pairs.get(linear)
        if found is None:
            segments = [run for run in self._segments if linear in run.first.linears]
            found = [(run, *run.first.pool.pairs(run.first.slot, run.number, linear)) for run in segments]
            self._pairs[linear] = found
        return found

    @cached_property
    def _indexed(self) -> IndexedLora | None:
        pool = self._pool
        return IndexedLora.of(pool, self._rows) if pool is not None and pool.rows.is_cuda else None

    @staticmethod
    def joined(parts: Sequence[SegmentedLora]) -> SegmentedLora:
        """The rows of several, one after the other."""
        return (
            parts[0] if len(parts) == 1 else SegmentedLora([updates for part in parts for updates in part._rows])
        )


class IndexedLora:
    """The updates of rows by the numbers of their slots: the same launches whatever those are, for all at once.

    The numbers may be changed in place between two uses, which is what lets a GPU replay them.
    """

    def __init__(self, pool: LoraMemoryPool, num_rows: int, num_updates: int, *, is_weighted: bool) -> None:
        """The bare base for every row.

        Args:
            num_updates: of a row, at most.
            is_weighted: whether an update may have another weight than 1.
        """
        self._pool = pool
        self._numbers = torch.zeros(num_rows, num_updates, dtype=torch.int64, device=pool.rows.device)
        self._weights = pool.rows.new_ones(num_rows, num_updates) if is_weighted else None
        self._kernels = _kernels() if pool.rows.is_cuda else None

    @staticmethod
    def of(pool: LoraMemoryPool, rows: Sequence[tuple[AdapterRef, ...]]) -> IndexedLora:
        """These rows, whose updates lie in these slots."""
        is_weighted = any(update.weight != 1 for updates in rows for update in updates)
        indexed_lora = IndexedLora(pool, len(rows), max(map(len, rows), default=0), is_weighted=is_weighted)
        indexed_lora.write(torch.arange(len(rows), device=pool.rows.device), rows)
        return indexed_lora

    def write(self, rows: Tensor, updates: Sequence[tuple[AdapterRef, ...]]) -> None:
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
        """As `SegmentedLora.cast`."""
        return x if self._kernels is not None else x.to(self._pool.rows.dtype)

    def add_lora(self, linear: str, x: Tensor, out: Tensor) -> Tensor:
        """As `SegmentedLora.add_lora`."""
        layout, pool = self._pool.layout, self._pool.rows
        if linear not in layout.linears:
            return out
        if self._kernels is None:
            self._add_gathered(layout.part(pool, linear), linear, x, out)
        else:
            flat, result = x.reshape(-1, x.shape[-1]).contiguous(), out.view(-1, out.shape[-1])
            at = layout.starts[linear], layout.rank
            self._kernels.add(pool, *at, self._numbers, self._weights, flat, result)
        return out

    def _add_gathered(self, part: Tensor, linear: str, x: Tensor, out: Tensor) -> None:
        """Copy each row's A and B together, then two batched products per update."""
        num_rows, num_updates = self._numbers.shape
        x, result = x.reshape(num_rows, -1, x.shape[-1]), out.view(num_rows, -1, out.shape[-1])
        for update in range(num_updates):
            own = part.index_select(0, self._numbers[:, update])
            a, b = self._pool.layout.views(own, linear)
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


def _segments(rows: Sequence[tuple[AdapterRef, ...]]) -> list[Segment]:
    """Neighbours with the same updates together; of those with one update each, neighbours in the slots too."""
    segments: list[Segment] = []
    start = 0
    for stop in range(1, len(rows) + 1):
        if stop < len(rows) and rows[stop] == rows[start]:
            continue
        own = [Segment(start, stop, update) for update in rows[start]]
        joined = segments[-1].joined(own[0]) if segments and len(own) == 1 else None
        if joined is not None:
            segments[-1] = joined
        else:
            segments += own
        start = stop
    return segments


NO_LORA = SegmentedLora(())
"""Every row is the bare base."""
