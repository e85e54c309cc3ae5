"""T5's forward pass over the weights of a frozen base, with the adapters of a batch as an argument.

A pure function of base, batch and deltas: no hook, no global state, nothing of the base is written, so any number
of threads may share one. What the decoder can know before the first token is computed once: encoder states, keys
and values of the cross attention, position biases. Knows weights and token ids; never a request or a search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from flan_lora.base.fingerprint import int8_scale
from flan_lora.engine import linear as dense
from flan_lora.engine.lora_batch import IndexedLora, SegmentedLora
from flan_lora.errors import AdapterError

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

AnyLora = SegmentedLora | IndexedLora

_DEQUANTISE = 6.200124e-05
"""Codes are x / max|x| * 127 on both sides of an int8 product (LLM.int8, arXiv:2208.07339, equation 2). That makes
1 / 127**2 = 6.200012e-05; bitsandbytes' CPU kernel has this number (0.50.2), and adapters are trained on it."""


_TOKENS_IN_CACHE = 256
"""That an int8 product takes at once: their codes, sums and floats fit into the second level cache of a core."""


@dataclass(frozen=True)
class Linear:
    """One linear of the base, as data. T5 has no biases."""

    name: str
    weight: Tensor
    """(out, in): floats, or int8 codes."""
    scale: Tensor | None
    """max |row| (out,) fp32 of int8 codes; None for floats."""


def linear_with_lora(linears: Sequence[Linear], x: Tensor, lora: AnyLora) -> list[Tensor]:
    """Each linear of ``x`` plus its rows' updates; an int8 input is quantised once for all.

    int8 runs row-wise at threshold 0 whatever the base was loaded with: at any other, outlier columns are chosen
    over the whole batch, and a row's answer would depend on its neighbours.

    Shapes: x (N, T, in) -> (N, T, out) each.
    """
    low_rank_x = lora.cast(x)
    if all(linear.scale is None for linear in linears):
        outputs = [dense.linear(x, linear.weight) for linear in linears]
    else:
        outputs = _int8_products(linears, x)
    return [lora.add_lora(linear.name, low_rank_x, out) for linear, out in zip(linears, outputs, strict=True)]


def _int8_products(linears: Sequence[Linear], x: Tensor) -> list[Tensor]:
    """Each int8 linear of ``x``, a few tokens at a time on the CPU: what lies between the codes and the outputs
    then stays in the cache, which makes a long batch a third faster than its products alone would."""
    flat = x.reshape(-1, x.shape[-1])
    if flat.is_cuda:
        outputs = _bitsandbytes_products(linears, flat)
    else:
        outputs = [x.new_empty(len(flat), linear.weight.shape[0]) for linear in linears]
        for start in range(0, len(flat), _TOKENS_IN_CACHE):
            part = slice(start, start + _TOKENS_IN_CACHE)
            codes, scale = _quantise(flat[part])
            for linear, out in zip(linears, outputs, strict=True):
                _int8_product(codes, scale, linear, out[part])
    return [out.view(*x.shape[:-1], -1) for out in outputs]


def _bitsandbytes_products(linears: Sequence[Linear], flat: Tensor) -> list[Tensor]:
    """Each int8 linear of tokens (N, in), with the kernels that training has on a GPU."""
    codes, scale, _ = torch.ops.bitsandbytes.int8_vectorwise_quant(flat.to(torch.float16))
    products = [
        torch.ops.bitsandbytes.int8_scaled_mm(codes, linear.weight, scale, linear.scale, dtype=torch.float16)
        for linear in linears
    ]
    return [product.to(flat.dtype) for product in products]


def _quantise(rows: Tensor) -> tuple[Tensor, Tensor]:
    """int8 codes and max |row| (N, 1) of activations (N, in) as fp16, as bitsandbytes rounds them."""
    # its own CPU kernel computes the same in fp16 steps that take twice as long
    values = rows.to(torch.float16).float()
    scale = values.abs().amax(dim=1, keepdim=True)
    return values.mul_(127.0 / scale).round_().to(torch.int8), scale


