"""What the weights of a frozen linear stand for, in fp32: of int8 codes, or of floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flan_lora.base.fingerprint import int8_scale

if TYPE_CHECKING:
    from torch import Tensor, nn

WeightOf = Callable[[str], "Tensor"]
"""Path of a linear in the base -> its weight (out, in), fp32, where the base is."""


def dequantised(linear: Any) -> Tensor:
    """The weight (out, in) in fp32: q * max|row| / 127 of int8 (LLM.int8, arXiv:2208.07339, section 2)."""
    scale = int8_scale(linear)
    weight: Tensor = linear.weight.data.float()
    return weight if scale is None else weight * (scale.float()[:, None] / 127)


def weight_of(model: nn.Module) -> WeightOf:
    """The weights of a model's linears by their paths."""
    return lambda name: dequantised(model.get_submodule(name))
