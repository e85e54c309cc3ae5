"""Products with the weights that stay floats, by the faster of torch's two libraries for CPUs.

torch gives fp32 products to MKL, which on processors that are not Intel's takes as long for two rows as for
sixteen. oneDNN, to which it gives all others, takes a tenth (1,024 rows) to three quarters (4 rows) less on large
weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

log = logging.getLogger(__name__)

_MIN_WEIGHT = 1 << 20
"""Numbers in a weight below which finding oneDNN's kernel takes longer than it saves."""


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """``x`` W^T in the dtype of the weight. Shapes: x (..., in), weight (out, in) -> (..., out)."""
    x = x.to(weight.dtype)
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() >= _MIN_WEIGHT:
        return _large_product()(x, weight)
    return functional.linear(x, weight)


@cache
def _large_product() -> Callable[[Tensor, Tensor], Tensor]:
    """oneDNN's if this torch has it and it is right: torch keeps it for `torch.compile`, and may change it."""
    x, weight = torch.linspace(-1, 1, 6).view(2, 3), torch.linspace(-2, 1, 12).view(4, 3)
    try:
        if torch.allclose(_by_onednn(x, weight), functional.linear(x, weight)):
            return _by_onednn
        reason = "its numbers differ"
    except (AttributeError, RuntimeError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    log.info("oneDNN's products of large fp32 weights cannot be used here (%s); MKL's are", reason)
    return functional.linear


def _by_onednn(x: Tensor, weight: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return product
