"""Which code computes losses and gradients on this machine, and in which dtype its products are."""

from __future__ import annotations

from typing import Any

import torch

from flan_lora.errors import FlanLoraError
from tools.mini import kernels
from tools.mini.fused import FusedT5
from tools.mini.network import AutogradT5


def has_amx() -> bool:
    """Whether the processor multiplies bf16 matrices in tiles: eight times as fast as fp32."""
    return bool(torch.cpu._is_amx_tile_supported())


def new_passes(model: Any, device: str = "cpu") -> FusedT5 | AutogradT5:
    """The fastest passes that this machine has: fused where g++ is, bf16 where AMX or a GPU is, else fp32."""
    if device != "cpu":
        if not torch.cuda.is_available():
            raise FlanLoraError(
                f"No device {device} here: torch {torch.__version__} sees no GPU.\nUse --device cpu."
            )
        return AutogradT5(model.to(device), torch.bfloat16, compiled=True)
    dtype = torch.bfloat16 if has_amx() else torch.float32
    return FusedT5(model, dtype) if kernels.compiler() else AutogradT5(model, dtype)
