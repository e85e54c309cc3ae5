"""A mix as one adapter: the summed update of each linear, cut to a rank by SVD, and what the cut loses.

A mix adds sum_i w_i s_i B_i A_i to a linear. That is B A with all B_i side by side and all A_i one below the
other, of a rank up to the sum of theirs; the best update of a lower rank, in the Frobenius norm, keeps the largest
singular values. (LoraHub's own formula (sum w_i A_i)(sum w_i B_i) is another one: it needs adapters of one
rank, and has products of unlike adapters, which nobody trained.)

Source: Eckart and Young (1936), Psychometrika 1(3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from flan_lora.adapters.weights import AdapterWeights, Linears
from flan_lora.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MergedUpdate:
    """One LoRA update of scale 1, and how far it is from the mix."""

    rank: int
    pairs: Mapping[str, tuple[Tensor, Tensor]]
    """Linear -> (A (rank, in), B (out, rank)), fp32, on the CPU."""
    errors: Mapping[str, float]
    """Linear -> ||mix - merged|| / ||mix|| in the Frobenius norm; 0 where the mix changes nothing."""
    relative_error: float
    """The same over all linears together."""

    @property
    def largest_error(self) -> tuple[str, float]:
        """The linear that loses most, and how much."""
        return max(self.errors.items(), key=lambda item: item[1])


def merge_mix(
    parts: Sequence[AdapterWeights], mix: Mapping[str, float], linears: Linears, rank: int | None = None
) -> MergedUpdate:
    """Sum the updates of a mix and cut the sum to one rank.

    Args:
        parts: the adapters of the mix.
        linears: of the base. Every linear whose short name (``q``, ``wi_0``) one of the adapters changes gets an
            update, because a published adapter names its targets so; those that no adapter changes get 0.
        rank: None: the largest of the parts.

    Raises:
        AdapterError: an adapter that is no plain LoRA: DoRA rescales the base, which has no low rank.
    """
    if rescaled := [part.name for part in parts if part.rescales]:
        raise AdapterError(
            f"{', '.join(rescaled)}: DoRA, which multiplies the base's own weights: no LoRA equals that.\n"
            "Serve the mix as it is, or compose without it (--adapter)."
        )
    rank = max(part.rank for part in parts) if rank is None else rank
    changed = {short_name(name) for part in parts for name in part.pairs}
    pairs, errors, lost, total = {}, {}, 0.0, 0.0
    for name, (features_in, features_out) in sorted(linears.items()):
        if short_name(name) not in changed:
            continue
        a, b = _stacked(parts, mix, name, features_in, features_out)
        pairs[name], kept_square, square = _cut(a, b, rank)
        lost, total = lost + square - kept_square, total + square
        errors[name] = math.sqrt(max(square - kept_square, 0.0) / square) if square else 0.0
    return MergedUpdate(rank, pairs, errors, math.sqrt(max(lost, 0.0) / total) if total else 0.0)


def short_name(name: str) -> str:
    """Of a linear: ``q``, ``wi_0``."""
    return name.rsplit(".", 1)[-1]


def _stacked(
    parts: Sequence[AdapterWeights], mix: Mapping[str, float], name: str, features_in: int, features_out: int
) -> tuple[Tensor, Tensor]:
    """A (R, in) and B (out, R) of the sum, R the sum of ranks; in fp64, because singular values are squared."""
    own = [part for part in parts if name in part.pairs]
    if not own:
        return torch.zeros(0, features_in).double(), torch.zeros(features_out, 0).double()
    a = torch.cat([part.pairs[name][0].double() for part in own])
    b = torch.cat([part.pairs[name][1].double() * (mix[part.name] * part.scalings[name]) for part in own], dim=1)
    return a, b


def _cut(a: Tensor, b: Tensor, rank: int) -> tuple[tuple[Tensor, Tensor], float, float]:
    """(A, B) of the nearest update of a rank, and the squared Frobenius norms of it and of B A.

    By the QR of both factors, so that what is decomposed is (R, R) and never the linear itself.
    """
    q_b, r_b = torch.linalg.qr(b)
    q_a, r_a = torch.linalg.qr(a.T)
    u, singular, v_t = torch.linalg.svd(r_b @ r_a.T)
    kept = min(rank, len(singular))
    root = singular[:kept].sqrt()
    new_a, new_b = a.new_zeros(rank, a.shape[1]), b.new_zeros(b.shape[0], rank)
    new_a[:kept] = root[:, None] * (v_t[:kept] @ q_a.T)
    new_b[:, :kept] = (q_b @ u[:, :kept]) * root
    squares = singular.square()
    return (new_a.float(), new_b.float()), float(squares[:kept].sum()), float(squares.sum())
