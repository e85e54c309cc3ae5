"""The LoRA updates of a batch: which rows use which adapters, and the products that add them to an output."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from flan_lora.engine.memory_pool import LoraMemoryPool

log = logging.getLogger(__name__)

_LEAST_ROWS = 32
"""Of a product whose bits must not depend on their number."""


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """One adapter of one row: where it lies, and how much of it."""

    pool: LoraMemoryPool
    slot: int
    linears: frozenset[str]
    """That it changes."""
    weight: float


class LoraBatch(Protocol):
    """The updates of the rows of a batch: all that a linear of the base ever sees of them."""

    def cast(self, x: Tensor) -> Tensor:
        """``x`` in the dtype of the updates, once for all linears that read it; as it is if none will."""

    def add_lora(self, linear: str, x: Tensor, out: Tensor) -> Tensor:
        """``out``, written in place: plus each row's update of ``x`` in the named linear.

        Shapes (R rows of the batch, W sequences per row, T tokens): x (R * W, T, in), out (R * W, T, out).
        Sequences of one row (beams) lie together and share the row's updates.

        Source: h = W0 x + s B A x, arXiv:2106.09685 section 4.1; s is folded into B. Of DoRA (arXiv:2402.09353,
        section 4.1) h = c (W0 x + s B A x) with c per output; B has c too, and c - 1 of W0 x is added.
        """


def lora_batch(rows: Sequence[tuple[AdapterRef, ...]], *, is_invariant: bool = False) -> LoraBatch:
    """The updates of these rows, by the kernels that suit where they lie.

    On a GPU launching a product takes longer than running it, so rows whose adapters lie in one pool are indexed.

    Args:
        is_invariant: on a CPU, whether a row's bits must not depend on the other rows.
    """
    pools = {id(ref.pool): ref.pool for refs in rows for ref in refs}
    if len(pools) == 1:
        (pool,) = pools.values()
        if pool.rows.is_cuda:
            return IndexedLora.of(pool, rows)
    return SegmentedLora(rows, is_invariant=is_invariant)


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring rows, equally many for each of some adapters whose slots lie one after the other."""

    start: int
    stop: int
    first: AdapterRef
    number: int = 1
    """Of adapters."""

    def joined(self, other: Segment) -> Segment | None:
        """Both in one, if ``other`` goes on where this ends."""
        is_next = replace(self.first, slot=self.first.slot + self.number) == other.first
        num_rows = (self.stop - self.start) // self.number
        if self.stop != other.start or not is_next or other.number * num_rows != other.stop - other.start:
            return None
        return Segment(self.start, other.stop, self.first, self.number + other.number)


class SegmentedLora:
    """Rows of one `Segment` share a pair of small products per linear.

    Nothing is copied: each segment reads its adapters where they lie, and they may lie in pools of different
    layouts. Like SGMV (Punica, arXiv:2310.18547, section 4), with segments of several adapters.
    """

    def __init__(self, rows: Sequence[tuple[AdapterRef, ...]], *, is_invariant: bool = False) -> None:
        self._num_rows, self._is_invariant = len(rows), is_invariant
        self._segments = _segments(rows)
        self._pairs: dict[str, list[tuple[Segment, Tensor, Tensor, Tensor | None]]] = {}
        distinct = {ref for refs in rows for ref in refs}
        self._linears = frozenset[str]().union(*(ref.linears for ref in distinct))
        self._dtype = next((ref.pool.rows.dtype for ref in distinct), None)

    def cast(self, x: Tensor) -> Tensor:
        """As `LoraBatch.cast`."""
        return x if self._dtype is None else x.to(self._dtype)

    def add_lora(self, linear: str, x: Tensor, out: Tensor) -> Tensor:
        """As `LoraBatch.add_lora`."""
        if linear not in self._linears:
            return out
        flat, result = x.reshape(-1, x.shape[-1]), out.view(-1, out.shape[-1])
        per_row = flat.shape[0] // self._num_rows
        segments = self.segments(linear)
        is_rescaled = any(rescale is not None for *_, rescale in segments)
        base = result.clone() if is_rescaled else result  # a row may have several adapters, each of the base
        for segment, a, b, rescale in segments:
            own, weight = slice(segment.start * per_row, segment.stop * per_row), segment.first.weight
            own_x = flat[own].view(segment.number, -1, flat.shape[-1])
            there = result[own].view(segment.number, -1, result.shape[-1])
            if rescale is not None:
                there += base[own].view_as(there) * (rescale * weight)
            if self._is_invariant:
                there += _invariant_product(own_x, a, b) * weight
                continue
            low = torch.bmm(own_x, a)
            if result.dtype == low.dtype:
                there.baddbmm_(low, b, alpha=weight)
            else:  # summed in the update's dtype, then rounded once
                there += torch.bmm(low, b) * weight
        return out

    def segments(self, linear: str) -> list[tuple[Segment, Tensor, Tensor, Tensor | None]]:
        """The segments that change a linear, and the A^T, B^T and rescaling that they read; the same each step."""
        found = self._pairs.get(linear)
        if found is None:
            own = [segment for segment in self._segments if linear in segment.first.linears]
            found = [(each, *_tensors(each, linear)) for each in own]
            self._pairs[linear] = found
        return found


