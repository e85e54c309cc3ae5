"""Parts of ``mini`` that start with a job: look up what followed a word, tell where a word's twin follows another.

A model of this size needs hundreds of millions of tokens before it copies from its source; summaries, questions
and answers are mostly copies. So the copying circuit stands in the initial weights, and training only keeps it:

    encoder, layer 0, heads 0 and 1    read the token before (by relative position) into a subspace of its own
    cross attention, heads 0 and 1     the token just written asks for places whose token before it is that one,
                                       and writes their token in a rotated basis, in which the output head reads

Nor does it learn within thousands of pairs to compare two sentences of the same words. So a second circuit marks
the places where their order parts. Plain text has no use for it, so these weights are held while the rest trains:

    encoder, layer 0, head 0           as above, and a copy of the token before into a subspace `difference`
    encoder, layers 1.., last head     read other places with the same token, their twins
    encoder, layer 1, last head        takes the twins' `difference` off the own: nothing is left of equal ones
    encoder, layer 1, feed forward     64 units square what is left and write it in one direction, `mark`

Measured: docs/log.md. Source: induction heads, arXiv:2209.11895; initial weights that imitate trained attention,
arXiv:2305.09828. The construction itself is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from flan_lora.mini.network import Shape

BEFORE, SELF = 1, 0
"""Buckets of the relative position bias: the key one place before the query; the query's own place."""


@dataclass(frozen=True)
class Circuits:
    """How strongly the circuits act at the start; scores are in nats, as T5 leaves them unscaled."""

    num_lookup_heads: int = 2
    before_bias: float = 7.0
    """Score of the token before; e^7 against a few hundred other places."""
    self_bias: float = -20.0
    """Score of a token's own place, for the head that looks for its twin, far below any twin's."""
    match: float = 0.4
    """Times a q of orthonormal rows: the score of equal tokens is about 0.4 * d_kv * (share of the state)."""
    write: float = 2.0
    """Of the looked-up token, against an embedding of 1 per entry."""
    twin_write: float = 1.35
    """Of the twin's `difference`, against 1 of the own: the norm before layer 1 divides by about as much."""
    num_projections: int = 32
    """Of `difference`, each squared by two units (gelu(z) z + gelu(-z)(-z) is about z^2)."""
    mark: float = 0.12
    """Of the squares' sum: a place without its like gets about 12, beside a state of length 20."""
    head_std: float = 0.06
    """Of the output head's entries: an untrained model copies random tokens at 6.0 nats each, 9.4 where they are
    not in its source (4.9 without the comparison beside it, a lead that is gone after 100 steps)."""


@torch.no_grad()
def install(model: Any, shape: Shape, generator: torch.Generator, circuits: Circuits | None = None) -> None:
    """Write the circuits over the fresh weights of `model`, in place.

    Raises:
        ValueError: the model's width has no room for four subspaces of a head's width.
    """
    c = circuits or Circuits()
    if 4 * shape.d_kv > shape.d_model:
        raise ValueError(f"circuits need d_model >= 4 * d_kv, got d_model {shape.d_model}, d_kv {shape.d_kv}")
    rotation = _orthonormal(shape.d_model, shape.d_model, generator)
    *places, difference, own = torch.split(_orthonormal(4 * shape.d_kv, shape.d_model, generator), shape.d_kv)
    num_lookups = min(c.num_lookup_heads, shape.num_heads - 1)
    lookups = [
        _Lookup(_orthonormal(shape.d_kv, shape.d_model, generator), place) for place in places[:num_lookups]
    ]
    attention = model.encoder.block[0].layer[0].SelfAttention
    _read_before(attention, lookups, shape, c)
    attention.o.weight[:, _rows(0, shape)] += difference.T
    _read_twins(model, own, shape, c)
    if len(model.encoder.block) > 1:
        _mark_differences(model.encoder.block[1], difference, shape, c, generator)
    for block in model.decoder.block:
        _look_up(block.layer[1].EncDecAttention, lookups, rotation, shape, c, generator)
    model.lm_head.weight.copy_(c.head_std * model.shared.weight @ rotation)


