"""Shape and initial weights of ``mini``, and a forward pass for training it fast on a CPU.

The parameters are those of transformers' T5, so the checkpoint loads with plain ``from_pretrained``; only the
training pass is ours: bf16 matrix products, no caches or optional outputs, one graph for ``torch.compile``.
A test holds its loss against transformers' own. Gated GELU: arXiv:2002.05202.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from transformers import T5Config, T5ForConditionalGeneration

IGNORED = -100


@dataclass(frozen=True)
class Shape:
    """T5 v1.1's dials. Half as many decoder as encoder layers: after equal time the losses are those of 4 + 4
    layers (docs/log.md), and an answer is written in half the time."""

    vocab_size: int = 8192
    d_model: int = 256
    d_ff: int = 704
    d_kv: int = 64
    num_heads: int = 4
    num_encoder_layers: int = 4
    num_decoder_layers: int = 2

    def config(self, dropout_rate: float = 0.0) -> T5Config:
        """The transformers config. ``dropout_rate`` is what fine-tuning uses: none, as
        it costs a quarter of a step on a CPU and the adapters see their rows once or twice."""
        from transformers import T5Config

        config = T5Config(
            vocab_size=self.vocab_size,
            d_model=self.d_model,
            d_ff=self.d_ff,
            d_kv=self.d_kv,
            num_heads=self.num_heads,
            num_layers=self.num_encoder_layers,
            num_decoder_layers=self.num_decoder_layers,
            dropout_rate=dropout_rate,
            feed_forward_proj="gated-gelu",
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
            tie_word_embeddings=False,  # read as "do not scale the decoder's output"
        )
        config.tie_word_embeddings = False  # the constructor forces True in transformers 5
        return config


def new_model(shape: Shape, seed: int) -> T5ForConditionalGeneration:
    """A fresh model in fp32 with an untied head, initialised from `seed`.

    Every linear map starts at std 1/sqrt(fan in), q at 1/sqrt(d_model * d_kv) because T5 leaves the scores
    unscaled; residual outputs start small. Then the copying circuits are written over it (`circuits`).
    """
    from transformers import T5ForConditionalGeneration

    from tools.mini import circuits

    model = T5ForConditionalGeneration(shape.config())
    # untied head, but one embedding for both stacks: with tying off, transformers leaves three copies
    model.encoder.embed_tokens.weight = model.decoder.embed_tokens.weight = model.shared.weight
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, _initial_std(name, parameter, shape), generator=generator)
    circuits.install(model, shape, generator)
    assert model.lm_head.weight is not model.shared.weight
    return model


def _initial_std(name: str, parameter: torch.nn.Parameter, shape: Shape) -> float:
    fan_in = parameter.shape[1]
    if name == "shared.weight":
        return 1.0
    if name == "lm_head.weight" or "relative_attention_bias" in name:
        return 0.02
    if name.endswith(".q.weight"):
        return float((fan_in * shape.d_kv) ** -0.5)
    if name.endswith((".o.weight", ".wo.weight")):
        return float(0.2 * fan_in**-0.5)
    return float(fan_in**-0.5)


def _linear(x: Tensor, module: Any) -> Tensor:
    return F.linear(x, module.weight.to(x.dtype))


def _norm(x: Tensor, module: Any, dtype: torch.dtype) -> Tensor:
    variance = x.pow(2).mean(-1, keepdim=True)
    scaled: Tensor = x * torch.rsqrt(variance + module.variance_epsilon) * module.weight
    return scaled.to(dtype)


def _attend(module: Any, x: Tensor, memory: Tensor, bias: Tensor | None) -> Tensor:
    """One attention layer: x (B, T, D) reads memory (B, S, D); bias broadcasts to (B, H, T, S)."""
    heads, width = module.n_heads, module.key_value_proj_dim
    q, k, v = (
        _linear(states, part).view(*states.shape[:2], heads, width).transpose(1, 2)
        for states, part in ((x, module.q), (memory, module.k), (memory, module.v))
    )
    scores = q @ k.transpose(2, 3)
    scores = scores.float() if bias is None else scores + bias
    mixed = scores.softmax(-1).to(v.dtype) @ v
    return _linear(mixed.transpose(1, 2).flatten(2), module.o)


def _feed_forward(layer: Any, states: Tensor, dtype: torch.dtype) -> Tensor:
    x = _norm(states, layer.layer_norm, dtype)
    dense = layer.DenseReluDense
    hidden = F.gelu(_linear(x, dense.wi_0), approximate="tanh") * _linear(x, dense.wi_1)
    return states + _linear(hidden, dense.wo)


def _stack(
    stack: Any,
    ids: Tensor,
    bias: Tensor,
    dtype: torch.dtype,
    memory: Tensor | None = None,
    memory_bias: Tensor | None = None,
) -> Tensor:
    """Encoder (memory None) or decoder over ids (B, T); returns normed states (B, T, D) in `dtype`."""
    states = F.embedding(ids, stack.embed_tokens.weight)
    for block in stack.block:
        x = _norm(states, block.layer[0].layer_norm, dtype)
        states = states + _attend(block.layer[0].SelfAttention, x, x, bias)
        if memory is not None:
            x = _norm(states, block.layer[1].layer_norm, dtype)
            states = states + _attend(block.layer[1].EncDecAttention, x, memory, memory_bias)
        states = _feed_forward(block.layer[-1], states, dtype)
    return _norm(states, stack.final_layer_norm, dtype)


def relative_buckets(length: int, bidirectional: bool, num_buckets: int = 32, max_distance: int = 128) -> Tensor:
    """(length, length) bucket of key minus query position: exact near, logarithmic far (T5 section 2.1)."""
    distance = torch.arange(length)[None, :] - torch.arange(length)[:, None]
    offset = torch.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        offset = (distance > 0).long() * num_buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = num_buckets // 2
    scale = (num_buckets - exact) / math.log(max_distance / exact)
    far = exact + (torch.log(distance.clamp(min=1).float() / exact) * scale).long()
    return offset + torch.where(distance < exact, distance, far.clamp(max=num_buckets - 1))


def token_losses(
    model: Any,
    input_ids: Tensor,
    labels: Tensor,
    buckets: tuple[Tensor, Tensor],
    dtype: torch.dtype = torch.bfloat16,
    padded: bool = False,
) -> Tensor:
    """Cross entropy per target token, 0 where labels are -100.

    Shapes (B rows, S source, T target):
        input_ids (B, S) int64, pad 0 on the right when `padded`; labels (B, T) int64
        buckets   relative_buckets of S (bidirectional) and of T (causal)
        result    (B, T) fp32
    """
    source_buckets, target_buckets = buckets
    first = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    bias = F.embedding(source_buckets, first).permute(2, 0, 1)[None]
    memory_bias = None
    if padded:
        memory_bias = (input_ids == 0)[:, None, None, :] * -1e9
        bias = bias + memory_bias
    memory = _stack(model.encoder, input_ids, bias, dtype)
    decoder_ids = F.pad(labels.clamp(min=0), (1, 0))[:, :-1]
    first = model.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    future = torch.ones_like(target_buckets, dtype=torch.bool).triu(1)
    bias = F.embedding(target_buckets, first).permute(2, 0, 1)[None].masked_fill(future, -1e9)
    states = _stack(model.decoder, decoder_ids, bias, dtype, memory, memory_bias)
    logits = _linear(states, model.lm_head).float()
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return loss.view_as(labels)


class AutogradT5:
    """Loss and gradients through autograd, on any device: what `fused.FusedT5` is measured and tested against."""

    def __init__(self, model: Any, dtype: torch.dtype, *, compiled: bool = False) -> None:
        self.model, self.dtype = model, dtype
        self.buckets: dict[tuple[int, bool], Tensor] = {}
        self.compiled = compiled
        self.token_losses = torch.compile(token_losses, dynamic=False) if compiled else token_losses

    def __repr__(self) -> str:
        return f"autograd{', compiled' if self.compiled else ''}, {self.dtype}"

    def begin_step(self) -> None:
        """Clear the gradients."""
        for parameter in self.model.parameters():
            parameter.grad = None

    def losses(self, input_ids: Tensor, labels: Tensor, weights: Tensor | None, padded: bool) -> Tensor:
        """Loss of every target token (B, T), 0 where labels are -100; adds the gradient of sum(weights * losses).

        Shapes: input_ids (B, S) int64, pad 0 on the right when `padded`; labels (B, T) int64; weights (B, T) fp32,
        None: no gradients.
        """
        device = self.model.device
        input_ids, labels = input_ids.to(device), labels.to(device)
        buckets = self._bucket(input_ids, bidirectional=True), self._bucket(labels, bidirectional=False)
        with torch.set_grad_enabled(weights is not None):
            losses: Tensor = self.token_losses(self.model, input_ids, labels, buckets, self.dtype, padded=padded)
        if weights is not None:
            (losses * weights.to(device)).sum().backward()  # type: ignore[no-untyped-call]
        return losses.detach()

    def _bucket(self, ids: Tensor, *, bidirectional: bool) -> Tensor:
        key = (ids.shape[1], bidirectional)
        if key not in self.buckets:
            self.buckets[key] = relative_buckets(*key).to(ids.device)
        return self.buckets[key]
