"""Rows that decode in seats of a fixed shape: rows come and go, and each step is the same for the machine.

Who sits where, with which adapters, source and position, stands in tensors that are written between two steps.
Knows tensors and slot numbers; never a request, an adapter's name or a thread.
Source: the seats are those of continuous batching (Orca, https://www.usenix.org/conference/osdi22/presentation/yu).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from flan_lora.engine.graphs.cuda_graph import GraphBucket, GraphPool, capture, indexed_lora, round_up
from flan_lora.engine.graphs.prefill_graph import prefilled
from flan_lora.engine.lora_batch import NO_LORA, AdapterRef
from flan_lora.engine.memory_pool import LoraMemoryPool
from flan_lora.engine.t5 import T5, across, attend

_FEWEST_SOURCES, _FEWEST_TOKENS = 64, 32
_FEW_ROWS = 16
"""Up to which empty seats cost next to nothing."""


class DecodeGraph:
    """The seats, and the step that all of them make at once. For one thread at a time."""

    def __init__(self, t5: T5, shape: GraphBucket, pool: LoraMemoryPool | None) -> None:
        """
        Args:
            slots: of the adapters of all rows to come; None for the bare base alone.
        """
        self.shape, self.pool = shape, pool
        self.ids = torch.zeros(shape.rows * shape.width, dtype=torch.int64, device=t5.device)
        """(R * W,) to feed next"""
        self.logits = Tensor()
        """(R * W, V) of the last step"""
        self._t5 = t5
        # zeros, for what nobody has written is masked, but not if it were NaN
        self._cache = t5.new_cache(self.num_sequences, shape.tokens).zero_()
        self._cross = t5.new_cache(shape.rows, shape.source).zero_()
        self._visible = self._cross.new_zeros(shape.rows, 1, 1, shape.source)
        self._positions = torch.zeros(shape.rows, dtype=torch.int64, device=t5.device)
        self._places = torch.arange(shape.tokens, device=t5.device)
        self._bias = t5.position_bias(shape.tokens)[0, :, 0]  # (H, T)
        self._free = list(range(shape.rows - 1, -1, -1))
        self._lora = None if pool is None else indexed_lora(pool, shape)
        self._now = self._now_bias = Tensor()
        self._replay = capture(self._run, t5.device)

    @property
    def num_free(self) -> int:
        """Seats for rows."""
        return len(self._free)

    @property
    def is_empty(self) -> bool:
        """Nobody sits here."""
        return len(self._free) == self.shape.rows

    @property
    def size_bytes(self) -> int:
        """Of what it remembers, which is nearly all."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self._cache, self._cross))

    def serves(self, shape: GraphBucket) -> bool:
        """Whether rows of a shape can sit here, as far as there are seats."""
        return (
            self.shape.width == shape.width
            and self.shape.source >= shape.source
            and self.shape.tokens >= shape.tokens
            and self.shape.updates >= shape.updates
            and self.shape.is_weighted >= shape.is_weighted
        )

    def allocate(
        self, cross: Sequence[tuple[Tensor, Tensor]], visible: Tensor, updates: Sequence[tuple[AdapterRef, ...]]
    ) -> CacheSlots:
        """Rows at their first token.

        Args:
            cross, visible: of their sources (`T5.look`).
            updates: of their adapters, which lie in this board's slots.
        """
        numbers = [self._free.pop() for _ in updates]
        rows, length = torch.tensor(numbers, device=self.ids.device), visible.shape[-1]
        self._positions.index_fill_(0, rows, 0)
        self._visible.index_fill_(0, rows, torch.finfo(visible.dtype).min)
        self._visible[..., :length].index_copy_(0, rows, visible)
        pairs = torch.stack([torch.stack(pair) for pair in cross])
        self._cross[..., :length, :].index_copy_(2, rows, pairs)
        if self._lora is not None:
            self._lora.write(rows, updates)
        return CacheSlots(self, numbers)

    def free(self, rows: Sequence[int]) -> None:
        """Free the seats of these rows."""
        self._free += rows

    def step(self) -> None:
        """One token further, for every seat."""
        self._replay()

    def reorder(self, target: Tensor, origin: Tensor, length: int) -> None:
        """Let sequences go on from others after ``length`` tokens."""
        past = self._cache[..., :length, :]
        past.index_copy_(2, target, past.index_select(2, origin))

    # What `T5.step` asks of the memory of its sequences

    @property
    def num_sequences(self) -> int:
        """R * W"""
        return self.shape.rows * self.shape.width

    def self_attention(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention over each sequence's tokens so far and this one. Shapes: (R * W, H, 1, D)."""
        keys, values = self._cache[layer]
        now = self._now.expand_as(k)
        return attend(q, keys.scatter_(2, now, k), values.scatter_(2, now, v), self._now_bias)

    def cross_attention(self, layer: int, q: Tensor) -> Tensor:
        """Attention over the source, as in `DynamicKVCache`."""
        keys, values = self._cross[layer]
        return across(q, keys, values, self._visible, self.shape.width)

    def advance(self) -> None:
        """One token further; who has left stays on the last one, where nobody looks."""
        self._positions.add_(1).clamp_(max=self.shape.tokens - 1)

    # The step itself

    def _run(self) -> None:
        self._now = self._positions.repeat_interleave(self.shape.width)[:, None, None, None]
        self._now_bias = self._look_back_bias()
        self.logits = self._t5.step(self.ids, [self], self._lora or NO_LORA)

    def _look_back_bias(self) -> Tensor:
        """(R * W, H, 1, T) for the position of each row: the tail of the last token's, as in `DynamicKVCache`."""
        last = self.shape.tokens - 1
        behind = (last - self._positions)[:, None] + self._places
        bias = self._bias[:, behind.clamp(max=last)].transpose(0, 1)
        bias = bias.masked_fill((behind > last)[:, None], torch.finfo(bias.dtype).min)
        return bias.repeat_interleave(self.shape.width, dim=0)[:, :, None]


class CacheSlots:
    """The rows of a cohort on a board: to the cohort, what `DynamicKVCache` is elsewhere."""

    def __init__(self, graph: DecodeGraph, rows: Sequence[int]) -> None:
        self.graph, self._rows = graph, list(rows)
        self._num_fed = 0
        self._sequences = self._indexed()

    @property
    def width(self) -> int:
        """Sequences per row."""
        return self.graph.shape.width

    @property
    def num_sequences(self) -> int:
        """Of these rows."""
        return len(self._rows) * self.width

    @property
    def device(self) -> torch.device:
        """Where the board is."""
        return self.graph.ids.device

    def feed(self, ids: Tensor) -> None:
        """The next token of every sequence (N,), for the board's next step."""
        self._num_fed += 1
        self.graph.ids.index_copy_(0, self._sequences, ids)

    def logits(self) -> Tensor:
        """(N, V) of the board's last step."""
        return self.graph.logits.index_select(0, self._sequences)

    def reorder(self, sequences: Tensor) -> None:
        """As `DynamicKVCache.reorder`."""
        self.graph.reorder(self._sequences, self._sequences[sequences], self._num_fed)

    def select(self, rows: Tensor) -> None:
        """Keep some of the rows; the seats of the others are free."""
        kept = set(rows.tolist())
        self.graph.free([row for place, row in enumerate(self._rows) if place not in kept])
        self._rows = [self._rows[place] for place in sorted(kept)]
        self._sequences = self._indexed()

    def close(self) -> None:
        """Free all seats."""
        self.graph.free(self._rows)
        self._rows = []

    def _indexed(self) -> Tensor:
        width = self.width
        return torch.tensor(
            [row * width + each for row in self._rows for each in range(width)], device=self.device
        )


class DecodeGraphs:
    """The boards of one batch. For one thread."""

    def __init__(self, t5: T5, idle: GraphPool) -> None:
        self._t5, self._graph_pool = t5, idle
        self._open: list[DecodeGraph] = []

    def start(
        self,
        input_ids: Tensor,
        mask: Tensor,
        updates: Sequence[tuple[AdapterRef, ...]],
        pool: LoraMemoryPool | None,
        *,
        width: int,
        max_tokens: int,
    ) -> CacheSlots:
        """Read the sources of some rows, (R, S) padded right, and find seats for them.

        Args:
            updates, slots: of the rows' adapters, and where they lie.
            width: sequences per row.
        """
        with prefilled(self._t5, self._graph_pool, input_ids, mask, updates, pool) as (cross, visible):
            shape = GraphBucket.of(updates, width=width, source=visible.shape[-1], tokens=max_tokens)
            return self.find_or_make(shape, pool).allocate(cross, visible, updates)

    def find_or_make(self, shape: GraphBucket, pool: LoraMemoryPool | None) -> DecodeGraph:
        """A board for the rows of this shape: one that is in use if it has seats for all of them.

        Else one with seats for the rows of that shape that are under way, too: so few boards are in use at a time,
        whatever the order in which rows come.
        """
        alike = [graph for graph in self._open if graph.pool is pool and graph.serves(shape)]
        for graph in alike:
            if graph.num_free >= shape.rows:
                return graph
        num_taken = sum(graph.shape.rows - graph.num_free for graph in alike)
        made = _rounded(replace(shape, rows=shape.rows + num_taken))
        graph = self._graph_pool.take(DecodeGraph, self._t5, made, pool)
        self._open.append(graph)
        return graph

    def step(self, slots: Sequence[CacheSlots], ids: Sequence[Tensor]) -> list[Tensor]:
        """One token further: the next ids of each cohort, their logits."""
        for each, own in zip(slots, ids, strict=True):
            each.feed(own)
        for graph in dict.fromkeys(each.graph for each in slots):
            graph.step()
        return [each.logits() for each in slots]

    def release_idle(self) -> None:
        """Give boards back that nobody sits at any more."""
        for graph in [graph for graph in self._open if graph.is_empty]:
            self._open.remove(graph)
            self._graph_pool.give(graph)


def _rounded(shape: GraphBucket) -> GraphBucket:
    """Up to what boards are made for."""
    return replace(
        shape,
        rows=round_up(4, shape.rows, 1) if shape.rows <= _FEW_ROWS else round_up(2, shape.rows, _FEW_ROWS),
        source=round_up(2, shape.source, _FEWEST_SOURCES),
        tokens=round_up(2, shape.tokens, _FEWEST_TOKENS),
        updates=round_up(2, shape.updates, 1),
    )
