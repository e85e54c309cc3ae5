"""How the base is run for groups of sequences: kernel by kernel (`EagerRunner`) or by graphs (`GraphRunner`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from flan_lora.engine.graphs.cuda_graph import GraphBucket, GraphPool, round_up
from flan_lora.engine.graphs.decode_graph import CacheSlots, DecodeGraph
from flan_lora.engine.graphs.prefill_graph import prefill
from flan_lora.engine.kv_cache import Cache, DynamicKVCache
from flan_lora.engine.lora_batch import NO_LORA, AdapterRef, LoraBatch, lora_batch
from flan_lora.engine.memory_pool import LoraMemoryPool
from flan_lora.engine.t5 import T5

_MIN_SOURCE, _MIN_TOKENS = 64, 32
"""Of a decode graph: below these a smaller one saves nothing."""
_FEW_REQUESTS = 16
"""Up to which empty slots cost next to nothing."""


class Runner(Protocol[Cache]):
    """One way to run the base. For one thread; a new `RunningBatch` has a new one."""

    def prefill(
        self,
        input_ids: Tensor,
        mask: Tensor,
        refs: Sequence[tuple[AdapterRef, ...]],
        pool: LoraMemoryPool | None,
        *,
        width: int,
        max_tokens: int,
    ) -> Cache:
        """Read the sources (R, S) of some requests, padded right: a cache with room for their sequences.

        Args:
            refs: the adapters of each request.
            pool: where they lie; None if no request has any.
            width: sequences per request.
            max_tokens: of a sequence.
        """

    def decode(self, caches: Sequence[Cache], ids: Sequence[Tensor]) -> list[Tensor]:
        """Feed the next token of every sequence (R * W,) of each cache; its logits (R * W, V) in fp32."""

    def release_idle(self) -> None:
        """Give back what no cache uses any more."""


class EagerRunner:
    """Each cache is as large as it needs to be; all of them share every linear of a pass."""

    def __init__(self, t5: T5) -> None:
        self._t5 = t5
        self._refs: list[tuple[AdapterRef, ...]] = []
        self._lora: LoraBatch = NO_LORA

    def prefill(
        self,
        input_ids: Tensor,
        mask: Tensor,
        refs: Sequence[tuple[AdapterRef, ...]],
        pool: LoraMemoryPool | None,
        *,
        width: int,
        max_tokens: int,
    ) -> DynamicKVCache:
        """As `Runner.prefill`."""
        cross, visible = self._t5.prefill(input_ids, mask, lora_batch(refs, is_invariant=self._t5.is_invariant))
        cache = self._t5.new_cache(len(refs) * width, max_tokens)
        each = [own for own in refs for _ in range(width)]
        return DynamicKVCache(cache, cross, visible, self._t5.position_bias(max_tokens), each, width)

    def decode(self, caches: Sequence[DynamicKVCache], ids: Sequence[Tensor]) -> list[Tensor]:
        """As `Runner.decode`."""
        refs = [own for cache in caches for own in cache.refs]
        if refs != self._refs:  # mostly the same objects as in the last step, which takes microseconds to see
            self._refs, self._lora = refs, lora_batch(refs, is_invariant=self._t5.is_invariant)
        logits = self._t5.decode(torch.cat(list(ids)), caches, self._lora)
        return list(logits.split_with_sizes([cache.num_sequences for cache in caches]))

    def release_idle(self) -> None:
        """Nothing is kept but what the last step used."""
        self._refs, self._lora = [], NO_LORA


class GraphRunner:
    """Requests take slots of graphs with fixed shapes, so that a step is one launch whoever comes and goes."""

    def __init__(self, t5: T5, pool: GraphPool) -> None:
        """
        Args:
            pool: of graphs that nobody uses at the moment, shared with other runners of this base.
        """
        self._t5, self._graph_pool = t5, pool
        self._open: list[DecodeGraph] = []

    @property
    def graphs(self) -> tuple[DecodeGraph, ...]:
        """Those whose slots are in use, or were in the last step."""
        return tuple(self._open)

    def prefill(
        self,
        input_ids: Tensor,
        mask: Tensor,
        refs: Sequence[tuple[AdapterRef, ...]],
        pool: LoraMemoryPool | None,
        *,
        width: int,
        max_tokens: int,
    ) -> CacheSlots:
        """As `Runner.prefill`."""
        with prefill(self._t5, self._graph_pool, input_ids, mask, refs, pool) as (cross, visible):
            bucket = GraphBucket.of(refs, width=width, source=visible.shape[-1], tokens=max_tokens)
            return self._graph_for(bucket, pool).allocate(cross, visible, refs)

    def decode(self, caches: Sequence[CacheSlots], ids: Sequence[Tensor]) -> list[Tensor]:
        """As `Runner.decode`."""
        for cache, own in zip(caches, ids, strict=True):
            cache.feed(own)
        for graph in dict.fromkeys(cache.graph for cache in caches):
            graph.replay()
        return [cache.logits() for cache in caches]

    def release_idle(self) -> None:
        """Graphs all of whose slots are free go back to the pool."""
        for graph in [graph for graph in self._open if graph.is_empty]:
            self._open.remove(graph)
            self._graph_pool.release(graph)

    def _graph_for(self, bucket: GraphBucket, pool: LoraMemoryPool | None) -> DecodeGraph:
        """A graph for the requests of this bucket: one in use if it has slots for all of them.

        Else one with slots for the requests of that shape that are under way, too: so few graphs are in use at a
        time, whatever the order in which requests come.
        """
        alike = [graph for graph in self._open if graph.pool is pool and graph.fits(bucket)]
        for graph in alike:
            if graph.num_free >= bucket.requests:
                return graph
        num_taken = sum(graph.bucket.requests - graph.num_free for graph in alike)
        made = _rounded(replace(bucket, requests=bucket.requests + num_taken))
        graph = self._graph_pool.acquire(DecodeGraph, self._t5, made, pool)
        self._open.append(graph)
        return graph


def _rounded(bucket: GraphBucket) -> GraphBucket:
    """Up to what decode graphs are made for."""
    few = bucket.requests <= _FEW_REQUESTS
    return replace(
        bucket,
        requests=round_up(4, bucket.requests, 1) if few else round_up(2, bucket.requests, _FEW_REQUESTS),
        source=round_up(2, bucket.source, _MIN_SOURCE),
        tokens=round_up(2, bucket.tokens, _MIN_TOKENS),
        adapters=round_up(2, bucket.adapters, 1),
    )
