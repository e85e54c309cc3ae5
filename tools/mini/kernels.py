"""The element-wise kernels of a training step (`kernels.cpp`), compiled on first use and called on torch tensors.

With AMX a product of bf16 matrices takes less time than the GELU behind it, so what is not a product must pass
over memory once. Everything here also exists in plain torch (`network.token_losses`), against which it is tested.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flan_lora.errors import FlanLoraError

SOURCE = Path(__file__).with_name("kernels.cpp")
FLAGS = ("-O3", "-march=native", "-ffast-math", "-mprefer-vector-width=512", "-std=c++17", "-shared", "-fPIC")
_SUFFIX = {torch.float32: "f32", torch.bfloat16: "bf16"}


def compiler() -> str | None:
    """The C++ compiler, or None where there is none."""
    return shutil.which("g++")


@functools.cache
def library() -> Any:
    """The compiled kernels; kept in the temporary folder under a digest of their source and of the processor."""
    command = compiler()
    if command is None:
        raise FlanLoraError("The fused kernels need g++, which is not on the PATH.\nInstall it, or train without.")
    target = subprocess.run([command, "-march=native", "-Q", "--help=target"], capture_output=True, check=True)
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode() + target.stdout).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"mini-kernels-{os.getuid()}"
    built = folder / f"{digest}.so"
    if not built.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        partial = folder / f"{digest}.{os.getpid()}.partial"
        subprocess.run([command, *FLAGS, str(SOURCE), "-o", str(partial)], check=True)
        os.replace(partial, built)
    return ctypes.CDLL(str(built))


def _call(name: str, dtype: torch.dtype, *arguments: Any) -> None:
    """Tensors by address (None: null), int as int64, bool and float as such."""
    values: list[Any] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            assert argument.is_contiguous()
            values.append(ctypes.c_void_p(argument.data_ptr()))
        elif isinstance(argument, bool) or argument is None:
            values.append(ctypes.c_bool(argument) if argument is not None else ctypes.c_void_p(None))
        elif isinstance(argument, float):
            values.append(ctypes.c_float(argument))
        else:
            values.append(ctypes.c_int64(argument))
    getattr(library(), f"{name}_{_SUFFIX[dtype]}")(*values)


def add_norm(
    states: Tensor, y: Tensor | None, weight: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """(states + y, its RMS norm in `dtype`, 1 / rms) of rows (N, D); `states` fp32, `y` in `dtype` or None."""
    out = states if y is None else torch.empty_like(states)
    normed, rstd = torch.empty(states.shape, dtype=dtype), torch.empty(states.shape[0])
    _call("add_norm", dtype, states, y, weight, out, normed, rstd, *states.shape, 1e-6)
    return out, normed, rstd


def add_norm_backward(
    grad: Tensor | None, grad_normed: Tensor, states: Tensor, rstd: Tensor, weight: Tensor, grad_weight: Tensor
) -> Tensor:
    """The gradient of `states` (N, D) fp32, added to `grad` if there is one; adds to `grad_weight` (D,)."""
    out = torch.empty_like(states) if grad is None else grad
    _call(
        "add_norm_backward",
        grad_normed.dtype,
        grad_normed,
        states,
        rstd,
        weight,
        out,
        grad_weight,
        *states.shape,
        grad is None,
    )
    return out


def gated_gelu(ab: Tensor) -> Tensor:
    """(N, 2 F) -> gelu_tanh(first half) * second half, (N, F)."""
    hidden = torch.empty(ab.shape[0], ab.shape[1] // 2, dtype=ab.dtype)
    _call("gated_gelu", ab.dtype, ab, hidden, *hidden.shape)
    return hidden


def gated_gelu_backward_(ab: Tensor, grad_hidden: Tensor) -> Tensor:
    """The gradient of `ab`, written over it."""
    _call("gated_gelu_backward", ab.dtype, ab, grad_hidden, ab, *grad_hidden.shape)
    return ab


def softmax_bias_(scores: Tensor, bias: Tensor | None, lengths: Tensor | None, causal: bool, heads: int) -> Tensor:
    """Scores (B * H, T, S) become probabilities in place.

    bias (H, T + S - 1) fp32 by key - query + T - 1; lengths (B,) int64: keys that a row has, at least one.
    """
    rows, queries, keys = scores.shape
    buffer = torch.empty(keys)
    shape = (rows // heads, heads, queries, keys)
    _call("softmax_bias", scores.dtype, scores, bias, lengths, *shape, causal, buffer)
    return scores


def softmax_bias_backward_(
    probabilities: Tensor, grad: Tensor, grad_bias: Tensor | None, causal: bool, heads: int
) -> Tensor:
    """The gradient of the scores, over that of the probabilities; adds to `grad_bias` (H, T + S - 1)."""
    rows, queries, keys = grad.shape
    shape = (rows // heads, heads, queries, keys)
    _call("softmax_bias_backward", grad.dtype, probabilities, grad, grad_bias, *shape, causal)
    return grad


def cross_entropy_(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Losses (N,) of logits (N, V), which become the gradient of sum(weights * losses), in place."""
    losses, buffer = torch.empty(logits.shape[0]), torch.empty(logits.shape[1])
    _call("cross_entropy", logits.dtype, logits, labels, weights, losses, *logits.shape, buffer)
    return losses
