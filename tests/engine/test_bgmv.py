"""The Triton kernels add what the formula says: on a GPU as compiled, elsewhere in Triton's interpreter."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton and the kernels are imported
pytest.importorskip("triton", reason="needs Triton, which comes with torch for CUDA on Linux")
from flan_lora.engine import bgmv  # noqa: E402

pytestmark = [pytest.mark.gpu] if DEVICE == "cuda" else []
NUM_SLOTS, NUM_ROWS, NUM_IN, NUM_OUT, START = 5, 3, 100, 72, 13


def expected(slots: Tensor, rank: int, numbers: Tensor, weights: Tensor | None, x: Tensor, out: Tensor) -> Tensor:
    """out + B A x in fp64, row by row, rounded once."""
    per_row, middle = len(x) // NUM_ROWS, START + rank * NUM_IN
    rows = []
    for place in range(NUM_ROWS):
        own = slice(place * per_row, (place + 1) * per_row)
        total = out[own].double()
        for update, number in enumerate(numbers[place].tolist()):
            a = slots[number, START:middle].view(rank, NUM_IN).double()
            b = slots[number, middle : middle + rank * NUM_OUT].view(rank, NUM_OUT).double()
            weight = 1.0 if weights is None else float(weights[place, update])
            total = total + x[own].double() @ a.T @ b * weight
        rows.append(total)
    return torch.cat(rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("per_row", [1, 4, 21], ids=["a token", "beams", "a source"])
@pytest.mark.parametrize("rank", [1, 5, 16, 40])
@pytest.mark.parametrize("num_updates", [0, 1, 2])
def test_each_row_gets_its_own_adapters(dtype: torch.dtype, per_row: int, rank: int, num_updates: int) -> None:
    torch.manual_seed(rank)
    slots = torch.randn(NUM_SLOTS, START + rank * (NUM_IN + NUM_OUT) + 7, device=DEVICE)
    numbers = torch.randint(0, NUM_SLOTS, (NUM_ROWS, num_updates), device=DEVICE)
    weights = torch.rand(NUM_ROWS, num_updates, device=DEVICE) if num_updates == 2 else None
    x = torch.randn(NUM_ROWS * per_row, NUM_IN, device=DEVICE).to(dtype)
    out = torch.randn(NUM_ROWS * per_row, NUM_OUT, device=DEVICE).to(dtype)
    right = expected(slots, rank, numbers, weights, x, out)
    bgmv.add(slots, START, rank, numbers, weights, x, out)
    # half of the distance between two numbers of the dtype; Triton's interpreter cuts them off: the whole of it
    step = torch.finfo(dtype).eps if dtype != torch.float32 else 1e-5
    assert ((out.double() - right).abs() <= step * right.abs() + 1e-4).all()


def test_a_broken_adapter_stays_with_its_own_rows() -> None:
    slots = torch.randn(2, 4 * (NUM_IN + NUM_OUT), device=DEVICE)
    slots[1] = torch.nan
    x, out = torch.randn(2, NUM_IN, device=DEVICE), torch.zeros(2, NUM_OUT, device=DEVICE)
    bgmv.add(slots, 0, 4, torch.tensor([[0], [1]], device=DEVICE), None, x, out)
    assert out[0].isfinite().all() and out[1].isnan().all()


@pytest.mark.parametrize("per_row", [1, 17])
def test_it_is_tried_out_before_it_is_used(monkeypatch: pytest.MonkeyPatch, per_row: int) -> None:
    bgmv.try_out(DEVICE)
    add = bgmv.add

    def broken(*arguments: Any) -> None:
        add(*arguments)
        if len(arguments[-1]) == 2 * per_row:
            arguments[-1][-1, -1] += 0.5

    monkeypatch.setattr(bgmv, "add", broken)
    with pytest.raises(AssertionError, match="not close"):
        bgmv.try_out(DEVICE)