def _int8_product(codes: Tensor, scale: Tensor, linear: Linear, out: Tensor) -> None:
    """Write codes (N, in) times the linear's, as floats, to ``out`` (N, out)."""
    assert linear.scale is not None
    product = torch._int_mm(codes, linear.weight.T)
    floats = out.copy_(product) if out.dtype == torch.float32 else product.float()
    floats.mul_(scale * _DEQUANTISE).mul_(linear.scale)
    if floats is not out:
        out.copy_(floats)


@dataclass(frozen=True)
class Norm:
    """T5's layer norm: by the root of the mean square, without a mean or a bias."""

    module: nn.Module
    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """In fewer passes over ``x`` than the module makes, for its usual cases."""
        if x.is_cuda:
            normed: Tensor = functional.rms_norm(x, self.weight.shape, self.weight, self.eps)
            return normed
        if x.dtype != torch.float32 or self.weight.dtype != torch.float32:
            return self.module(x)  # type: ignore[no-any-return]
        mean_square: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        return (x * mean_square.add_(self.eps).rsqrt_()).mul_(self.weight)


@dataclass(frozen=True)
class Attention:
    """Projections and norm of one attention sublayer."""

    norm: Norm
    q: Linear
    k: Linear
    v: Linear
    o: Linear


@dataclass(frozen=True)
class FeedForward:
    """Norm, one input projection (T5) or two of which one gates (v1.1), and the way back."""

    norm: Norm
    wi: tuple[Linear, ...]
    wo: Linear
    act: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Block:
    """One layer of a stack; an encoder's has no cross attention."""

    attention: Attention
    cross: Attention | None
    feed_forward: FeedForward


class KVCache(Protocol):
    """What `T5.step` asks of the memory of some sequences, and tells it. Shapes as in `DynamicKVCache`."""

    @property
    def num_sequences(self) -> int: ...

    def self_attention(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...

    def cross_attention(self, layer: int, q: Tensor) -> Tensor: ...

    def advance(self) -> None: ...


@dataclass
class DynamicKVCache:
    """What the decoder remembers of a batch. Written by `T5.step`, for one thread.

    Shapes (R rows, W sequences per row, H heads, S source, T tokens at most, L layers, D per head):
        cache   (L, 2, R * W, H, T, D)  keys and values of the tokens so far
        cross   L pairs of (R, H, S, D)  computed once, shared by a row's sequences
        visible (R, 1, 1, S)  0 for source tokens, the lowest number for padding
    """

    cache: Tensor
    cross: list[tuple[Tensor, Tensor]]
    visible: Tensor
    position_bias: Tensor
    """(1, H, 1, T): of the last of T tokens looking back; the tail of it serves every earlier one."""
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
        bias = self.position_bias[..., self.position_bias.shape[-1] - 1 - now :]
        return attend(q, keys[:, :, : now + 1], values[:, :, : now + 1], bias)

    def cross_attention(self, layer: int, q: Tensor) -> Tensor:
        """Attention over the source: a row's W sequences are W queries to one set of keys."""
        return across(q, *self.cross[layer], self.visible, self.width)

    def advance(self) -> None:
        """One token further."""
        self.length += 1

    def reorder(self, sequences: Tensor) -> None:
        """Let sequence n go on from sequence ``sequences[n]`` of the same row (beams)."""
        past = self.cache[..., : self.length, :]
        past.copy_(past.index_select(2, sequences))

    def select(self, rows: Tensor) -> None:
        """Keep some of the rows."""
        sequences = (rows[:, None] * self.width + torch.arange(self.width, device=rows.device)).flatten()
        self.cache = self.cache.index_select(2, sequences)
        self.cross = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in self.cross]
        self.visible = self.visible.index_select(0, rows)

    def close(self) -> None:
        """Nothing is lent."""