def _tensors(segment: Segment, linear: str) -> tuple[Tensor, Tensor, Tensor | None]:
    pool, first = segment.first.pool, segment.first.slot
    a, b = pool.pairs(first, segment.number, linear)
    return a, b, pool.rescale(first, segment.number, linear)


def _invariant_product(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """x A^T B^T for x (N, R, in), whose bits do not depend on R (`linear.invariant_linear`, in fp32)."""
    num_rows = x.shape[1]
    if num_rows < _LEAST_ROWS:
        x = functional.pad(x, (0, 0, 0, _LEAST_ROWS - num_rows))
    return torch.bmm(torch.bmm(x, a), b)[:, :num_rows]


class IndexedLora:
    """Rows name the slots of their adapters: the same launches whatever those are, for all rows at once.

    The indices may be changed in place between two uses, which is what lets a GPU replay them. Like BGMV (Punica,
    arXiv:2310.18547; S-LoRA, arXiv:2311.03285, section 5).
    """

    def __init__(self, pool: LoraMemoryPool, num_rows: int, num_adapters: int, *, is_weighted: bool) -> None:
        """The bare base for every row.

        Args:
            num_adapters: of a row, at most.
            is_weighted: whether an adapter may have another weight than 1.
        """
        self._pool = pool
        self._indices = torch.zeros(num_rows, num_adapters, dtype=torch.int64, device=pool.rows.device)
        self._weights = pool.rows.new_ones(num_rows, num_adapters) if is_weighted else None
        self._kernels = _kernels() if pool.rows.is_cuda else None

    @staticmethod
    def of(pool: LoraMemoryPool, rows: Sequence[tuple[AdapterRef, ...]]) -> IndexedLora:
        """These rows, whose adapters lie in this pool."""
        is_weighted = any(ref.weight != 1 for refs in rows for ref in refs)
        lora = IndexedLora(pool, len(rows), max(map(len, rows), default=0), is_weighted=is_weighted)
        lora.write(torch.arange(len(rows), device=pool.rows.device), rows)
        return lora

    def write(self, rows: Tensor, refs: Sequence[tuple[AdapterRef, ...]]) -> None:
        """Let rows (N,) have these adapters from now on."""
        shape = len(refs), self._indices.shape[1]
        indices, weights = torch.zeros(shape, dtype=torch.int64), torch.ones(shape)
        for row, own in enumerate(refs):
            for place, ref in enumerate(own):
                indices[row, place], weights[row, place] = ref.slot, ref.weight
        self._indices.index_copy_(0, rows, indices.to(rows.device))
        if self._weights is not None:
            self._weights.index_copy_(0, rows, weights.to(self._weights))

    def cast(self, x: Tensor) -> Tensor:
        """As `LoraBatch.cast`."""
        return x if self._kernels is not None else x.to(self._pool.rows.dtype)

    def add_lora(self, linear: str, x: Tensor, out: Tensor) -> Tensor:
        """As `LoraBatch.add_lora`."""
        layout, slots = self._pool.layout, self._pool.rows
        if linear not in layout.linears:
            return out
        if layout.is_rescaled:
            self._add_rescaled(layout.part(slots, linear), linear, out)
        if self._kernels is None:
            self._add_gathered(layout.part(slots, linear), linear, x, out)
        else:
            flat, result = x.reshape(-1, x.shape[-1]).contiguous(), out.view(-1, out.shape[-1])
            at = layout.starts[linear], layout.rank
            self._kernels.add(slots, *at, self._indices, self._weights, flat, result)
        return out

    def _add_rescaled(self, part: Tensor, linear: str, out: Tensor) -> None:
        """What DoRA adds of the base's own outputs, summed over a row's adapters."""
        rescales = self._pool.layout.rescale(part, linear)
        assert rescales is not None, "asked of a layout that has room for it"
        own = rescales[self._indices]  # (R, K, out)
        total = own.sum(1) if self._weights is None else (own * self._weights[..., None]).sum(1)
        result = out.view(len(total), -1, out.shape[-1])
        result += result * total[:, None]

    def _add_gathered(self, part: Tensor, linear: str, x: Tensor, out: Tensor) -> None:
        """Copy each row's A and B together, then two batched products per adapter."""
        num_rows, num_adapters = self._indices.shape
        x, result = x.reshape(num_rows, -1, x.shape[-1]), out.view(num_rows, -1, out.shape[-1])
        for number in range(num_adapters):
            own = part.index_select(0, self._indices[:, number])
            a, b = self._pool.layout.views(own, linear)
            low = torch.bmm(x, a.transpose(1, 2))
            if self._weights is not None:
                low *= self._weights[:, number, None, None]
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
    """Neighbours with the same adapters together; of those with one each, neighbours in the slots too."""
    segments: list[Segment] = []
    start = 0
    for stop in range(1, len(rows) + 1):
        if stop < len(rows) and rows[stop] == rows[start]:
            continue
        own = [Segment(start, stop, ref) for ref in rows[start]]
        joined = segments[-1].joined(own[0]) if segments and len(own) == 1 else None
        if joined is not None:
            segments[-1] = joined
        else:
            segments += own
        start = stop
    return segments


NO_LORA: LoraBatch = SegmentedLora(())
"""Every row is the bare base."""
