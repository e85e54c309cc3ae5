"""The speed of a training step on this machine, measured on a few layers of a base's widths."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

from flan_lora.base.architecture import linear_names, model_class
from flan_lora.base.load import fuse_gelu
from flan_lora.base.quantised import UNQUANTISED, keep_codes
from flan_lora.recipe import BaseSection, Recipe
from flan_lora.system.devices import QUANTISED, choose_device, rest_dtype
from flan_lora.tasks.task import DataSize
from flan_lora.training.estimate import Lengths, Machine, Shape, Speed, training_flops
from flan_lora.training.lora import peft_config

if TYPE_CHECKING:
    import torch
    from transformers import T5Config


STUB_PARAMETERS = 30_000_000
PROBE_FLOPS = 10e9
MAX_PROBE_SECONDS = 2.0
"""Size of the speed measurement: about 0.3 s per step on two CPU cores; on a busy machine one step must do."""


def typical_lengths(recipe: Recipe) -> Lengths:
    """As many rows of mean length as the task's public data has, one of them as long as the recipe allows."""
    typical = _typical(recipe)
    num_rows = min(typical.num_rows, recipe.data.max_train_rows or typical.num_rows)
    source = [min(typical.source_tokens, recipe.data.max_source_tokens)] * (num_rows - 1)
    target = [min(typical.target_tokens, recipe.data.max_target_tokens)] * (num_rows - 1)
    return Lengths([*source, recipe.data.max_source_tokens], [*target, recipe.data.max_target_tokens])


def _typical(recipe: Recipe) -> DataSize:
    """The task's public data; of a task without, 10,000 rows as long as the recipe allows."""
    limits = DataSize(10_000, recipe.data.max_source_tokens, recipe.data.max_target_tokens)
    return recipe.task_definition.public_data or limits


def measure_speed(recipe: Recipe, config: T5Config) -> Speed:
    """Operations per second of a training step, measured on a stub of the base: its widths, as few layers and rows
    as make a step of a fraction of a second.

    The stub has random weights, the recipe's update and quantization, and runs in the precision that training
    would use. At flan-t5-large shapes (one layer of 24) it came 12 % below a whole model's step on the CPU.
    """
    import torch

    device, _ = choose_device(recipe.base.quantization)
    machine = Machine.here(recipe)
    stub = stub_config(config)
    typical = _typical(recipe)
    row = Lengths([typical.source_tokens], [typical.target_tokens])
    flops_per_row = training_flops(Shape.of(stub), row, gradient_checkpointing=False)
    num_rows = int(min(max(PROBE_FLOPS / flops_per_row, 1), recipe.training.batch_size))
    model = stub_model(recipe, stub, device)
    source = torch.full((num_rows, typical.source_tokens), 2, device=device)
    target = torch.full((num_rows, typical.target_tokens), 2, device=device)

    def step() -> float:
        started_s = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=machine.bf16):
            logits = model(input_ids=source, decoder_input_ids=target).logits
        logits.float().logsumexp(-1).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started_s

    seconds = [step()]
    while len(seconds) < 4 and sum(seconds) < MAX_PROBE_SECONDS:
        seconds.append(step())
    flops_per_s = num_rows * flops_per_row / min(seconds)
    return Speed(flops_per_s, f"{flops_per_s / 1e9:.0f} GFLOP/s, measured just now on a few layers")


def stub_config(config: T5Config) -> T5Config:
    """The same widths with fewer layers; a small base keeps all, since a step's fixed costs count there."""
    whole = Shape.of(config)
    block = sum(i * o for is_decoder in (False, True) for ps in whole.linears(is_decoder).values() for i, o in ps)
    most = max(STUB_PARAMETERS // block, 1)
    layers = {"num_layers": min(most, whole.encoder_layers), "num_decoder_layers": min(most, whole.decoder_layers)}
    stub = type(config).from_dict({**config.to_dict(), **layers, "vocab_size": min(config.vocab_size, 8192)})
    assert isinstance(stub, type(config))
    return stub


def stub_model(recipe: Recipe, config: T5Config, device: torch.device) -> Any:
    """A random T5 of this config with codes where the base has them, and the recipe's LoRA layers."""
    import torch
    from peft import get_peft_model

    model = model_class(config)(config)
    model = model.to(torch.float32 if recipe.base.quantization == "fp32" else torch.bfloat16).requires_grad_(False)
    fuse_gelu(model)
    if recipe.base.quantization in QUANTISED:
        for name, module in list(model.named_modules()):
            if isinstance(module, torch.nn.Linear) and name.rsplit(".", 1)[-1] not in UNQUANTISED:
                model.set_submodule(name, quantised_linear(module.weight.data, recipe.base, torch.device("cpu")))
    with warnings.catch_warnings():  # peft 0.21 asks transformers 5.23 a question under its old name
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(model, peft_config(recipe, linear_names(config))).to(device).train()


def quantised_linear(weight: torch.Tensor, spec: BaseSection, device: torch.device) -> torch.nn.Module:
    """A linear like those of an int8 or a 4-bit base. weight (out, in)."""
    from bitsandbytes import nn

    num_out, num_in = weight.shape
    if spec.quantization == "int8":
        linear = nn.Linear8bitLt(num_in, num_out, bias=False, has_fp16_weights=False)
        linear.weight = nn.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
        keep_codes(linear)
        return linear.to(device)  # type: ignore[no-any-return]
    linear = nn.Linear4bit(
        num_in,
        num_out,
        bias=False,
        compute_dtype=rest_dtype("nf4", device),
        compress_statistics=spec.nf4_double_quant,
        quant_type="nf4",
    )
    linear.weight = nn.Params4bit(
        weight.cpu(),
        requires_grad=False,
        compress_statistics=spec.nf4_double_quant,
        quant_type="nf4",
        module=linear,
    )
    keep_codes(linear)
    return linear.to(device)  # type: ignore[no-any-return]