class T5:
    """The two stacks of one base."""

    def __init__(self, base: T5ForConditionalGeneration) -> None:
        """Raises AdapterError for a base that PEFT has put an adapter into."""
        config = base.config
        self.device: torch.device = base.shared.weight.device
        self._shared, self._head = base.shared.weight, base.lm_head.weight
        self._output_scale = config.d_model**-0.5 if config.scale_decoder_outputs else None
        self._num_heads, self._head_size = config.num_heads, config.d_kv
        self._encoder, self._decoder = _blocks(base, "encoder"), _blocks(base, "decoder")
        self._encoder_norm, self._decoder_norm = (
            _norm(base.encoder.final_layer_norm),
            _norm(base.decoder.final_layer_norm),
        )
        self._encoder_bias = base.encoder.block[0].layer[0].SelfAttention.compute_bias
        self._decoder_bias = base.decoder.block[0].layer[0].SelfAttention.compute_bias

    def encode(self, input_ids: Tensor, attention_mask: Tensor, lora: AnyLora) -> Tensor:
        """Encoder states (R, S, d_model) of ids and mask (R, S), padded right."""
        x = functional.embedding(input_ids, self._shared)
        length = input_ids.shape[1]
        bias = self._encoder_bias(length, length).to(x.dtype)
        if x.is_cuda or not attention_mask.all():  # a GPU would have to be waited for
            bias = bias.masked_fill(attention_mask[:, None, None, :] == 0, torch.finfo(x.dtype).min)
        for block in self._encoder:
            q, k, v = self._heads(linear_with_lora(_qkv(block.attention), block.attention.norm(x), lora))
            x += self._merge(block.attention, attend(q, k, v, bias), x, lora)
            x += _feed_forward(block.feed_forward, x, lora)
        return self._encoder_norm(x)

    def precompute_cross_kv(
        self, states: Tensor, attention_mask: Tensor, lora: AnyLora
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """All that follows from the source alone: `DynamicKVCache.cross` and `DynamicKVCache.visible`."""
        cross = []
        for block in self._decoder:
            assert block.cross is not None
            k, v = self._heads(linear_with_lora((block.cross.k, block.cross.v), states, lora))
            cross.append((k, v))
        lowest = torch.finfo(states.dtype).min
        visible = torch.zeros_like(attention_mask, dtype=states.dtype).masked_fill_(attention_mask == 0, lowest)
        return cross, visible[:, None, None, :]

    def start(
        self, states: Tensor, attention_mask: Tensor, lora: AnyLora, *, width: int, max_tokens: int
    ) -> DynamicKVCache:
        """Room for ``width`` sequences of ``max_tokens`` per row, and what follows from the source."""
        cross, visible = self.precompute_cross_kv(states, attention_mask, lora)
        cache = self.new_cache(states.shape[0] * width, max_tokens)
        return DynamicKVCache(cache, cross, visible, self.position_bias(max_tokens), width)

    def new_cache(self, num_sequences: int, max_tokens: int) -> Tensor:
        """`DynamicKVCache.cache`, its numbers still to be written."""
        shape = (len(self._decoder), 2, num_sequences, self._num_heads, max_tokens, self._head_size)
        cache: Tensor = self._shared.new_empty(shape)
        return cache

    def position_bias(self, max_tokens: int) -> Tensor:
        """`DynamicKVCache.position_bias`"""
        bias: Tensor = self._decoder_bias(1, max_tokens, past_seen_tokens=max_tokens - 1)
        return bias.to(self._shared.dtype)

    def step(self, ids: Tensor, caches: Sequence[KVCache], lora: AnyLora) -> Tensor:
        """Feed the next token of every sequence (N,); logits (N, vocabulary) in fp32 for the one after.

        The sequences of several decodings lie one after the other: they share every linear, and each attends to
        its own past and source, however long those are.
        """
        x = functional.embedding(ids[:, None], self._shared)
        for layer, block in enumerate(self._decoder):
            qkv = self._heads(linear_with_lora(_qkv(block.attention), block.attention.norm(x), lora))
            mixed = _each(caches, qkv, lambda kv_cache, q, k, v, at=layer: kv_cache.self_attention(at, q, k, v))
            x += self._merge(block.attention, mixed, x, lora)
            assert block.cross is not None
            q = self._heads(linear_with_lora((block.cross.q,), block.cross.norm(x), lora))
            mixed = _each(caches, q, lambda kv_cache, q, at=layer: kv_cache.cross_attention(at, q))
            x += self._merge(block.cross, mixed, x, lora)
            x += _feed_forward(block.feed_forward, x, lora)
        for kv_cache in caches:
            kv_cache.advance()
        x = self._decoder_norm(x[:, 0])
        if self._output_scale is not None:
            x = x * self._output_scale
        return dense.linear(x, self._head).float()

    def _heads(self, projected: Sequence[Tensor]) -> list[Tensor]:
        """(N, T, H * D) -> (N, H, T, D)"""
        shape = (self._num_heads, self._head_size)
        return [each.view(*each.shape[:2], *shape).transpose(1, 2) for each in projected]

    def _merge(self, attention: Attention, mixed: Tensor, x: Tensor, lora: AnyLora) -> Tensor:
        """(N, H, T, D) -> (as x) through the output projection."""
        flat = mixed.transpose(1, 2).reshape(*x.shape[:2], self._num_heads * self._head_size)
        return linear_with_lora((attention.o,), flat, lora)[0]


def _each(caches: Sequence[KVCache], tensors: Sequence[Tensor], attend: Callable[..., Tensor]) -> Tensor:
    """Each decoding's own attention for its own sequences."""
    if len(caches) == 1:
        return attend(caches[0], *tensors)
    parts = zip(
        *(tensor.split_with_sizes([each.num_sequences for each in caches]) for tensor in tensors), strict=True
    )
    return torch.cat([attend(each, *own) for each, own in zip(caches, parts, strict=True)])


def _qkv(attention: Attention) -> tuple[Linear, ...]:
    return attention.q, attention.k, attention.v


def across(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, width: int) -> Tensor:
    """Attention of one token each (R * W, H, 1, D) over the keys and values (R, H, S, D) of their rows."""
    shape = q.shape
    q = q.view(-1, width, *shape[1:]).squeeze(3).transpose(1, 2)
    return attend(q, k, v, visible).transpose(1, 2).reshape(shape)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """T5's attention; ``bias`` is added to the scores."""
    # T5 does not divide the scores by sqrt(D): its initialisation takes care of that
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)


