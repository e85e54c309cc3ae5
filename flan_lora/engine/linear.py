"""The base's linears with the LoRA updates of a batch: floats by the faster CPU library, int8 row-wise, nf4.

torch gives fp32 products to MKL, which on processors that are not Intel's takes as long for two rows as for
sixteen. oneDNN, to which it gives all others, takes a tenth (1,024 rows) to three quarters (4 rows) less on large
weights. In bf16 one row takes it as long as sixteen; with the weights as the first operand, few rows take less.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from flan_lora.base.fingerprint import int8_scale
from flan_lora.base.frozen_t5 import Int8Linear
from flan_lora.engine.int8_kernel import int8_kernel, suits
from flan_lora.engine.lora_batch import LoraBatch
from flan_lora.errors import BaseModelError

log = logging.getLogger(__name__)

_MIN_WEIGHT = 1 << 20
"""Numbers in a weight below which finding oneDNN's kernel takes longer than it saves."""

_DEQUANTISE = 6.200124e-05
"""Codes are x / max|x| * 127 on both sides of an int8 product (LLM.int8, arXiv:2208.07339, equation 2). That makes
1 / 127**2 = 6.200012e-05; bitsandbytes' CPU kernel has this number (0.50.2), and adapters are trained on it."""

FEW_ROWS = 16
"""Of a bf16 product that is faster with the weights as its first operand, where there is AMX (docs/log.md)."""

LEAST_ROWS = 32
"""Of a float product whose bits must not depend on the number of rows."""

_TOKENS_IN_CACHE = 256
"""That an int8 product takes at once: their codes, sums and floats fit into the second level cache of a core."""


@dataclass(frozen=True)
class Linear:
    """One linear of the base, as data. T5 has no biases."""

    name: str
    weight: Tensor
    """(out, in): floats, or int8 codes; 4-bit codes are packed."""
    scale: Tensor | None
    """max |row| (out,) fp32 of int8 codes; None for floats."""
    product: Callable[[Tensor, Tensor], Tensor]
    """Of floats: `linear` or `invariant_linear`."""
    nf4_state: Any = None
    """bitsandbytes' QuantState of 4-bit codes, which ``weight`` then holds, two in a byte."""

    @cached_property
    def suits_kernel(self) -> bool:
        """Whether `Int8Kernel` can read its codes as they lie."""
        return suits(self.weight, self.scale)

    def floats(self, x: Tensor) -> Tensor:
        """The product of ``x`` with floats, or with what 4-bit codes stand for."""
        if self.nf4_state is None:
            return self.product(x, self.weight)
        if x.is_cuda:
            from bitsandbytes import matmul_4bit

            product: Tensor = matmul_4bit(x, self.weight, quant_state=self.nf4_state)
            return product
        return self.product(x, self.dense().to(x.dtype))

    def dense(self) -> Tensor:
        """The weight (out, in) as floats; codes are turned into them anew each time."""
        if self.nf4_state is None:
            return self.weight
        from bitsandbytes.functional import dequantize_4bit

        weight: Tensor = dequantize_4bit(self.weight, self.nf4_state)
        return weight


def linear_with_lora(linears: Sequence[Linear], x: Tensor, lora: LoraBatch) -> list[Tensor]:
    """Each linear of ``x`` plus its rows' updates; an int8 input is quantised once for all.

    int8 runs row-wise at threshold 0 whatever the base was loaded with: at any other, outlier columns are chosen
    over the whole batch, and a row's answer would depend on its neighbours.

    Shapes: x (N, T, in) -> (N, T, out) each.
    """
    lora_x = lora.cast(x)
    if all(each.scale is None for each in linears):
        outputs = [each.floats(x) for each in linears]
    else:
        outputs = _int8_products(linears, x)
    return [lora.add_lora(each.name, lora_x, out) for each, out in zip(linears, outputs, strict=True)]


# Float weights


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """``x`` W^T in the dtype of the weight. Shapes: x (..., in), weight (out, in) -> (..., out)."""
    x = x.to(weight.dtype)
    if weight.device.type == "cpu":
        if weight.dtype == torch.float32 and weight.numel() >= _MIN_WEIGHT:
            return large_product()(x, weight)
        if weight.dtype == torch.bfloat16 and x.numel() <= FEW_ROWS * x.shape[-1] and has_amx():
            return weight_first(x, weight)
    return functional.linear(x, weight)


