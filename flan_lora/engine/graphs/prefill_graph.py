"""Prefill in a fixed shape: token ids of sources -> keys and values of the cross attention."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from flan_lora.engine.graphs.cuda_graph import GraphBucket, GraphPool, capture, round_up
from flan_lora.engine.lora_batch import NO_LORA, AdapterRef, LoraBatch, lora_batch
from flan_lora.engine.memory_pool import LoraMemoryPool
from flan_lora.engine.t5 import T5, CrossKV

_MIN_SOURCE = 64
_MAX_TOKENS = 4096
"""Of all sources. With more than these a GPU has so much to compute that launching it does not matter."""


class PrefillGraph:
    """Room for sources. For one thread at a time."""

    def __init__(self, t5: T5, bucket: GraphBucket, pool: LoraMemoryPool | None) -> None:
        """
        Args:
            bucket: its requests, source and adapters count.
            pool: of the adapters of all requests to come; None for the bare base alone.
        """
        self.bucket, self.pool = bucket, pool
        self._t5 = t5
        self._ids = torch.zeros(bucket.requests, bucket.source, dtype=torch.int64, device=t5.device)
        self._mask = torch.zeros_like(self._ids)
        self._lora = None if pool is None else bucket.lora(pool)
        self._cross_kv: CrossKV = [], Tensor()
        self._replay = capture(self._run, t5.device)

    @property
    def size_bytes(self) -> int:
        """Of what it gives, which is most of what it holds."""
        return sum(each.numel() * each.element_size() for pair in self._cross_kv[0] for each in pair)

    def replay(self, input_ids: Tensor, mask: Tensor, refs: Sequence[tuple[AdapterRef, ...]]) -> CrossKV:
        """Of ids and mask (R, S), padded right; good until the next replay."""
        num_requests, length = input_ids.shape
        rows = torch.arange(num_requests, device=self._ids.device)
        self._mask.zero_()
        self._mask[:num_requests, :length], self._ids[:num_requests, :length] = mask, input_ids
        if self._lora is not None:
            self._lora.write(rows, refs)
        self._replay()
        cross, visible = self._cross_kv
        return [(k[:num_requests, :, :length], v[:num_requests, :, :length]) for k, v in cross], (
            visible[:num_requests, ..., :length]
        )

    def _run(self) -> None:
        lora: LoraBatch = self._lora or NO_LORA
        self._cross_kv = self._t5.prefill(self._ids, self._mask, lora)


@contextmanager
def prefill(
    t5: T5,
    graphs: GraphPool,
    input_ids: Tensor,
    mask: Tensor,
    refs: Sequence[tuple[AdapterRef, ...]],
    pool: LoraMemoryPool | None,
) -> Iterator[CrossKV]:
    """`T5.prefill` of the sources (R, S) of requests with these adapters; to be copied within the context."""
    if input_ids.numel() > _MAX_TOKENS:
        yield t5.prefill(input_ids, mask, lora_batch(refs))
        return
    bucket = _rounded(GraphBucket.of(refs, width=1, source=input_ids.shape[1], tokens=0))
    graph = graphs.acquire(PrefillGraph, t5, bucket, pool)
    yield graph.replay(input_ids, mask, refs)
    graphs.release(graph)


def _rounded(bucket: GraphBucket) -> GraphBucket:
    """Up to what prefill graphs are made for."""
    return replace(
        bucket,
        requests=round_up(2, bucket.requests, 1),
        source=round_up(2, bucket.source, _MIN_SOURCE),
        adapters=round_up(2, bucket.adapters, 1),
    )
