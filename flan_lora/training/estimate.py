"""What a run will cost, before it starts: steps, tokens, parameters, memory and, given a speed, time.

Parameters and bytes of weights are exact. Activation bytes count the tensors that autograd keeps for T5 + LoRA
(transformers 5.23, peft 0.21); a test holds them against what torch's allocator hands out, within 15 %. The sum
was within 4 % of the resident memory of a 4 + 4 layer model on a CPU (docs/log.md). Never measured on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flan_lora.base.architecture import has_bias_per_layer, has_tied_head
from flan_lora.recipe import LoraSection, Recipe
from flan_lora.system.devices import QUANTISED
from flan_lora.training.distributed import world_size

if TYPE_CHECKING:
    from transformers import T5Config

    from flan_lora.data.encoding import EncodedSplit

PROCESS_BYTES = {"cpu": 1_020_000_000, "cuda": 420_000_000}
"""All that is no tensor. On a CPU Python and the libraries (600 MB), the kernels' own memory and what malloc
keeps, resident after two steps on Linux x86-64 with AMX. On a GPU CUDA's context, as a guess."""

ADAM_BYTES_PER_PARAMETER = 16
"""fp32 weight, gradient and AdamW's two moments."""

PAD_TO_MULTIPLE_OF = 8
"""As the collator pads."""


@dataclass(frozen=True)
class Lengths:
    """Tokens per training row, as the model sees them (after truncation)."""

    source: Sequence[int]
    target: Sequence[int]
    num_truncated: int = 0

    @classmethod
    def of(cls, rows: EncodedSplit) -> Lengths:
        """The lengths of an encoded split."""
        return cls(rows.source_lengths, [len(ids) for ids in rows.labels], rows.num_source_truncated)


@dataclass(frozen=True)
class Estimate:
    """The cost of one run on one device. Bytes are bytes, times are seconds."""

    num_rows: int
    num_steps: int
    """Optimizer steps."""
    num_source_tokens: int
    """Over the whole run, padding not counted."""
    num_target_tokens: int
    truncated_share: float
    """Share of the rows whose source is cut."""
    num_trainable: int
    num_base_parameters: int
    base_bytes: int
    adapter_bytes: int
    """The adapter file, fp32."""
    optimizer_bytes: int
    """Adapter weights, gradients and AdamW's moments in memory."""
    activation_bytes: int
    """Of the larger of: the longest micro batch in training, the longest batch in generation."""
    process_bytes: int
    peak_bytes: int
    """Sum of the above. Host memory on the CPU; on a GPU its memory, where process_bytes stands for CUDA's own."""
    flops: float
    """Of the training passes; generation-based evaluations come on top."""
    seconds: float | None
    """Of the training passes; None without a measured speed."""
    seconds_reason: str

    def __str__(self) -> str:
        seconds = "unknown" if self.seconds is None else f"about {_duration(self.seconds)}"
        rows = (
            ("rows", f"{self.num_rows:,} ({self.truncated_share:.1%} of the sources are cut)"),
            ("optimizer steps", f"{self.num_steps:,}"),
            ("tokens", f"{self.num_source_tokens:,} source, {self.num_target_tokens:,} target"),
            ("base", f"{self.num_base_parameters:,} parameters, {_size(self.base_bytes)}"),
            ("trainable", f"{self.num_trainable:,} parameters, adapter file {_size(self.adapter_bytes)}"),
            ("memory, estimated", f"{_size(self.peak_bytes)} at the peak ({self._parts()})"),
            ("time, estimated", f"{seconds} ({self.seconds_reason})"),
        )
        return "\n".join(f"{name:<18}  {value}" for name, value in rows)

    def _parts(self) -> str:
        parts = (
            ("base", self.base_bytes),
            ("activations", self.activation_bytes),
            ("optimizer", self.optimizer_bytes),
            ("process", self.process_bytes),
        )
        return ", ".join(f"{name} {_size(size)}" for name, size in parts)


@dataclass(frozen=True)
class Speed:
    """A measured training speed."""

    flops_per_s: float
    origin: str
    """How it was measured, for the user."""


