"""T5's forward pass over the weights of a frozen base, with the LoRA updates of a batch as an argument.

A pure function of base, batch and updates: no hook, no global state, nothing of the base is written, so any number
of threads may share one. What the decoder can know before the first token is computed once: encoder states, keys
and values of the cross attention, position biases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from flan_lora.base.architecture import has_bias_per_layer, output_scale
from flan_lora.base.fingerprint import int8_scale
from flan_lora.base.quantised import nf4_state
from flan_lora.engine.kv_cache import KVCache, attend
from flan_lora.engine.linear import (
    Linear,
    check_invariant,
    in_int8,
    invariant_linear,
    linear,
    linear_with_lora,
)
from flan_lora.engine.lora_batch import NO_LORA, LoraBatch
from flan_lora.errors import AdapterError

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

CrossKV = tuple[list[tuple[Tensor, Tensor]], Tensor]
"""`DynamicKVCache.cross` and `DynamicKVCache.visible` of some sources."""


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


class T5:
    """The two stacks of one base."""

    def __init__(
        self, base: T5ForConditionalGeneration, *, is_invariant: bool = False, all_int8: bool = False
    ) -> None:
        """
        Args:
            is_invariant: whether a row's bits must not depend on the number of rows, on a CPU.
            all_int8: whether head and feed-forwards' ``wo`` are multiplied in int8, too, by codes of its own.

        Raises:
            AdapterError: PEFT has put an adapter into the base.
            BaseModelError: this machine's products are not invariant.
        """
        config = base.config
        self.is_invariant = is_invariant
        self._product = invariant_linear if is_invariant else linear
        self.device: torch.device = base.shared.weight.device
        self._shared = base.shared.weight
        self._head = Linear("lm_head", base.lm_head.weight.data, None, self._product)
        self._output_scale = output_scale(config)
        self._num_heads, self._head_size = config.num_heads, config.d_kv
        self._encoder, self._decoder = (
            _blocks(base, "encoder", self._product),
            _blocks(base, "decoder", self._product),
        )
        if all_int8:
            self._head = in_int8(self._head)
            self._encoder, self._decoder = _with_int8_wo(self._encoder), _with_int8_wo(self._decoder)
        if is_invariant:
            linears = (*_linears(self._encoder + self._decoder), self._head)
            weights = [each.dense() for each in linears if each.scale is None]
            for weight in {(each.shape, each.dtype): each for each in weights}.values():
                check_invariant(weight)
        self._encoder_norm, self._decoder_norm = (
            _norm(base.encoder.final_layer_norm),
            _norm(base.decoder.final_layer_norm),
        )
        self._encoder_biases, self._decoder_biases = (
            _position_biases(stack.block, is_per_layer=has_bias_per_layer(config))
            for stack in (base.encoder, base.decoder)
        )

    def encode(self, input_ids: Tensor, attention_mask: Tensor, lora: LoraBatch) -> Tensor:
        """Encoder states (R, S, d_model) of ids and mask (R, S), padded right."""
        x = functional.embedding(input_ids, self._shared)
        length = input_ids.shape[1]
        is_padded = x.is_cuda or not attention_mask.all()  # a GPU would have to be waited for
        bias = x
        for layer, block in enumerate(self._encoder):
            if layer < len(self._encoder_biases):
                bias = self._encoder_biases[layer](length, length).to(x.dtype)
                if is_padded:
                    bias = bias.masked_fill(attention_mask[:, None, None, :] == 0, torch.finfo(x.dtype).min)
            q, k, v = self._heads(linear_with_lora(_qkv(block.attention), block.attention.norm(x), lora))
            x += self._merge(block.attention, attend(q, k, v, bias), x, lora)
            x += _feed_forward(block.feed_forward, x, lora)
        return self._encoder_norm(x)

    def prefill(self, input_ids: Tensor, attention_mask: Tensor, lora: LoraBatch) -> CrossKV:
        """All that the decoder can know of sources (R, S), padded right, before its first token."""
        return self.precompute_cross_kv(self.encode(input_ids, attention_mask, lora), attention_mask, lora)

    def precompute_cross_kv(self, states: Tensor, attention_mask: Tensor, lora: LoraBatch) -> CrossKV:
        """Keys and values of the cross attention in every layer, from encoder states (R, S, d_model)."""
        cross = []
        for block in self._decoder:
            assert block.cross is not None
            k, v = self._heads(linear_with_lora((block.cross.k, block.cross.v), states, lora))
            cross.append((k, v))
        lowest = torch.finfo(states.dtype).min
        visible = torch.zeros_like(attention_mask, dtype=states.dtype).masked_fill_(attention_mask == 0, lowest)
        return cross, visible[:, None, None, :]

    def new_cache(self, num_sequences: int, max_tokens: int) -> Tensor:
        """`DynamicKVCache.cache`, its numbers still to be written."""
        shape = (len(self._decoder), 2, num_sequences, self._num_heads, max_tokens, self._head_size)
        cache: Tensor = self._shared.new_empty(shape)
        return cache

    def position_bias(self, max_tokens: int) -> Tensor:
        """`DynamicKVCache.position_bias`"""
        each = [bias(1, max_tokens, past_seen_tokens=max_tokens - 1) for bias in self._decoder_biases]
        return torch.stack(each).to(self._shared.dtype).expand(len(self._decoder), -1, -1, -1, -1)

    def decode(self, ids: Tensor, caches: Sequence[KVCache], lora: LoraBatch) -> Tensor:
        """Feed the next token of every sequence (N,); logits (N, vocabulary) in fp32 for the one after.

        The sequences of several decodings lie one after the other: they share every linear, and each attends to
        its own past and source, however long those are.
        """
        x = functional.embedding(ids[:, None], self._shared)
        for layer, block in enumerate(self._decoder):
            qkv = self._heads(linear_with_lora(_qkv(block.attention), block.attention.norm(x), lora))
            mixed = _each(caches, qkv, lambda cache, q, k, v, at=layer: cache.self_attention(at, q, k, v))
            x += self._merge(block.attention, mixed, x, lora)
            assert block.cross is not None
            q = self._heads(linear_with_lora((block.cross.q,), block.cross.norm(x), lora))
            mixed = _each(caches, q, lambda cache, q, at=layer: cache.cross_attention(at, q))
            x += self._merge(block.cross, mixed, x, lora)
            x += _feed_forward(block.feed_forward, x, lora)
        for cache in caches:
            cache.advance()
        x = self._decoder_norm(x[:, 0])
        if self._output_scale is not None:
            x = x * self._output_scale
        return linear_with_lora((self._head,), x, NO_LORA)[0].float()

    def _heads(self, projected: Sequence[Tensor]) -> list[Tensor]:
        """(N, T, H * D) -> (N, H, T, D)"""
        shape = (self._num_heads, self._head_size)
        return [each.view(*each.shape[:2], *shape).transpose(1, 2) for each in projected]

    def _merge(self, attention: Attention, mixed: Tensor, x: Tensor, lora: LoraBatch) -> Tensor:
        """(N, H, T, D) -> (as x) through the output projection."""
        flat = mixed.transpose(1, 2).reshape(*x.shape[:2], self._num_heads * self._head_size)
        return linear_with_lora((attention.o,), flat, lora)[0]


def _each(caches: Sequence[KVCache], tensors: Sequence[Tensor], attention: Callable[..., Tensor]) -> Tensor:
    """Each decoding's own attention for its own sequences."""
    if len(caches) == 1:
        return attention(caches[0], *tensors)
    parts = zip(
        *(tensor.split_with_sizes([each.num_sequences for each in caches]) for tensor in tensors), strict=True
    )
    return torch.cat([attention(each, *own) for each, own in zip(caches, parts, strict=True)])


