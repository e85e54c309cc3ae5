"""Keys and values of a group of sequences: what the decoder remembers of its tokens, and of their source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from flan_lora.engine.lora_batch import AdapterRef


class KVCache(Protocol):
    """What `T5.decode` asks of the cache of some sequences, and tells it. Shapes as in `DynamicKVCache`."""

    @property
    def num_sequences(self) -> int: ...

    def self_attention(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...

    def cross_attention(self, layer: int, q: Tensor) -> Tensor: ...

    def advance(self) -> None: ...


class GroupCache(Protocol):
    """What a `DecodeGroup` asks of its cache, whichever runner made it."""

    @property
    def width(self) -> int:
        """Sequences per request."""

    @property
    def num_sequences(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def reorder(self, sequences: Tensor) -> None:
        """Let sequence n go on from sequence ``sequences[n]`` of the same request (beams)."""

    def filter(self, requests: Sequence[int]) -> None:
        """Keep the requests at these places."""

    def free(self) -> None:
        """Give back what is lent; nobody uses the cache again."""


Cache = TypeVar("Cache", bound=GroupCache)


@dataclass
class DynamicKVCache:
    """A cache of exactly the size that its sequences need. Written by `T5.decode`, for one thread.

    Shapes (R requests, W sequences each, H heads, S source, T tokens at most, L layers, D per head):
        cache   (L, 2, R * W, H, T, D)  keys and values of the tokens so far
        cross   L pairs of (R, H, S, D)  computed once, shared by a request's sequences
        visible (R, 1, 1, S)  0 for source tokens, the lowest number for padding
    """

    cache: Tensor
    cross: list[tuple[Tensor, Tensor]]
    visible: Tensor
    position_bias: Tensor
    """(L, 1, H, 1, T): of the last of T tokens looking back; the tail of it serves every earlier one."""
    refs: list[tuple[AdapterRef, ...]]
    """R * W: the adapters of each sequence."""
    width: int
    length: int = 0

    @property
    def num_sequences(self) -> int:
        """R * W"""
        return self.cache.shape[2]

    @property
    def device(self) -> torch.device:
        """Where all of it is."""
        return self.cache.device

    def self_attention(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention over the tokens so far and this one. Shapes: (R * W, H, 1, D)."""
        now = self.length
        keys, values = self.cache[layer]
        keys[:, :, now : now + 1], values[:, :, now : now + 1] = k, v
        bias = self.position_bias[layer, ..., self.position_bias.shape[-1] - 1 - now :]
        return attend(q, keys[:, :, : now + 1], values[:, :, : now + 1], bias)

    def cross_attention(self, layer: int, q: Tensor) -> Tensor:
        """Attention over the source: a request's W sequences are W queries to one set of keys."""
        return attend_to_source(q, *self.cross[layer], self.visible, self.width)

    def advance(self) -> None:
        """One token further."""
        self.length += 1

    def reorder(self, sequences: Tensor) -> None:
        """As `GroupCache.reorder`."""
        past = self.cache[..., : self.length, :]
        past.copy_(past.index_select(2, sequences))

    def filter(self, requests: Sequence[int]) -> None:
        """As `GroupCache.filter`."""
        kept = [place * self.width + each for place in requests for each in range(self.width)]
        rows = torch.tensor(list(requests), device=self.device)
        self.cache = self.cache.index_select(2, torch.tensor(kept, device=self.device))
        self.cross = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in self.cross]
        self.visible = self.visible.index_select(0, rows)
        self.refs = [self.refs[place] for place in kept]

    def free(self) -> None:
        """Nothing is lent."""


def attend_to_source(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, width: int) -> Tensor:
    """Attention of one token each (R * W, H, 1, D) over the keys and values (R, H, S, D) of their requests."""
    shape = q.shape
    q = q.view(-1, width, *shape[1:]).squeeze(3).transpose(1, 2)
    return attend(q, k, v, visible).transpose(1, 2).reshape(shape)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """T5's attention; ``bias`` is added to the scores."""
    # T5 does not divide the scores by sqrt(D): its initialisation takes care of that
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
