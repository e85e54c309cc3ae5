"""Parts of ``mini`` that start with a job: look up what followed a word, tell where a word's twin follows another.

A model of this size needs hundreds of millions of tokens before it copies from its source; summaries, questions
and answers are mostly copies. So the copying circuit stands in the initial weights, and training only keeps it:

    encoder, layer 0, heads 0 and 1    read the token before (by relative position) into a subspace of its own
    cross attention, heads 0 and 1     the token just written asks for places whose token before it is that one,
                                       and writes their token in a rotated basis, in which the output head reads

Nor does it learn within thousands of pairs to compare two sentences of the same words. So a second circuit marks
words that follow the same word as their twin does:

    encoder, layer 0, head 0           as above, and half of it once more into a subspace `before`
    encoder, layers 1.., last head     read other places with the same token, their twins, by a subspace `own`
    encoder, layer 1, last head        writes the twins' `before` into a subspace `twin`
    encoder, layer 1, feed forward     64 units multiply `before` by `twin`; the sum is `mark`, a number

Plain text has no use for it, and training moves whatever has no use. So its weights are held, and nothing else in
the first two layers writes into its subspaces (`Keeper`).

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
    self_bias: float = -200.0
    """Score of a token's own place, for the head that looks for its twin: never itself."""
    match: float = 0.4
    """Times a q of orthonormal rows: the score of equal tokens is about 0.4 * d_kv * (share of the state)."""
    write: float = 2.0
    """Of the looked-up token, against an embedding of 1 per entry."""
    twin_match: float = 3.0
    """As `match`, of `own`: enough still when training has made the state twice as long, and its share a fifth."""
    mark: float = 0.3
    """Of the product; about 30 for a like at the start, beside a state of length 20, and a few after training."""
    head_std: float = 0.06
    """Of the output head's entries: an untrained model copies random tokens at 5.7 nats each, 9.4 where they are
    not in its source (4.9 without the comparison beside it, a lead that is gone after 100 steps)."""


@torch.no_grad()
def install(model: Any, shape: Shape, generator: torch.Generator, circuits: Circuits | None = None) -> None:
    """Write the circuits over the fresh weights of `model`, in place.

    Raises:
        ValueError: the model's width has no room for the subspaces.
    """
    c = circuits or Circuits()
    half, num_lookups = shape.d_kv // 2, min(c.num_lookup_heads, shape.num_heads - 1)
    widths = [shape.d_kv] * num_lookups + [half, half, half, 1]
    if sum(widths) > shape.d_model:
        raise ValueError(f"circuits need d_model >= {sum(widths)} with d_kv {shape.d_kv}, got {shape.d_model}")
    rotation = _orthonormal(shape.d_model, shape.d_model, generator)
    *places, own, before, twin, mark = torch.split(_orthonormal(sum(widths), shape.d_model, generator), widths)
    lookups = [_Lookup(_orthonormal(shape.d_kv, shape.d_model, generator), place) for place in places]
    attention = model.encoder.block[0].layer[0].SelfAttention
    _read_before(attention, lookups, shape, c)
    attention.o.weight[:, :half] += c.write * before.T
    _read_twins(model, own, shape, c)
    if len(model.encoder.block) > 1:
        _mark_likes(model.encoder.block[1], before, twin, mark, shape, c)
        Keeper(model, shape).restore()
    for block in model.decoder.block:
        _look_up(block.layer[1].EncDecAttention, lookups, rotation, shape, c, generator)
    model.lm_head.weight.copy_(c.head_std * model.shared.weight @ rotation)


class Keeper:
    """Keeps the comparison of a model through training: call `restore` after every step.

    It reads all it needs from the model's weights, fresh or of a checkpoint. A model of one encoder layer has no
    comparison, and nothing is kept.
    """

    def __init__(self, model: Any, shape: Shape) -> None:
        self.held: list[tuple[Tensor, Tensor]] = []
        self.fences: list[tuple[Tensor, Tensor]] = []
        self._strengthened: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        if len(model.encoder.block) < 2:
            return
        (first, ff_first), (second, ff_second) = (
            (block.layer[0].SelfAttention, block.layer[1].DenseReluDense) for block in model.encoder.block[:2]
        )
        half, last, bias = shape.d_kv // 2, shape.num_heads - 1, _relative_bias(model).data
        rows, units = _rows(last, shape), slice(2 * half)
        mark = ff_second.wo.weight.data[:, :1].T
        own, before = (part.weight.data[rows][:half] for part in (second.k, second.v))
        twin = second.o.weight.data[:, rows][:, :half].T
        views = [bias[:, :1], bias[:, last:], *_head(first, 0, shape), *_head(second, last, shape)]
        views += [ff_second.wi_0.weight.data[units], ff_second.wi_1.weight.data[units]]
        views.append(ff_second.wo.weight.data[:, units])
        self.held = [(view, view.clone()) for view in views]
        for weight, parts in (
            (first.o.weight, (own, before, twin, mark)),
            (ff_first.wo.weight, (own, before, twin, mark)),
            (second.o.weight, (before, twin, mark)),
            (ff_second.wo.weight, (mark,)),
        ):
            basis = torch.cat([part / part.norm(dim=1, keepdim=True) for part in parts])
            self.fences.append((weight.data, basis))
        writes = first.o.weight.data[:, _rows(0, shape)]
        self._strengthened = before, writes, second.q.weight.data[rows], second.o.weight.data[:, rows]

    @torch.no_grad()
    def strengthen(self, factor: float) -> None:
        """Multiply what the circuit writes and how it scores twins: training makes the state longer around it."""
        if self._strengthened is None:
            return
        before, writes, scores, twins = self._strengthened
        basis = before / before.norm(dim=1, keepdim=True)
        writes += (factor - 1) * basis.T @ (basis @ writes)
        scores *= factor
        twins *= factor
        self.held = [(view, view.clone()) for view, _ in self.held]

    def restore(self) -> None:
        """Take what others wrote into the subspaces out again, and put the circuit's weights back."""
        for weight, basis in self.fences:
            weight -= basis.T @ (basis @ weight)
        for view, value in self.held:
            view.copy_(value)


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
        for part, scale in ((attention.k, 1.0), (attention.q, c.twin_match)):
            part.weight[rows] = 0
            part.weight[rows][: len(own)] = scale * own


def _mark_likes(block: Any, before: Tensor, twin: Tensor, mark: Tensor, shape: Shape, c: Circuits) -> None:
    """Fetch the twin's `before`, and write its product with a token's own in the direction `mark`."""
    attention, rows = block.layer[0].SelfAttention, _rows(shape.num_heads - 1, shape)
    attention.v.weight[rows] = 0
    attention.v.weight[rows][: len(before)] = before
    attention.o.weight[:, rows] = 0
    attention.o.weight[:, rows][:, : len(twin)] = c.write * twin.T
    dense, units = block.layer[1].DenseReluDense, slice(2 * len(before))
    dense.wi_0.weight[units] = torch.cat([before, -before])  # gelu(a) b + gelu(-a)(-b) = a b
    dense.wi_1.weight[units] = torch.cat([twin, -twin])
    dense.wo.weight[:, units] = c.mark * mark.T


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