def _position_biases(blocks: Sequence[Any], *, is_per_layer: bool) -> list[Callable[..., Tensor]]:
    """Of each layer that has its own; the last one's serves those after it."""
    own = blocks if is_per_layer else blocks[:1]
    return [block.layer[0].SelfAttention.compute_bias for block in own]


def _qkv(attention: Attention) -> tuple[Linear, ...]:
    return attention.q, attention.k, attention.v


def _feed_forward(layer: FeedForward, x: Tensor, lora: LoraBatch) -> Tensor:
    first, *gate = linear_with_lora(layer.wi, layer.norm(x), lora)
    hidden = layer.act(first)
    if gate:
        hidden = hidden.mul_(gate[0])
    return linear_with_lora((layer.wo,), hidden, lora)[0].to(x.dtype)


def _with_int8_wo(blocks: Sequence[Block]) -> list[Block]:
    return [
        replace(block, feed_forward=replace(block.feed_forward, wo=in_int8(block.feed_forward.wo)))
        for block in blocks
    ]


def _linears(blocks: Sequence[Block]) -> Iterator[Linear]:
    for block in blocks:
        for attention in (block.attention, block.cross):
            if attention is not None:
                yield from (attention.q, attention.k, attention.v, attention.o)
        yield from (*block.feed_forward.wi, block.feed_forward.wo)


def _blocks(base: T5ForConditionalGeneration, stack: str, product: Callable[..., Tensor]) -> list[Block]:
    """A stack of the base as data."""
    blocks = []
    for number, block in enumerate(getattr(base, stack).block):
        name = f"{stack}.block.{number}.layer"
        first, *cross, last = block.layer
        blocks.append(
            Block(
                _attention(f"{name}.0.SelfAttention", first.SelfAttention, first.layer_norm, product),
                _attention(f"{name}.1.EncDecAttention", cross[0].EncDecAttention, cross[0].layer_norm, product)
                if cross
                else None,
                _dense(
                    f"{name}.{len(block.layer) - 1}.DenseReluDense", last.DenseReluDense, last.layer_norm, product
                ),
            )
        )
    return blocks


def _attention(name: str, module: Any, norm: nn.Module, product: Callable[..., Tensor]) -> Attention:
    q, k, v, o = (_linear(f"{name}.{part}", getattr(module, part), product) for part in "qkvo")
    return Attention(_norm(norm), q, k, v, o)


def _dense(name: str, module: Any, norm: nn.Module, product: Callable[..., Tensor]) -> FeedForward:
    parts = ("wi_0", "wi_1") if hasattr(module, "wi_0") else ("wi",)
    wi = tuple(_linear(f"{name}.{part}", getattr(module, part), product) for part in parts)
    return FeedForward(_norm(norm), wi, _linear(f"{name}.wo", module.wo, product), module.act)


def _norm(module: nn.Module) -> Norm:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return Norm(module, weight.data, float(module.variance_epsilon))  # type: ignore[arg-type]


def _linear(name: str, module: nn.Module, product: Callable[..., Tensor]) -> Linear:
    if not isinstance(module, nn.Linear):  # PEFT puts its layers into the base itself; we would run past them
        raise AdapterError(
            f"this base already carries an adapter: {name} is a {type(module).__name__}, expected a linear.\n"
            "Call unload() on its PeftModel first, or open the base anew."
        )
    return Linear(name, module.weight.data, int8_scale(module), product, nf4_state(module))