def weight_first(x: Tensor, weight: Tensor) -> Tensor:
    """As `linear`, of few rows: W x^T is not put into another order first, as x W^T is."""
    rows = x.reshape(-1, x.shape[-1])
    product = torch.mv(weight, rows[0]) if len(rows) == 1 else (weight @ rows.T).T.contiguous()
    return product.view(*x.shape[:-1], weight.shape[0])


@cache
def has_amx() -> bool:
    """Whether this is a processor that `weight_first` was found to be faster on."""
    found = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return found is not None and bool(found())


def invariant_linear(x: Tensor, weight: Tensor) -> Tensor:
    """As `linear`, and a row's bits do not depend on how many rows there are.

    Libraries choose another order of sums for few rows, and in bf16 for any other number of them. So fp32 is never
    computed for fewer than `LEAST_ROWS`, and bf16 for so many at a time.
    """
    flat = x.reshape(-1, x.shape[-1])
    num_rows, step = len(flat), LEAST_ROWS
    missing = max(step - num_rows, 0) if weight.dtype == torch.float32 else -num_rows % step
    if missing:
        flat = functional.pad(flat, (0, 0, 0, missing))
    parts = (flat,) if weight.dtype == torch.float32 else torch.split(flat, step)
    out = torch.cat([linear(part, weight) for part in parts])[:num_rows]
    return out.view(*x.shape[:-1], -1)


def check_invariant(weight: Tensor) -> None:
    """Raises BaseModelError where a row of `invariant_linear` has other bits beside other rows."""
    rows = torch.linspace(-1, 1, 70 * weight.shape[1]).view(70, -1).sin()
    together = invariant_linear(rows, weight)
    for number in (1, 2, 3, 7, 17, 33, 64):
        if not torch.equal(invariant_linear(rows[:number], weight), together[:number]):
            raise BaseModelError(
                "deterministic: this machine's matrix products give a row other bits beside other rows\n"
                f"  a weight of {tuple(weight.shape)} in {weight.dtype}, {number} rows against 70\n"
                "Open the base without deterministic, or in another precision."
            )


@cache
def large_product() -> Callable[[Tensor, Tensor], Tensor]:
    """oneDNN's if this torch has it and it is right: torch keeps it for `torch.compile`, and may change it."""
    x, weight = torch.linspace(-1, 1, 6).view(2, 3), torch.linspace(-2, 1, 12).view(4, 3)
    try:
        if torch.allclose(by_onednn(x, weight), functional.linear(x, weight)):
            return by_onednn
        reason = "its numbers differ"
    except (AttributeError, RuntimeError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    log.info("oneDNN's products of large fp32 weights cannot be used here (%s); MKL's are", reason)
    return functional.linear


def by_onednn(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T by oneDNN. Raises what torch raises where it has not got it."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return product


# int8 weights


def in_int8(linear: Linear) -> Linear:
    """The same linear by codes of its own, made as a base's int8 linears are (`base.frozen_t5.Int8Linear`)."""
    quantised = Int8Linear(linear.weight)
    return replace(linear, weight=quantised.weight.data, scale=int8_scale(quantised))


def _int8_products(linears: Sequence[Linear], x: Tensor) -> list[Tensor]:
    """Each int8 linear of ``x``, a few tokens at a time on the CPU: what lies between the codes and the outputs
    then stays in the cache, which makes a long batch a third faster than its products alone would."""
    flat = x.reshape(-1, x.shape[-1])
    if flat.is_cuda:
        outputs = _bitsandbytes_products(linears, flat)
    else:
        outputs = _in_parts(linears, flat) if len(flat) > _TOKENS_IN_CACHE else _cpu_products(linears, flat)
    return [out.view(*x.shape[:-1], -1) for out in outputs]


def _in_parts(linears: Sequence[Linear], rows: Tensor) -> list[Tensor]:
    parts = [_cpu_products(linears, part) for part in torch.split(rows, _TOKENS_IN_CACHE)]
    return [torch.cat(each) for each in zip(*parts, strict=True)]


def _cpu_products(linears: Sequence[Linear], rows: Tensor) -> list[Tensor]:
    """Each int8 linear of tokens (N, in), in C where that can be had: with the same bits."""
    kernel = int8_kernel()
    if kernel is not None and kernel.takes(rows) and all(each.suits_kernel for each in linears):
        pairs = [(each.weight, each.scale) for each in linears if each.scale is not None]
        return kernel.products(rows, pairs, _DEQUANTISE)
    codes, scale = _quantise(rows)
    outputs = [rows.new_empty(len(rows), each.weight.shape[0]) for each in linears]
    for each, out in zip(linears, outputs, strict=True):
        _int8_product(codes, scale, each, out)
    return outputs


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