def _feed_forward(layer: FeedForward, x: Tensor, lora: AnyLora) -> Tensor:
    first, *gate = linear_with_lora(layer.wi, layer.norm(x), lora)
    hidden = layer.act(first)
    if gate:
        hidden = hidden.mul_(gate[0])
    return linear_with_lora((layer.wo,), hidden, lora)[0].to(x.dtype)


def _blocks(base: T5ForConditionalGeneration, stack: str) -> list[Block]:
    """A stack of the base as data."""
    blocks = []
    for number, block in enumerate(getattr(base, stack).block):
        name = f"{stack}.block.{number}.layer"
        first, *cross, last = block.layer
        blocks.append(
            Block(
                _attention(f"{name}.0.SelfAttention", first.SelfAttention, first.layer_norm),
                _attention(f"{name}.1.EncDecAttention", cross[0].EncDecAttention, cross[0].layer_norm)
                if cross
                else None,
                _dense(f"{name}.{len(block.layer) - 1}.DenseReluDense", last.DenseReluDense, last.layer_norm),
            )
        )
    return blocks


def _attention(name: str, module: Any, norm: nn.Module) -> Attention:
    q, k, v, o = (_linear(f"{name}.{part}", getattr(module, part)) for part in "qkvo")
    return Attention(_norm(norm), q, k, v, o)


def _dense(name: str, module: Any, norm: nn.Module) -> FeedForward:
    parts = ("wi_0", "wi_1") if hasattr(module, "wi_0") else ("wi",)
    wi = tuple(_linear(f"{name}.{part}", getattr(module, part)) for part in parts)
    return FeedForward(_norm(norm), wi, _linear(f"{name}.wo", module.wo), module.act)


def _norm(module: nn.Module) -> Norm:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return Norm(module, weight.data, float(module.variance_epsilon))  # type: ignore[arg-type]


def _linear(name: str, module: nn.Module) -> Linear:
    if not isinstance(module, nn.Linear):  # PEFT puts its layers into the base itself; we would run past them
        raise AdapterError(
            f"this base already carries an adapter: {name} is a {type(module).__name__}, expected a linear.\n"
            "Call unload() on its PeftModel first, or open the base anew."
        )
    return Linear(name, module.weight.data, int8_scale(module))
