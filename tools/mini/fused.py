"""Loss and gradients of a T5 in one pass written out by hand, for training on a CPU.

The forward and backward pass of `network.token_losses`, without autograd: matrix products in `dtype`, weights cast
once per step, everything else in the kernels of `kernels.cpp`, the residual stream and all sums in fp32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tools.mini import kernels
from tools.mini.network import relative_buckets


class Packed:
    """Parameters (rows of each, D) as one matrix in `dtype`, and their gradients as one in fp32."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], dtype: torch.dtype) -> None:
        self.parameters = parameters
        rows = sum(len(p) for p in parameters)
        self.value = torch.empty(rows, parameters[0].shape[1], dtype=dtype)
        self.grad = torch.zeros(rows, parameters[0].shape[1])

    def refresh(self) -> None:
        """Read the parameters, clear the gradients, and let the parameters see them."""
        self.grad.zero_()
        start = 0
        for parameter in self.parameters:
            rows = slice(start, start + len(parameter))
            self.value[rows] = parameter.detach()
            parameter.grad = self.grad[rows]
            start += len(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.value.T

    def backward(self, x: Tensor, grad: Tensor) -> Tensor:
        """Gradient of x; the weight's own is added up."""
        self.grad += grad.T @ x
        return grad @ self.value


def _split(x: Tensor, rows: int, heads: int, width: int) -> Tensor:
    """(B * T, parts * H * D) -> (parts, B * H, T, D)."""
    length = x.shape[0] // rows
    x = x.view(rows, length, -1, heads, width).permute(2, 0, 3, 1, 4).contiguous()
    return x.view(-1, rows * heads, length, width)


def _merge(x: Tensor, rows: int) -> Tensor:
    """The inverse of `_split`."""
    parts, groups, length, width = x.shape
    x = x.view(parts, rows, groups // rows, length, width).permute(1, 3, 0, 2, 4)
    return x.reshape(rows * length, -1)


@dataclass
class _Attention:
    """One attention layer. `q` is queries, keys and values in one product, queries alone in a cross attention."""

    q: Packed
    o: Packed
    heads: int
    width: int
    is_cross: bool
    saved: tuple[Any, ...] = ()

    def forward(
        self, x: Tensor, rows: int, bias: Tensor | None, lengths: Tensor | None, causal: bool, kv: Tensor | None
    ) -> Tensor:
        mixed = _split(self.q.forward(x), rows, self.heads, self.width)
        q, k, v = (mixed[0], kv[0], kv[1]) if kv is not None else (mixed[0], mixed[1], mixed[2])
        shares = kernels.softmax_bias_(torch.bmm(q, k.mT), bias, lengths, causal, self.heads)
        merged = _merge(torch.bmm(shares, v)[None], rows)
        self.saved = (x, q, k, v, shares, merged, rows, causal)
        return self.o.forward(merged)

    def backward(self, grad: Tensor, grad_bias: Tensor | None, grad_kv: Tensor | None) -> Tensor:
        """Gradient of x; that of keys and values goes to `grad_kv` (2, B * H, S, D) in a cross attention."""
        x, q, k, v, shares, merged, rows, causal = self.saved
        self.saved = ()
        grad_out = _split(self.o.backward(merged, grad), rows, self.heads, self.width)[0]
        grads = torch.empty(1 if self.is_cross else 3, *q.shape, dtype=q.dtype)
        into = grads[1:] if grad_kv is None else grad_kv
        torch.bmm(shares.mT, grad_out, out=into[1])
        scores = torch.bmm(grad_out, v.mT)
        kernels.softmax_bias_backward_(shares, scores, grad_bias, causal, self.heads)
        torch.bmm(scores.mT, q, out=into[0])
        torch.bmm(scores, k, out=grads[0])
        return self.q.backward(x, _merge(grads, rows))


@dataclass
class _FeedForward:
    wi: Packed
    wo: Packed
    saved: tuple[Any, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        ab = self.wi.forward(x)
        hidden = kernels.gated_gelu(ab)
        self.saved = (x, ab, hidden)
        return self.wo.forward(hidden)

    def backward(self, grad: Tensor) -> Tensor:
        x, ab, hidden = self.saved
        self.saved = ()
        grad_ab = kernels.gated_gelu_backward_(ab, self.wo.backward(hidden, grad))
        return self.wi.backward(x, grad_ab)


@dataclass
class _Stack:
    """Encoder or decoder. Parts alternate with norms: parts[i] reads norms[i], the last norm is the output's."""

    parts: list[Any]
    norms: list[torch.nn.Parameter]
    table: torch.nn.Parameter
    """(buckets, heads): relative position biases."""
    causal: bool
    dtype: torch.dtype
    saved: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def distances(self, length: int) -> Tensor:
        """(2 T - 1,): bucket of key - query + T - 1."""
        square = relative_buckets(length, not self.causal)
        return torch.cat([square[1:, 0].flip(0), square[0]])

    def forward(self, states: Tensor, rows: int, lengths: Tensor | None, kv: Iterable[Tensor] = ()) -> Tensor:
        """states (B * T, D) fp32 -> the normed output in `dtype`. lengths: of the keys that padding follows."""
        self.rows, self.buckets = rows, self.distances(len(states) // rows)
        bias = self.table.detach()[self.buckets].T.contiguous()
        y, self.saved, cross = None, [], iter(kv)
        for part, norm in zip([*self.parts, None], self.norms, strict=True):
            states, x, rstd = kernels.add_norm(states, y, norm.detach(), self.dtype)
            self.saved.append((states, rstd))
            if isinstance(part, _FeedForward):
                y = part.forward(x)
            elif part is not None and part.is_cross:
                y = part.forward(x, rows, None, lengths, False, next(cross))
            elif part is not None:
                y = part.forward(x, rows, bias, None if self.causal else lengths, self.causal, None)
        return x

    def backward(self, grad_x: Tensor, grad_kv: Iterable[Tensor] = ()) -> Tensor:
        """Gradient of the states that went in, fp32; those of keys and values go to `grad_kv`."""
        grad_bias = torch.zeros(self.table.shape[1], len(self.buckets))
        cross = iter(list(grad_kv)[::-1])
        grad = self._through_norm(None, grad_x)
        for part in reversed(self.parts):
            grad_y = grad.to(self.dtype)
            if isinstance(part, _FeedForward):
                grad_x = part.backward(grad_y)
            elif part.is_cross:
                grad_x = part.backward(grad_y, None, next(cross))
            else:
                grad_x = part.backward(grad_y, grad_bias, None)
            grad = self._through_norm(grad, grad_x)
        assert self.table.grad is not None
        self.table.grad.index_add_(0, self.buckets, grad_bias.T)
        return grad

    def _through_norm(self, grad: Tensor | None, grad_normed: Tensor) -> Tensor:
        """Add what came back through the last norm to the gradient of the states."""
        states, rstd = self.saved.pop()
        norm = self.norms[len(self.saved)]
        assert norm.grad is not None
        return kernels.add_norm_backward(grad, grad_normed, states, rstd, norm.detach(), norm.grad)


class FusedT5:
    """Loss and gradients of a transformers T5 v1.1 with fp32 parameters on the CPU; used as `AutogradT5` is."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self.model, self.dtype = model, dtype
        self.packed: list[Packed] = []
        self.plain: list[torch.nn.Parameter] = []
        self.embedding: torch.nn.Parameter = model.shared.weight
        self.heads, self.width = model.config.num_heads, model.config.d_kv
        self.encoder = self._stack(model.encoder, causal=False)
        self.decoder = self._stack(model.decoder, causal=True)
        cross = [block.layer[1].EncDecAttention for block in model.decoder.block]
        self.kv = self._pack(*(part.weight for layer in cross for part in (layer.k, layer.v)))
        self.head = self._pack(model.lm_head.weight)
        self.plain.append(self.embedding)

    def __repr__(self) -> str:
        return f"fused, {self.dtype}"

    def _pack(self, *parameters: torch.nn.Parameter) -> Packed:
        self.packed.append(Packed(parameters, self.dtype))
        return self.packed[-1]

    def _stack(self, stack: Any, causal: bool) -> _Stack:
        parts: list[Any] = []
        for block in stack.block:
            layer = block.layer[0].SelfAttention
            q = self._pack(layer.q.weight, layer.k.weight, layer.v.weight)
            parts.append(_Attention(q, self._pack(layer.o.weight), self.heads, self.width, is_cross=False))
            if causal:
                layer = block.layer[1].EncDecAttention
                q, o = self._pack(layer.q.weight), self._pack(layer.o.weight)
                parts.append(_Attention(q, o, self.heads, self.width, is_cross=True))
            dense = block.layer[-1].DenseReluDense
            wi = self._pack(dense.wi_0.weight, dense.wi_1.weight)
            parts.append(_FeedForward(wi, self._pack(dense.wo.weight)))
        norms = [sub.layer_norm.weight for block in stack.block for sub in block.layer]
        norms.append(stack.final_layer_norm.weight)
        table = stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        self.plain += [*norms, table]
        return _Stack(parts, norms, table, causal, self.dtype)

    def begin_step(self) -> None:
        """Read the parameters anew and clear the gradients."""
        for packed in self.packed:
            packed.refresh()
        for parameter in self.plain:
            parameter.grad = torch.zeros_like(parameter)

    @torch.no_grad()
    def losses(self, input_ids: Tensor, labels: Tensor, weights: Tensor | None, padded: bool) -> Tensor:
        """Loss of every target token (B, T), 0 where labels are -100; adds the gradient of sum(weights * losses).

        Shapes: input_ids (B, S) int64, pad 0 on the right when `padded`; labels (B, T) int64; weights (B, T) fp32,
        None: no gradients.
        """
        rows = len(input_ids)
        lengths = (input_ids != 0).sum(1) if padded else None
        decoder_ids = torch.nn.functional.pad(labels.clamp(min=0), (1, 0))[:, :-1]
        embedding = self.embedding.detach()
        memory = self.encoder.forward(embedding[input_ids.flatten()], rows, lengths)
        kv = _split(self.kv.forward(memory), rows, self.heads, self.width)
        x = self.decoder.forward(embedding[decoder_ids.flatten()], rows, lengths, kv.view(-1, 2, *kv.shape[1:]))
        logits = self.head.forward(x)
        flat = torch.zeros(labels.numel()) if weights is None else weights.flatten().contiguous()
        losses = kernels.cross_entropy_(logits, labels.flatten(), flat).view_as(labels)
        if weights is None:
            return losses
        grad_kv = torch.empty_like(kv)
        grad = self.decoder.backward(self.head.backward(x, logits), grad_kv.view(-1, 2, *kv.shape[1:]))
        assert self.embedding.grad is not None
        self.embedding.grad.index_add_(0, decoder_ids.flatten(), grad)
        grad_memory = self.kv.backward(memory, _merge(grad_kv, rows))
        grad = self.encoder.backward(grad_memory)
        self.embedding.grad.index_add_(0, input_ids.flatten(), grad)
        return losses