@dataclass(frozen=True)
class Machine:
    """What an estimate must know about where the run happens."""

    device_type: str
    """cpu or cuda: attention keeps its scores on the CPU, where dropout rules out the fused kernel."""
    bf16: bool
    """Whether the passes run in bf16."""
    num_processes: int = 1
    """Devices that share a batch; the estimate is for one of them."""
    speed: Speed | None = None
    rest_bytes: int = 2
    """Bytes per weight of a quantised base that is not quantised: 4 where the hardware has no fast bf16."""

    @classmethod
    def here(cls, recipe: Recipe, speed: Speed | None = None) -> Machine:
        """The device and precision that training ``recipe`` would get on this machine. Imports torch."""
        from flan_lora.system.devices import choose_device, has_bf16, rest_dtype

        device, _ = choose_device(recipe.base.quantization)
        rest_bytes = rest_dtype("int8", device).itemsize
        precision = recipe.training.precision
        bf16 = has_bf16(device) if precision == "auto" else precision == "bf16"
        return cls(device.type, bf16, world_size(), speed, rest_bytes)


def estimate(
    recipe: Recipe, config: T5Config, rows: EncodedSplit | Lengths, machine: Machine | None = None
) -> Estimate:
    """The cost of training ``recipe`` on a base of shape ``config`` over ``rows``, on this machine by default.

    ``Estimate.seconds`` is None unless ``machine`` carries a speed (`flan_lora.training.doctor.measure_speed`).
    """
    lengths = rows if isinstance(rows, Lengths) else Lengths.of(rows)
    machine = machine or Machine.here(recipe)
    speed = machine.speed
    shape = Shape.of(config)
    training = recipe.training
    steps_per_epoch = math.ceil(len(lengths.source) / training.batch_size)
    num_steps = training.max_steps or math.ceil(training.epochs * steps_per_epoch)
    passes = num_steps / max(steps_per_epoch, 1)
    num_trainable = trainable_parameters(shape, recipe.lora)
    base_bytes = shape.base_bytes(
        recipe.base.quantization, machine.rest_bytes, double_quant=recipe.base.nf4_double_quant
    )
    optimizer_bytes = ADAM_BYTES_PER_PARAMETER * num_trainable
    activation_bytes = max(
        training_bytes(shape, recipe, lengths, machine),
        generation_bytes(shape, recipe, lengths),
    )
    process_bytes = PROCESS_BYTES.get(machine.device_type, PROCESS_BYTES["cpu"])
    flops = passes * training_flops(shape, lengths, recipe.training.gradient_checkpointing)
    return Estimate(
        num_rows=len(lengths.source),
        num_steps=num_steps,
        num_source_tokens=round(passes * sum(lengths.source)),
        num_target_tokens=round(passes * sum(lengths.target)),
        truncated_share=lengths.num_truncated / max(len(lengths.source), 1),
        num_trainable=num_trainable,
        num_base_parameters=shape.num_parameters,
        base_bytes=base_bytes,
        adapter_bytes=4 * num_trainable,
        optimizer_bytes=optimizer_bytes,
        activation_bytes=activation_bytes,
        process_bytes=process_bytes,
        peak_bytes=base_bytes + optimizer_bytes + activation_bytes + process_bytes,
        flops=flops,
        seconds=flops / machine.num_processes / speed.flops_per_s if speed else None,
        seconds_reason=speed.origin if speed else "no speed was measured",
    )


# Counting parameters


