"""int8 products of T5's linears in C (int8_product.c): the bits of torch's operations, in less time.

A product by torch is a dozen operations over codes, sums and floats, and its int8 matrix product puts the weights
into another order each time, which at one row takes three times as long as reading them.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flan_lora.system.compiled import NotCompiledError, compiled
from flan_lora.system.devices import processor_fields

log = logging.getLogger(__name__)

_SOURCE = Path(__file__).with_name("int8_product.c")
_TILE, _CODES, _OUTPUTS = 16, 64, 32
"""Of int8_product.c: rows in a tile, multiples of inputs and outputs."""
_FEW_ROWS = 8
"""Up to which torch's products are slower without AMX, too (docs/log.md)."""
_WORK_OF_A_THREAD = 1 << 20
"""Multiplications, so many codes by codes, that are worth waking another thread for."""
_DTYPES = {torch.bfloat16: 1, torch.float32: 0}
"""Of activations -> `is_bf16` of int8_product.c."""
_POINTER, _LONG, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_float


@dataclass(frozen=True)
class Int8Kernel:
    """The functions of int8_product.c that suit this processor."""

    quantise: Any
    one_row: Any
    """The product for one row of codes."""
    many_rows: Any
    has_amx: bool
    """Whether ``many_rows`` reads codes in tiles."""

    def takes(self, x: Tensor) -> bool:
        """Whether these activations (N, in) are of a kind that it reads, and of a number that it is faster for."""
        is_few = self.has_amx or len(x) <= _FEW_ROWS
        return is_few and x.dtype in _DTYPES and x.device.type == "cpu"

    def products(self, x: Tensor, linears: Sequence[tuple[Tensor, Tensor]], dequantise: float) -> list[Tensor]:
        """Floats (N, in) times each weight: codes (out, in) and max |row| (out,) fp32; outputs (N, out) as x."""
        x = x.contiguous()
        num_rows, size = x.shape
        is_bf16 = _DTYPES[x.dtype]
        product, is_packed = (self.one_row, False) if num_rows == 1 else (self.many_rows, self.has_amx)
        codes = torch.empty(num_rows, size, dtype=torch.int8)
        packed = torch.empty(-(-num_rows // _TILE) * _TILE, size, dtype=torch.int8) if is_packed else None
        scales = torch.empty(num_rows)
        to_codes, to_scales = codes.data_ptr(), scales.data_ptr()
        to_packed = None if packed is None else packed.data_ptr()
        self.quantise(x.data_ptr(), is_bf16, num_rows, size, to_codes, to_scales, to_packed)
        outputs, num_threads = [], torch.get_num_threads()
        for weight, weight_scale in linears:
            num_outputs = weight.shape[0]
            out = x.new_empty(num_rows, num_outputs)
            threads = min(num_threads, max(num_rows * weight.numel() // _WORK_OF_A_THREAD, 1))
            product(
                to_codes, to_packed, to_scales, weight.data_ptr(), weight_scale.data_ptr(), num_rows, size,
                num_outputs, dequantise, out.data_ptr(), is_bf16, threads,
            )  # fmt: skip
            outputs.append(out)
        return outputs


def suits(weight: Tensor, scale: Tensor | None) -> bool:
    """Whether int8 codes (out, in) on the CPU can be read as they lie."""
    return (
        scale is not None
        and weight.dtype == torch.int8
        and scale.dtype == torch.float32
        and weight.device.type == scale.device.type == "cpu"
        and weight.is_contiguous()
        and scale.is_contiguous()
        and weight.shape[0] % _OUTPUTS == 0
        and weight.shape[1] % _CODES == 0
    )


@cache
def int8_kernel() -> Int8Kernel | None:
    """The kernel, compiled on first use; None where the processor or the compiler is not made for it."""
    flags = processor_fields().get("flags", "").split()
    if "avx512_vnni" not in flags:
        return None
    try:
        return _load(" ".join(flags))
    except (NotCompiledError, AttributeError) as error:
        log.info("int8 products in C cannot be had here (%s); torch's are used, which are slower", error)
        return None


def _load(processor: str) -> Int8Kernel:
    library = compiled(_SOURCE, processor)
    library.quantise.argtypes = [_POINTER, _INT, _LONG, _LONG, _POINTER, _POINTER, _POINTER]
    library.quantise.restype = None
    product: list[Any] = [*[_POINTER] * 5, _LONG, _LONG, _LONG, _FLOAT, _POINTER, _INT, _INT]
    library.vnni_product.argtypes, library.vnni_product.restype = product, None
    if not library.has_amx():
        return Int8Kernel(library.quantise, library.vnni_product, library.vnni_product, has_amx=False)
    library.amx_product.argtypes, library.amx_product.restype = product, None
    return Int8Kernel(library.quantise, library.vnni_product, library.amx_product, has_amx=True)
