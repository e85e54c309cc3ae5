"""Quantised weights of a frozen base: how bitsandbytes makes them, what they stand for, what they take."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from flan_lora.base.fingerprint import int8_scale

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from flan_lora.recipe import BaseSection

UNQUANTISED = ("wo", "lm_head")
"""Linears that are never quantised: `wo` overflows (transformers #20287), the head decides the answer."""
WeightOf = Callable[[str], "Tensor"]
"""Path of a linear in the base -> its weight (out, in), fp32, where the base is."""


def bitsandbytes_config(spec: BaseSection, compute_dtype: torch.dtype) -> Any:
    """For ``from_pretrained``; None where nothing is quantised.

    Args:
        compute_dtype: of products with 4-bit weights.
    """
    from transformers import BitsAndBytesConfig

    skipped = list(UNQUANTISED)
    if spec.quantization == "int8":
        return BitsAndBytesConfig(
            load_in_8bit=True, llm_int8_threshold=spec.int8_threshold, llm_int8_skip_modules=skipped
        )
    if spec.quantization == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=spec.nf4_double_quant,
            bnb_4bit_compute_dtype=compute_dtype,
            llm_int8_skip_modules=skipped,
        )
    return None


def keep_codes(model: nn.Module) -> None:
    """Have quantised linears leave their codes and scales where they are.

    On processors with AVX-512 BF16 a 4-bit linear's first forward pass without gradients would pack its codes
    anew, in place and with bf16 scales, and training's next one would find none that it can read. And on a CPU
    PEFT's DoRA gives an int8 linear its own codes again in each pass, as a weight without scales.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010  (no attribute of nn.Module)
            if (state := nf4_state(module)) is not None:  # training would round what codes stand for to bf16
                state.dtype = module.compute_dtype
        elif type(module).__name__ == "Linear8bitLt" and type(module).__module__.startswith("bitsandbytes"):
            module.__class__ = _linear_8bit()


@cache
def _linear_8bit() -> type[nn.Module]:
    from bitsandbytes import nn

    class Linear8bitLt(nn.Linear8bitLt):  # type: ignore[misc]
        """Keeps its weight when it is given the same codes."""

        def __setattr__(self, name: str, value: Any) -> None:
            own = self.__dict__.get("_parameters", {}).get("weight") if name == "weight" else None
            if own is None or value is None or own.data_ptr() != value.data_ptr():
                super().__setattr__(name, value)

    return Linear8bitLt


def nf4_state(linear: Any) -> Any:
    """bitsandbytes' QuantState of a 4-bit linear; None for any other module."""
    return getattr(getattr(linear, "weight", None), "quant_state", None)


def dequantised(linear: Any) -> Tensor:
    """The weight (out, in) in fp32.

    int8 stands for q * max|row| / 127 (LLM.int8, arXiv:2208.07339, section 2), nf4 for a quantile of the normal
    distribution times max|block| (QLoRA, arXiv:2305.14314, section 3).
    """
    if (state := nf4_state(linear)) is not None:
        from bitsandbytes.functional import dequantize_4bit

        floats: Tensor = dequantize_4bit(linear.weight.data, state).float()
        return floats
    scale = int8_scale(linear)
    weight: Tensor = linear.weight.data.float()
    return weight if scale is None else weight * (scale.float()[:, None] / 127)


def is_quantised(linear: Any) -> bool:
    """Whether its weights are codes."""
    return int8_scale(linear) is not None or nf4_state(linear) is not None


def weight_of(model: nn.Module) -> WeightOf:
    """The weights of a model's linears by their paths."""
    return lambda name: dequantised(model.get_submodule(name))


def base_bytes(model: nn.Module) -> int:
    """Bytes of the weights in memory: parameters once each, and the scales of quantised linears."""
    modules = list(model.modules())
    tensors = [*model.parameters(), *(scale for module in modules if (scale := int8_scale(module)) is not None)]
    tensors += [each for module in modules for each in _state_tensors(nf4_state(module))]
    return sum({each.data_ptr(): each.numel() * each.element_size() for each in tensors}.values())


def _state_tensors(state: Any) -> list[Tensor]:
    """Scales of blocks, the levels that codes stand for, and both of the scales where those are quantised too."""
    if state is None:
        return []
    own = [state.absmax, state.code]
    return own + ([state.offset, *_state_tensors(state.state2)] if state.nested else [])


def quiet_bitsandbytes() -> None:
    """Silence one warning per int8 matmul (its fp16 cast is safe: `wo` stays outside) and an import notice."""
    for name in ("bitsandbytes.autograd._functions", "bitsandbytes.backends.cpu.ops"):
        logging.getLogger(name).setLevel(logging.ERROR)