@dataclass(frozen=True)
class Shape:
    """The widths of a T5, and what follows from them."""

    width: int
    inner: int
    """Heads times d_kv."""
    heads: int
    hidden: int
    """d_ff."""
    vocab: int
    encoder_layers: int
    decoder_layers: int
    is_gated: bool
    is_tied: bool
    buckets: int
    bias_tables: int
    """Of position biases: one for each stack, or for each layer."""

    @classmethod
    def of(cls, config: T5Config) -> Shape:
        """Read a config, as `base.load` reads or leaves it."""
        encoder_layers, decoder_layers = config.num_layers, config.num_decoder_layers or config.num_layers
        return cls(
            width=config.d_model,
            inner=config.num_heads * config.d_kv,
            heads=config.num_heads,
            hidden=config.d_ff,
            vocab=config.vocab_size,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            is_gated=config.is_gated_act,
            is_tied=has_tied_head(config),
            buckets=config.relative_attention_num_buckets,
            bias_tables=encoder_layers + decoder_layers if has_bias_per_layer(config) else 2,
        )

    def linears(self, is_decoder: bool) -> dict[str, list[tuple[int, int]]]:
        """(in, out) of one block's linears by their short name; a decoder block has two attentions."""
        inward, outward = (self.width, self.inner), (self.inner, self.width)
        attentions = 2 if is_decoder else 1
        names = ("wi_0", "wi_1") if self.is_gated else ("wi",)
        block = {name: [inward] * attentions for name in ("q", "k", "v")} | {"o": [outward] * attentions}
        block |= {name: [(self.width, self.hidden)] for name in names}
        return block | {"wo": [(self.hidden, self.width)]}

    def targets(self, lora: LoraSection) -> tuple[str, ...]:
        """Short names of the linears that get an update."""
        return lora.modules(tuple(self.linears(is_decoder=False)))

    def blocks(self) -> list[tuple[int, dict[str, list[tuple[int, int]]]]]:
        """(how many, linears) for encoder and decoder blocks."""
        return [(self.encoder_layers, self.linears(False)), (self.decoder_layers, self.linears(True))]

    @property
    def num_parameters(self) -> int:
        """Every weight once."""
        linears = sum(n * i * o for n, block in self.blocks() for pairs in block.values() for i, o in pairs)
        tables = self.vocab * self.width * (1 if self.is_tied else 2)
        tables += self.bias_tables * self.buckets * self.heads
        norms = self.width * (2 * self.encoder_layers + 3 * self.decoder_layers + 2)
        return linears + tables + norms

    def base_bytes(self, quantization: str, rest_bytes: int = 2, *, double_quant: bool = True) -> int:
        """Weights in memory: ``rest_bytes`` for each that is not quantised, which `wo` and the head never are.

        int8: one byte, and a fp32 scale per row. nf4: half a byte, and a fp32 scale per block of 64 weights, or
        (double quantisation) a byte, and a fp32 scale per 256 of those.
        """
        if quantization not in QUANTISED:
            return self.num_parameters * (4 if quantization == "fp32" else 2)
        pairs = [
            (n, i, o)
            for n, block in self.blocks()
            for name, all_ in block.items()
            if name != "wo"
            for i, o in all_
        ]
        num_codes = sum(n * i * o for n, i, o in pairs)
        if quantization == "int8":
            quantised = num_codes + 4 * sum(n * o for n, _, o in pairs)
        else:
            num_blocks = sum(n * math.ceil(i * o / 64) for n, i, o in pairs)
            scales = sum(n * 4 * math.ceil(i * o / 64 / 256) for n, i, o in pairs) + num_blocks
            quantised = num_codes // 2 + (scales if double_quant else 4 * num_blocks)
            quantised += sum(n for n, _, _ in pairs) * (
                64 + 1028 * double_quant
            )  # the levels themselves, an offset
        return quantised + rest_bytes * (self.num_parameters - num_codes)


def trainable_parameters(shape: Shape, lora: LoraSection) -> int:
    """A (r x in) and B (out x r) of every target; DoRA adds one magnitude per output."""
    targets = shape.targets(lora)
    per_pair = [(n, i, o) for n, block in shape.blocks() for name in targets for i, o in block.get(name, [])]
    return sum(n * (lora.rank * (i + o) + (o if lora.use_dora else 0)) for n, i, o in per_pair)


# Counting bytes: what autograd keeps, per token and block, found by counting saved tensors


