"""Sources that are read in a fixed shape: what the decoder will look at, from token ids.

Knows tensors and slot numbers; never a request, an adapter's name or a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from flan_lora.engine.graphs.cuda_graph import GraphBucket, GraphPool, capture, indexed_lora, round_up
from flan_lora.engine.lora_batch import NO_LORA, AdapterRef, SegmentedLora
from flan_lora.engine.memory_pool import LoraMemoryPool
from flan_lora.engine.t5 import T5

_FEWEST_TOKENS = 64
_MOST_TOKENS = 4096
"""Of all rows. With more than these a GPU has so much to compute that launching it does not matter."""

CrossKV = tuple[list[tuple[Tensor, Tensor]], Tensor]
"""What `T5.look` gives."""


class PrefillGraph:
    """Room for sources. For one thread at a time."""

    def __init__(self, t5: T5, shape: GraphBucket, pool: LoraMemoryPool | None) -> None:
        """
        Args:
            shape: its rows, source and updates.
            slots: of the adapters of all rows to come; None for the bare base alone.
        """
        self.shape, self.pool = shape, pool
        self._t5 = t5
        self._ids = torch.zeros(shape.rows, shape.source, dtype=torch.int64, device=t5.device)
        self._mask = torch.zeros_like(self._ids)
        self._lora = None if pool is None else indexed_lora(pool, shape)
        self._look: CrossKV = [], Tensor()
        self._replay = capture(self._run, t5.device)

    @property
    def size_bytes(self) -> int:
        """Of what it gives, which is most of what it holds."""
        return sum(each.numel() * each.element_size() for pair in self._look[0] for each in pair)

    def read(self, input_ids: Tensor, mask: Tensor, updates: Sequence[tuple[AdapterRef, ...]]) -> CrossKV:
        """Of ids and mask (R, S), padded right; good until it reads again."""
        num_rows, length = input_ids.shape
        rows = torch.arange(num_rows, device=self._ids.device)
        self._mask.zero_()
        self._mask[:num_rows, :length], self._ids[:num_rows, :length] = mask, input_ids
        if self._lora is not None:
            self._lora.write(rows, updates)
        self._replay()
        cross, visible = self._look
        return [(k[:num_rows, :, :length], v[:num_rows, :, :length]) for k, v in cross], (
            visible[:num_rows, ..., :length]
        )

    def _run(self) -> None:
        lora = self._lora or NO_LORA
        states = self._t5.encode(self._ids, self._mask, lora)
        self._look = self._t5.precompute_cross_kv(states, self._mask, lora)


@contextmanager
def prefilled(
    t5: T5,
    idle: GraphPool,
    input_ids: Tensor,
    mask: Tensor,
    updates: Sequence[tuple[AdapterRef, ...]],
    pool: LoraMemoryPool | None,
) -> Iterator[CrossKV]:
    """What follows from the sources (R, S) of rows with these updates; to be copied within the context."""
    if input_ids.numel() > _MOST_TOKENS:
        lora = SegmentedLora(updates)
        yield t5.precompute_cross_kv(t5.encode(input_ids, mask, lora), mask, lora)
        return
    shape = _rounded(GraphBucket.of(updates, width=1, source=input_ids.shape[1], tokens=0))
    graph = idle.take(PrefillGraph, t5, shape, pool)
    yield graph.read(input_ids, mask, updates)
    idle.give(graph)


def _rounded(shape: GraphBucket) -> GraphBucket:
    """Up to what readers are made for."""
    return replace(
        shape,
        rows=round_up(2, shape.rows, 1),
        source=round_up(2, shape.source, _FEWEST_TOKENS),
        updates=round_up(2, shape.updates, 1),
    )
