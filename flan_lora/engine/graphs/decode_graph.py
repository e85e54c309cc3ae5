"""Decoding in slots of a fixed shape: requests come and go, and each step is the same launch for the machine.

Which request has which slot, with which adapters, source and position, stands in tensors that are written between
two steps.
Source: the slots are those of continuous batching (Orca, https://www.usenix.org/conference/osdi22/presentation/yu).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flan_lora.engine.graphs.cuda_graph import GraphBucket, capture
from flan_lora.engine.kv_cache import attend, attend_to_source
from flan_lora.engine.lora_batch import NO_LORA, AdapterRef, LoraBatch
from flan_lora.engine.memory_pool import LoraMemoryPool
from flan_lora.engine.t5 import T5


class StaticKVCache:
    """A `KVCache` whose tensors stay where they are, with a position of its own for each request.

    Shapes (R requests, W sequences each, H heads, S source, T tokens, L layers, D per head):
        cache     (L, 2, R * W, H, T, D)
        cross     (L, 2, R, H, S, D)
        visible   (R, 1, 1, S)
        positions (R,) int64: of the token that comes next
    """

    def __init__(self, t5: T5, bucket: GraphBucket) -> None:
        self._requests, self._width, self._tokens = bucket.requests, bucket.width, bucket.tokens
        # zeros, for what nobody has written is masked, but not if it were NaN
        self._cache = t5.new_cache(self.num_sequences, bucket.tokens).zero_()
        self._cross = t5.new_cache(bucket.requests, bucket.source).zero_()
        self._visible = self._cross.new_zeros(bucket.requests, 1, 1, bucket.source)
        self._positions = torch.zeros(bucket.requests, dtype=torch.int64, device=t5.device)
        self._places = torch.arange(bucket.tokens, device=t5.device)
        self._bias = t5.position_bias(bucket.tokens)[:, 0, :, 0]  # (L, H, T)
        self._now = self._now_bias = Tensor()

    @property
    def num_sequences(self) -> int:
        """R * W"""
        return self._requests * self._width

    @property
    def size_bytes(self) -> int:
        """Of nearly all of it."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self._cache, self._cross))

    def write(self, rows: Tensor, cross: Sequence[tuple[Tensor, Tensor]], visible: Tensor) -> None:
        """Begin anew in these rows (N,), with what `T5.prefill` gave for N sources."""
        length = visible.shape[-1]
        self._positions.index_fill_(0, rows, 0)
        self._visible.index_fill_(0, rows, torch.finfo(visible.dtype).min)
        self._visible[..., :length].index_copy_(0, rows, visible)
        pairs = torch.stack([torch.stack(pair) for pair in cross])
        self._cross[..., :length, :].index_copy_(2, rows, pairs)

    def reorder(self, target: Tensor, origin: Tensor, length: int) -> None:
        """Let sequences go on from others after ``length`` tokens."""
        past = self._cache[..., :length, :]
        past.index_copy_(2, target, past.index_select(2, origin))

    def begin_step(self) -> None:
        """Where each sequence's next token goes, and its bias (L, R * W, H, 1, T) towards those before it."""
        self._now = self._positions.repeat_interleave(self._width)[:, None, None, None]
        last = self._tokens - 1
        # the tail of the last token's bias, as in `DynamicKVCache`
        behind = (last - self._positions)[:, None] + self._places
        own = self._bias if self._bias.stride(0) else self._bias[:1]  # one for all layers is computed once
        bias = own[:, :, behind.clamp(max=last)].transpose(1, 2)
        bias = bias.masked_fill((behind > last)[:, None], torch.finfo(bias.dtype).min)
        bias = bias.repeat_interleave(self._width, dim=1)[:, :, :, None]
        self._now_bias = bias.expand(self._bias.shape[0], -1, -1, -1, -1)

    def self_attention(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """As `DynamicKVCache.self_attention`."""
        keys, values = self._cache[layer]
        now = self._now.expand_as(k)
        return attend(q, keys.scatter_(2, now, k), values.scatter_(2, now, v), self._now_bias[layer])

    def cross_attention(self, layer: int, q: Tensor) -> Tensor:
        """As `DynamicKVCache.cross_attention`."""
        keys, values = self._cross[layer]
        return attend_to_source(q, keys, values, self._visible, self._width)

    def advance(self) -> None:
        """One token further; who has left stays on the last one, where nobody looks."""
        self._positions.add_(1).clamp_(max=self._tokens - 1)


class DecodeGraph:
    """The slots, and the step that all of them make at once. For one thread at a time."""

    def __init__(self, t5: T5, bucket: GraphBucket, pool: LoraMemoryPool | None) -> None:
        """
        Args:
            pool: of the adapters of all requests to come; None for the bare base alone.
        """
        self.bucket, self.pool, self.device = bucket, pool, t5.device
        self._ids = torch.zeros(bucket.requests * bucket.width, dtype=torch.int64, device=t5.device)
        self._logits = Tensor()
        self._t5, self._cache = t5, StaticKVCache(t5, bucket)
        self._lora = None if pool is None else bucket.lora(pool)
        self._free = list(range(bucket.requests - 1, -1, -1))
        self._replay = capture(self._run, t5.device)

    @property
    def num_free(self) -> int:
        """Slots for requests."""
        return len(self._free)

    @property
    def is_empty(self) -> bool:
        """Every slot is free."""
        return len(self._free) == self.bucket.requests

    @property
    def size_bytes(self) -> int:
        """Of its cache, which is nearly all."""
        return self._cache.size_bytes

    def fits(self, bucket: GraphBucket) -> bool:
        """Whether requests of a bucket can be decoded here, as far as slots are free."""
        return (
            self.bucket.width == bucket.width
            and self.bucket.source >= bucket.source
            and self.bucket.tokens >= bucket.tokens
            and self.bucket.adapters >= bucket.adapters
            and self.bucket.is_weighted >= bucket.is_weighted
        )

    def allocate(
        self, cross: Sequence[tuple[Tensor, Tensor]], visible: Tensor, refs: Sequence[tuple[AdapterRef, ...]]
    ) -> CacheSlots:
        """Slots for requests at their first token.

        Args:
            cross, visible: of their sources (`T5.prefill`).
            refs: their adapters, which lie in this graph's pool.
        """
        slots = [self._free.pop() for _ in refs]
        rows = torch.tensor(slots, device=self.device)
        self._cache.write(rows, cross, visible)
        if self._lora is not None:
            self._lora.write(rows, refs)
        return CacheSlots(self, slots)

    def free(self, slots: Sequence[int]) -> None:
        """Take slots back."""
        self._free += slots

    def replay(self) -> None:
        """One token further, in every slot."""
        self._replay()

    def feed(self, sequences: Tensor, ids: Tensor) -> None:
        """What the next replay reads."""
        self._ids.index_copy_(0, sequences, ids)

    def logits(self, sequences: Tensor) -> Tensor:
        """(N, V) of the last replay."""
        return self._logits.index_select(0, sequences)

    def reorder(self, target: Tensor, origin: Tensor, length: int) -> None:
        """As `StaticKVCache.reorder`."""
        self._cache.reorder(target, origin, length)

    def _run(self) -> None:
        lora: LoraBatch = self._lora or NO_LORA
        self._cache.begin_step()
        self._logits = self._t5.decode(self._ids, [self._cache], lora)


class CacheSlots:
    """The slots of a group in a `DecodeGraph`: to the group, what `DynamicKVCache` is elsewhere."""

    def __init__(self, graph: DecodeGraph, slots: Sequence[int]) -> None:
        self.graph, self._slots = graph, list(slots)
        self._num_fed = 0
        self._sequences = self._numbered()

    @property
    def width(self) -> int:
        """Sequences per request."""
        return self.graph.bucket.width

    @property
    def num_sequences(self) -> int:
        """Of these requests."""
        return len(self._slots) * self.width

    @property
    def device(self) -> torch.device:
        """Where the graph is."""
        return self.graph.device

    def feed(self, ids: Tensor) -> None:
        """The next token of every sequence (N,), for the graph's next replay."""
        self._num_fed += 1
        self.graph.feed(self._sequences, ids)

    def logits(self) -> Tensor:
        """(N, V) of the graph's last replay."""
        return self.graph.logits(self._sequences)

    def reorder(self, sequences: Tensor) -> None:
        """As `GroupCache.reorder`."""
        self.graph.reorder(self._sequences, self._sequences[sequences], self._num_fed)

    def filter(self, requests: Sequence[int]) -> None:
        """As `GroupCache.filter`; the other slots are free."""
        kept = set(requests)
        self.graph.free([slot for place, slot in enumerate(self._slots) if place not in kept])
        self._slots = [self._slots[place] for place in requests]
        self._sequences = self._numbered()

    def free(self) -> None:
        """Free all slots."""
        self.graph.free(self._slots)
        self._slots = []

    def _numbered(self) -> Tensor:
        width = self.width
        return torch.tensor(
            [slot * width + each for slot in self._slots for each in range(width)], device=self.device
        )