def training_bytes(shape: Shape, recipe: Recipe, lengths: Lengths, machine: Machine) -> int:
    """Activations at the start of the backward pass of the longest micro batch (where memory peaks).

    With D = d_model, I = heads x d_kv, F = d_ff, H heads, S and T tokens, bytes kept in bf16 (fp32 in brackets):
        per sub-layer   8 D: the norm's fp32 square, its input and output, the dropout's mask
        feed-forward    6 F (12 F): the gated GELU, in torch's one kernel (`base.load.fuse_gelu`)
        attention       4 I each for q, k and v, on their side; CPU also 12 H per pair of positions
        LoRA target     6 (8) bytes per input feature: dropout's output and mask, the cast; DoRA 4 (8) per output
        int8            2 bytes per feature of each linear's input, which bitsandbytes keeps outside autograd's
                        hooks, so checkpointing does not free it
        loss            14 bytes per logit
        checkpointing   keeps one block, and on a CPU 6 H (8 H) per pair for the gradients of its scores
    """
    micro = recipe.training.micro_batch_size or max(recipe.training.batch_size // machine.num_processes, 1)
    micro = min(micro, max(len(lengths.source), 1))
    source, target = (_padded(max(values, default=1)) for values in (lengths.source, lengths.target))
    encoder, decoder = _block_bytes(shape, recipe.lora, source, target, machine)
    loss, is_quantised = 14 * target * shape.vocab, recipe.base.quantization in QUANTISED
    blocks = shape.encoder_layers * encoder + shape.decoder_layers * decoder + loss
    if recipe.training.gradient_checkpointing:
        is_fp32 = recipe.base.quantization == "fp32" or (is_quantised and machine.rest_bytes == 4)
        states = shape.width * (shape.encoder_layers * source + shape.decoder_layers * target)
        kept = (4 if is_fp32 else 2) * states
        # gradients of the scores of the block that is gone through backwards
        score = (6 if machine.bf16 else 8) * shape.heads if machine.device_type == "cpu" else 0
        encoder, decoder = encoder + score * source**2, decoder + score * target * (source + target)
        blocks = kept + max(encoder, decoder + loss)  # the loss is gone when the encoder is computed again
    if recipe.base.quantization == "int8":
        blocks += shape.encoder_layers * source * (4 * shape.width + 2 * shape.inner)
        blocks += shape.decoder_layers * target * (6 * shape.width + 4 * shape.inner)
    autocast_copies = 2 * shape.num_parameters if recipe.base.quantization == "fp32" and machine.bf16 else 0
    return micro * blocks + autocast_copies


def _block_bytes(shape: Shape, lora: LoraSection, source: int, target: int, machine: Machine) -> tuple[int, int]:
    """Bytes that one encoder and one decoder block keep for one row."""
    ff = 6 if machine.bf16 else 12
    score = 12 * shape.heads if machine.device_type == "cpu" else 0
    encoder_lora, _ = _lora_bytes(shape, lora, machine, is_decoder=False)
    decoder_lora, cross_lora = _lora_bytes(shape, lora, machine, is_decoder=True)
    per_source = 16 * shape.width + ff * shape.hidden + 12 * shape.inner + score * source + encoder_lora
    per_target = 24 * shape.width + ff * shape.hidden + 16 * shape.inner + score * (source + target) + decoder_lora
    return source * per_source, target * per_target + source * (8 * shape.inner + cross_lora)


def _lora_bytes(shape: Shape, lora: LoraSection, machine: Machine, *, is_decoder: bool) -> tuple[int, int]:
    """Of a block's updates, per token: of its own side, and of the source (k and v of the cross attention)."""
    per_input, per_output = (6, 4) if machine.bf16 else (8, 8)
    own = cross = 0
    for name in shape.targets(lora):
        for place, (num_in, num_out) in enumerate(shape.linears(is_decoder).get(name, [])):
            size = per_input * num_in + per_output * num_out * lora.use_dora
            if place == 1 and name in ("k", "v"):
                cross += size
            else:
                own += size
    return own, cross


def generation_bytes(shape: Shape, recipe: Recipe, lengths: Lengths) -> int:
    """Caches of the longest generation batch, bf16: keys and values of source and target in each decoder layer."""
    rows = recipe.evaluation.batch_size
    hypotheses = rows * recipe.evaluation.num_beams
    source, target = (_padded(max(values, default=1)) for values in (lengths.source, lengths.target))
    caches = 4 * shape.inner * shape.decoder_layers * (source + target) * hypotheses
    one_block = rows * source * (10 * shape.hidden + 12 * shape.width)  # nothing is kept from block to block
    return caches + one_block + 8 * hypotheses * shape.vocab


def _padded(length: int) -> int:
    return -(-length // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF


# Counting operations


def training_flops(shape: Shape, lengths: Lengths, gradient_checkpointing: bool) -> float:
    """Floating point operations of one pass over the rows.

    A frozen weight costs 2 operations per token forward and 2 backward (its input's gradient; it has none itself),
    attention 4 and 8 per pair of positions and feature. The update's own share is below 3 % and left out.
    """
    inner = shape.inner
    source_weights, cross = _linear_weights(shape, False), 2 * shape.width * inner * shape.decoder_layers
    target_weights = _linear_weights(shape, True) - cross + shape.width * shape.vocab
    total = 0.0
    for source, target in zip(lengths.source, lengths.target, strict=True):
        linear = source * (source_weights + cross) + target * target_weights
        pairs = shape.encoder_layers * source**2 + shape.decoder_layers * target * (source + target)
        total += 4 * linear + 12 * inner * pairs
    return total * (1.5 if gradient_checkpointing else 1.0)


def _linear_weights(shape: Shape, is_decoder: bool) -> int:
    num_blocks = shape.decoder_layers if is_decoder else shape.encoder_layers
    return num_blocks * sum(i * o for pairs in shape.linears(is_decoder).values() for i, o in pairs)


def _size(num_bytes: float) -> str:
    """Decimal units, as the README's tables."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
