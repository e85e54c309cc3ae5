"""Attention heads of ``mini`` that start with a job: look up what followed a word, find a word's twin.

A model of this size needs hundreds of millions of tokens before it copies from its source; summaries, questions
and answers are mostly copies. So the copying circuit stands in the initial weights, and training only keeps it:

    encoder, layer 0, heads 0 and 1    read the token before (by relative position) into a subspace of its own
    encoder, layers 1.., last head     read other places with the same token (a pair of sentences is compared so)
    cross attention, heads 0 and 1     the token just written asks for places whose token before it is that one,
                                       and writes their token in a rotated basis, in which the output head reads

Measured: docs/log.md. Source: induction heads, arXiv:2209.11895; initial weights that imitate trained attention,
arXiv:2305.09828. The construction itself is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from tools.mini.network import Shape

BEFORE, SELF = 1, 0
"""Buckets of the relative position bias: the key one place before the query; the query's own place."""


@dataclass(frozen=True)
class Circuits:
    """How strongly the circuits act at the start; scores are in nats, as T5 leaves them unscaled."""

    num_lookup_heads: int = 2
    before_bias: float = 7.0
    """Score of the token before; e^7 against a few hundred other places."""
    self_bias: float = -6.0
    """Score of a token's own place, for the head that looks for its twin."""
    match: float = 0.4
    """Times a q of orthonormal rows: the score of equal tokens is about 0.4 * d_kv * (share of the state)."""
    write: float = 2.0
    """Of the looked-up token, against an embedding of 1 per entry."""
    head_std: float = 0.06
    """Of the output head's entries: enough for the circuit alone to copy random tokens at under 3 nats each."""


@torch.no_grad()
def install(model: Any, shape: Shape, generator: torch.Generator, circuits: Circuits | None = None) -> None:
    """Write the circuits over the fresh weights of `model`, in place."""
    c = circuits or Circuits()
    rotation = _orthonormal(shape.d_model, shape.d_model, generator)
    num_lookups = min(c.num_lookup_heads, shape.num_heads - 1)
    lookups = [_Lookup.draw(shape, generator) for _ in range(num_lookups)]
    _read_before(model.encoder.block[0].layer[0].SelfAttention, lookups, shape, c)
    bias = _relative_bias(model)
    last = shape.num_heads - 1
    bias[:, last] = 0
    bias[SELF, last] = c.self_bias
    for block in model.encoder.block[1:]:
        attention, rows = block.layer[0].SelfAttention, _rows(last, shape)
        attention.k.weight[rows] = _orthonormal(shape.d_kv, shape.d_model, generator)
        attention.q.weight[rows] = c.match * attention.k.weight[rows]
    for block in model.decoder.block:
        _look_up(block.layer[1].EncDecAttention, lookups, rotation, shape, c, generator)
    model.lm_head.weight.copy_(c.head_std * model.shared.weight @ rotation)


@dataclass(frozen=True)
class _Lookup:
    """What one look-up head knows a token by.

    Shapes: read, place (d_kv, d_model), orthonormal rows. `read` takes d_kv numbers of a token's embedding,
    `place` is where the encoder keeps those of the token before.
    """

    read: Tensor
    place: Tensor

    @staticmethod
    def draw(shape: Shape, generator: torch.Generator) -> _Lookup:
        return _Lookup(*(_orthonormal(shape.d_kv, shape.d_model, generator) for _ in range(2)))


def _read_before(attention: Any, lookups: list[_Lookup], shape: Shape, c: Circuits) -> None:
    """Heads that carry `read` of the token before to `place`, whatever the tokens are."""
    for head, lookup in enumerate(lookups):
        rows = _rows(head, shape)
        attention.relative_attention_bias.weight[:, head] = 0
        attention.relative_attention_bias.weight[BEFORE, head] = c.before_bias
        attention.q.weight[rows] *= 0.1
        attention.v.weight[rows] = lookup.read
        attention.o.weight[:, rows] = lookup.place.T


def _look_up(
    attention: Any, lookups: list[_Lookup], rotation: Tensor, shape: Shape, c: Circuits, generator: torch.Generator
) -> None:
    """Heads that find the places after the current token and write what stands there, rotated."""
    for head, lookup in enumerate(lookups):
        rows = _rows(head, shape)
        attention.q.weight[rows] = c.match * lookup.read
        attention.k.weight[rows] = lookup.place
        attention.v.weight[rows] = _orthonormal(shape.d_kv, shape.d_model, generator)
        attention.o.weight[:, rows] = c.write * (attention.v.weight[rows] @ rotation).T


def _relative_bias(model: Any) -> Tensor:
    """(buckets, heads): the encoder's, which its layers share."""
    bias: Tensor = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    return bias


def _rows(head: int, shape: Shape) -> slice:
    return slice(head * shape.d_kv, (head + 1) * shape.d_kv)


def _orthonormal(num_rows: int, num_columns: int, generator: torch.Generator) -> Tensor:
    """(rows, columns) with orthonormal rows; rows <= columns."""
    columns: Tensor = torch.linalg.qr(torch.randn(num_columns, num_rows, generator=generator))[0]
    return columns.T.contiguous()