def held(model: Any, shape: Shape, circuits: Circuits | None = None) -> list[Tensor]:
    """Views of the weights that no step may change: those of the comparison."""
    blocks, bias = model.encoder.block, _relative_bias(model).data
    last = shape.num_heads - 1
    views = [bias[:, :1], bias[:, last:], *_head(blocks[0].layer[0].SelfAttention, 0, shape)]
    if len(blocks) > 1:
        dense = blocks[1].layer[1].DenseReluDense
        units = slice(2 * _num_projections(circuits or Circuits(), shape))
        views += _head(blocks[1].layer[0].SelfAttention, last, shape)
        views += [dense.wi_0.weight.data[units], dense.wi_1.weight.data[units], dense.wo.weight.data[:, units]]
    return views


@dataclass(frozen=True)
class _Lookup:
    """What one look-up head knows a token by.

    Shapes: read, place (d_kv, d_model), orthonormal rows. `read` takes d_kv numbers of a token's embedding,
    `place` is where the encoder keeps those of the token before.
    """

    read: Tensor
    place: Tensor


def _read_before(attention: Any, lookups: list[_Lookup], shape: Shape, c: Circuits) -> None:
    """Heads that carry `read` of the token before to `place`, whatever the tokens are."""
    for head, lookup in enumerate(lookups):
        rows = _rows(head, shape)
        attention.relative_attention_bias.weight[:, head] = 0
        attention.relative_attention_bias.weight[BEFORE, head] = c.before_bias
        attention.q.weight[rows] *= 0.1
        attention.v.weight[rows] = lookup.read
        attention.o.weight[:, rows] = lookup.place.T


def _read_twins(model: Any, own: Tensor, shape: Shape, c: Circuits) -> None:
    """Heads that find the other places of a token, by the part `own` of its state that no circuit writes to."""
    last = shape.num_heads - 1
    bias = _relative_bias(model)
    bias[:, last] = 0
    bias[SELF, last] = c.self_bias
    for block in model.encoder.block[1:]:
        attention, rows = block.layer[0].SelfAttention, _rows(last, shape)
        attention.k.weight[rows] = own
        attention.q.weight[rows] = c.match * own


def _mark_differences(
    block: Any, difference: Tensor, shape: Shape, c: Circuits, generator: torch.Generator
) -> None:
    """Take the twin's `difference` off a token's own and write the square of what is left in one direction."""
    attention, rows = block.layer[0].SelfAttention, _rows(shape.num_heads - 1, shape)
    attention.v.weight[rows] = difference
    attention.o.weight[:, rows] = -c.twin_write * difference.T
    num = _num_projections(c, shape)
    projections = (shape.d_kv / num) ** 0.5 * _orthonormal(num, shape.d_kv, generator) @ difference
    units = torch.cat([projections, -projections])
    dense = block.layer[1].DenseReluDense
    dense.wi_0.weight[: len(units)] = units
    dense.wi_1.weight[: len(units)] = units
    dense.wo.weight[:, : len(units)] = c.mark * _orthonormal(1, shape.d_model, generator).T


def _num_projections(c: Circuits, shape: Shape) -> int:
    return min(c.num_projections, shape.d_kv, shape.d_ff // 2)


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


def _head(attention: Any, head: int, shape: Shape) -> list[Tensor]:
    """Views of one head's q, k, v and o."""
    rows = _rows(head, shape)
    weights = [part.weight.data[rows] for part in (attention.q, attention.k, attention.v)]
    return [*weights, attention.o.weight.data[:, rows]]


def _rows(head: int, shape: Shape) -> slice:
    return slice(head * shape.d_kv, (head + 1) * shape.d_kv)


def _orthonormal(num_rows: int, num_columns: int, generator: torch.Generator) -> Tensor:
    """(rows, columns) with orthonormal rows; rows <= columns."""
    columns: Tensor = torch.linalg.qr(torch.randn(num_columns, num_rows, generator=generator))[0]
    return columns.T.contiguous()
