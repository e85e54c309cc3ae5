"""A T5 that is only served: the modules that transformers' has, under the same names, and nothing that trains.

Importing transformers' model and bitsandbytes takes three times as long as importing torch (docs/log.md), for code
that serving never calls: the engine computes the forward pass from the weights. What it reads of a base is here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ACTIVATIONS: Mapping[str, nn.Module] = {
    "relu": nn.ReLU(),
    "gated-gelu": nn.GELU(approximate="tanh"),
}
"""`feed_forward_proj` of T5 and of v1.1 (FLAN-T5) -> what the feed-forwards compute (`base.load.fuse_gelu`)."""

Weights = Callable[[str], Tensor]
"""The tensor of a name, in floats."""


@dataclass(frozen=True, kw_only=True)
class T5Architecture:
    """What a config.json says of a T5 whose head is its own, in the words of transformers' T5Config."""

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_decoder_layers: int
    num_heads: int
    relative_attention_num_buckets: int
    relative_attention_max_distance: int
    layer_norm_epsilon: float
    feed_forward_proj: str
    pad_token_id: int
    eos_token_id: int
    decoder_start_token_id: int
    scale_decoder_outputs: bool = False
    tie_word_embeddings: bool = False

    @property
    def model_type(self) -> str:
        """As transformers names it (`base.architecture`)."""
        return "t5"

    @property
    def is_gated(self) -> bool:
        """Whether a feed-forward has two input projections."""
        return self.feed_forward_proj.startswith("gated-")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor that a checkpoint of this architecture holds, but copies of the embedding."""
        inner = self.num_heads * self.d_kv
        found: dict[str, tuple[int, ...]] = {
            "shared.weight": (self.vocab_size, self.d_model),
            "lm_head.weight": (self.vocab_size, self.d_model),
        }
        for stack, num_layers in (("encoder", self.num_layers), ("decoder", self.num_decoder_layers)):
            for number in range(num_layers):
                place = f"{stack}.block.{number}.layer"
                attentions = ("SelfAttention", "EncDecAttention")[: 1 + (stack == "decoder")]
                for sublayer, attention in enumerate(attentions):
                    found |= {
                        f"{place}.{sublayer}.{attention}.{part}.weight": (inner, self.d_model) for part in "qkv"
                    }
                    found[f"{place}.{sublayer}.{attention}.o.weight"] = (self.d_model, inner)
                    found[f"{place}.{sublayer}.layer_norm.weight"] = (self.d_model,)
                last = f"{place}.{len(attentions)}"
                for part in ("wi_0", "wi_1") if self.is_gated else ("wi",):
                    found[f"{last}.DenseReluDense.{part}.weight"] = (self.d_ff, self.d_model)
                found[f"{last}.DenseReluDense.wo.weight"] = (self.d_model, self.d_ff)
                found[f"{last}.layer_norm.weight"] = (self.d_model,)
            bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
            found[bias] = (self.relative_attention_num_buckets, self.num_heads)
            found[f"{stack}.final_layer_norm.weight"] = (self.d_model,)
        return found


class Int8Linear(nn.Linear):
    """A frozen linear in 8 bit: ``weight`` holds the codes, `int8_scale` max |row| (out,) in fp32 (LLM.int8)."""

    def __init__(self, floats: Tensor) -> None:
        super().__init__(floats.shape[1], floats.shape[0], bias=False, device="meta")
        # bitsandbytes' arithmetic, to the bit: the codes decide what adapters were trained against
        half = floats.to(torch.float16)
        scale = half.abs().amax(dim=1).float()
        codes = torch.round(half * (127.0 / scale[:, None])).to(torch.int8)
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.register_buffer("int8_scale", scale, persistent=False)


class FrozenT5(nn.Module):
    """The two stacks, the embedding and the head of one checkpoint. `engine.t5.T5` computes its forward pass."""

    def __init__(self, architecture: T5Architecture, weights: Weights, for_int8: Weights | None = None) -> None:
        """
        Args:
            weights: in the dtype of serving.
            for_int8: what int8 linears are made of, in the dtype that was loaded (all but
                `base.quantised.UNQUANTISED` are int8); None: no linear is.
        """
        super().__init__()
        self.config = architecture
        self._weights, self._for_int8 = weights, for_int8
        self.shared = _embedding(weights("shared.weight"))
        self.encoder = self._stack("encoder", architecture.num_layers)
        self.decoder = self._stack("decoder", architecture.num_decoder_layers)
        self.lm_head = _linear(weights("lm_head.weight"))
        del self._weights, self._for_int8  # and with them the file
        self.requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        """Where all of it is."""
        return self.shared.weight.device

    def get_input_embeddings(self) -> nn.Embedding:
        """As transformers calls the embedding."""
        return self.shared

    def _stack(self, name: str, num_layers: int) -> nn.Module:
        blocks = [self._block(name, number) for number in range(num_layers)]
        norm = self._norm(f"{name}.final_layer_norm")
        return _named(block=nn.ModuleList(blocks), final_layer_norm=norm)

    def _block(self, stack: str, number: int) -> nn.Module:
        place, is_decoder = f"{stack}.block.{number}.layer", stack == "decoder"
        layers = [self._attention(place, 0, "SelfAttention", is_decoder=is_decoder, is_first=number == 0)]
        if is_decoder:
            layers.append(self._attention(place, 1, "EncDecAttention", is_decoder=True, is_first=False))
        layers.append(self._feed_forward(f"{place}.{len(layers)}"))
        return _named(layer=nn.ModuleList(layers))

    def _attention(self, place: str, number: int, name: str, *, is_decoder: bool, is_first: bool) -> nn.Module:
        own = f"{place}.{number}.{name}"
        parts: dict[str, nn.Module] = {part: self._quantised(f"{own}.{part}.weight") for part in "qkvo"}
        if is_first:
            bias = self._weights(f"{own}.relative_attention_bias.weight")
            attention: nn.Module = _BiasedAttention(parts, bias, self.config, is_decoder=is_decoder)
        else:
            attention = _named(**parts)
        return _named(**{name: attention}, layer_norm=self._norm(f"{place}.{number}.layer_norm"))

    def _feed_forward(self, place: str) -> nn.Module:
        architecture = self.config
        names = ("wi_0", "wi_1") if architecture.is_gated else ("wi",)
        dense = _named(**{name: self._quantised(f"{place}.DenseReluDense.{name}.weight") for name in names})
        dense.wo = _linear(self._weights(f"{place}.DenseReluDense.wo.weight"))
        dense.act = ACTIVATIONS[architecture.feed_forward_proj]
        return _named(DenseReluDense=dense, layer_norm=self._norm(f"{place}.layer_norm"))

    def _quantised(self, name: str) -> nn.Linear:
        return _linear(self._weights(name)) if self._for_int8 is None else Int8Linear(self._for_int8(name))

    def _norm(self, name: str) -> nn.Module:
        return T5Norm(self._weights(f"{name}.weight"), self.config.layer_norm_epsilon)


class T5Norm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, the mean in fp32 (arXiv:1910.07467)."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(weight, requires_grad=False), eps

    def forward(self, x: Tensor) -> Tensor:
        """Normed ``x`` (..., d_model), in the dtype of the weight where that is half."""
        inverse = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        normed = x * inverse
        return self.weight * (normed if self.weight.dtype == torch.float32 else normed.to(self.weight.dtype))


class _BiasedAttention(nn.Module):
    """The first self attention of a stack, which holds the position biases of all."""

    def __init__(
        self, parts: Mapping[str, nn.Module], bias: Tensor, architecture: T5Architecture, *, is_decoder: bool
    ) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.relative_attention_bias = _embedding(bias)
        self._looks_ahead = not is_decoder
        self._num_buckets = architecture.relative_attention_num_buckets
        self._max_distance = architecture.relative_attention_max_distance

    def compute_bias(self, num_queries: int, num_keys: int, past_seen_tokens: int = 0) -> Tensor:
        """(1, H, Q, K): what is added to the scores of Q queries, behind some tokens, over K keys."""
        device = self.relative_attention_bias.weight.device
        queries = torch.arange(num_queries, device=device)[:, None] + past_seen_tokens
        distances = torch.arange(num_keys, device=device)[None, :] - queries
        buckets = relative_position_buckets(
            distances, self._num_buckets, self._max_distance, looks_ahead=self._looks_ahead
        )
        biases: Tensor = self.relative_attention_bias(buckets)
        return biases.permute(2, 0, 1)[None]


def relative_position_buckets(
    distances: Tensor, num_buckets: int, max_distance: int, *, looks_ahead: bool
) -> Tensor:
    """The bucket of each distance (key - query): near ones alone, farther ones together, logarithmically.

    Half of the buckets are for what lies ahead if a query looks there; else all that lies ahead is distance 0.

    Source: arXiv:1910.10683, section 2.1.
    """
    first = torch.zeros_like(distances)
    if looks_ahead:
        num_buckets //= 2
        first = (distances > 0).long() * num_buckets
        away = distances.abs()
    else:
        away = (-distances).clamp(min=0)
    num_exact = num_buckets // 2
    steps = torch.log(away.float() / num_exact) / math.log(max_distance / num_exact) * (num_buckets - num_exact)
    far = (num_exact + steps.long()).clamp(max=num_buckets - 1)
    return first + torch.where(away < num_exact, away, far)


def _linear(weight: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    return linear


def _embedding(weight: Tensor) -> nn.Embedding:
    return nn.Embedding(weight.shape[0], weight.shape[1], _weight=weight, _freeze=True)


def _named(**parts: nn.Module) -> nn.Module:
    module = nn.Module()
    for name, part in parts.items():
        module.add_module(name, part)
    return module
