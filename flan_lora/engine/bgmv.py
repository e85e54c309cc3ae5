"""Each token's own A, then its own B: the updates of any mix of adapters in two launches per linear, on a GPU.

The adapters are read where they lie, by the numbers of their slots: nothing is gathered first, and what a launch
costs hardly depends on how many adapters a batch uses. Importing this needs Triton, which torch brings along for
CUDA on Linux; with TRITON_INTERPRET=1 in the environment the same kernels run on a CPU, slowly.
Source: batched gather matrix-vector products (BGMV), Punica, arXiv:2310.18547 section 4.
"""

from __future__ import annotations

import itertools

import torch
import triton
import triton.language as tl
from torch import Tensor

_TOKENS = 16
"""Of a row that a program takes at once, as a small matrix product; from so many tokens per row on."""
_TILE = 8192
"""Numbers of A or B that a program holds, at most."""


def add(
    slots: Tensor,
    start: int,
    rank: int,
    numbers: Tensor,
    weights: Tensor | None,
    x: Tensor,
    out: Tensor,
) -> None:
    """Add each row's updates of ``x`` to ``out``: summed in fp32, rounded to the dtype of ``out`` once.

    Args:
        slots: (num_slots, width), each with A (rank, in) from ``start`` on, and B^T (rank, out) behind it.
        numbers: of the slots, (R rows, K updates of each) int64.
        weights: of the updates, (R, K); None is 1 for all.
        x: (N, in), contiguous, in any float; N / R tokens of a row lie together.
        out: (N, out), contiguous, in any float.
    """
    (num_tokens, num_in), num_out = x.shape, out.shape[1]
    num_rows, num_updates = numbers.shape
    if not num_updates or not num_tokens:
        return
    per_row = num_tokens // num_rows
    block_t = _TOKENS if per_row >= _TOKENS else 1
    blocks = num_rows * triton.cdiv(per_row, block_t)
    low = torch.empty(num_tokens, num_updates, rank, dtype=torch.float32, device=x.device)
    ranks = triton.next_power_of_2(rank)
    if block_t == 1:
        block_r, block_in = min(4, ranks), min(1024, triton.next_power_of_2(num_in))
    else:
        ranks = max(16, ranks)  # the least that a matrix product takes
        block_r, block_in = min(64, ranks), 64
    common = {"per_row": per_row, "rank": rank, "num_updates": num_updates, "BLOCK_T": block_t}
    _shrink[blocks, num_updates, triton.cdiv(rank, block_r)](
        x,
        slots,
        numbers,
        weights if weights is not None else low,
        low,
        slots.stride(0),
        start,
        num_in=num_in,
        **common,
        BLOCK_R=block_r,
        BLOCK_IN=block_in,
        IS_WEIGHTED=weights is not None,
    )
    block_out = max(16, min(256 if block_t == 1 else 128, _TILE // ranks))
    _expand[blocks, triton.cdiv(num_out, block_out)](
        low,
        slots,
        numbers,
        out,
        slots.stride(0),
        start + rank * num_in,
        num_out,
        **common,
        BLOCK_OUT=block_out,
        RANKS=ranks,
    )


def try_out(device: str = "cuda") -> None:
    """Check the kernels against the plain formula, for a token and for a source per row, in two dtypes.

    Raises whatever keeps them from working on this machine.
    """
    rank, num_in, num_out = 5, 40, 24
    middle = rank * num_in
    draw = torch.Generator().manual_seed(0)
    slots = torch.randn(3, middle + rank * num_out, generator=draw).to(device)
    numbers, weights = torch.tensor([[2, 1], [1, 0]]), torch.tensor([[1.0, 0.5], [0.25, 1.0]])
    a = slots[:, :middle].view(3, rank, num_in).double()[numbers]
    b = slots[:, middle:].view(3, rank, num_out).double()[numbers]
    for per_row, dtype in itertools.product((1, _TOKENS + 1), (torch.float32, torch.bfloat16)):
        x = torch.randn(2 * per_row, num_in, generator=draw).to(device, dtype)
        low = torch.einsum("rti,rkji->rtkj", x.view(2, per_row, num_in).double(), a)
        expected = torch.einsum("rtkj,rk,rkjo->rto", low, weights.to(low), b).flatten(0, 1)
        out = torch.zeros_like(expected, dtype=dtype)
        add(slots, 0, rank, numbers.to(device), weights.to(device), x, out)
        torch.testing.assert_close(out.double(), expected, rtol=1e-2, atol=1e-2)


@triton.jit(do_not_specialize=["start"])
def _shrink(
    x,
    slots,
    numbers,
    weights,
    low,
    width,
    start,
    per_row,
    rank,
    num_in: tl.constexpr,
    num_updates: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    IS_WEIGHTED: tl.constexpr,
):
    """low (N, K, rank) = A x, times the weight. A program: some tokens of a row, one update, some ranks."""
    blocks = tl.cdiv(per_row, BLOCK_T)
    row, update = tl.program_id(0) // blocks, tl.program_id(1)
    tokens = (tl.program_id(0) % blocks) * BLOCK_T + tl.arange(0, BLOCK_T)
    places = row * per_row + tokens
    ranks = tl.program_id(2) * BLOCK_R + tl.arange(0, BLOCK_R)
    a = slots + tl.load(numbers + row * num_updates + update) * width + start
    total = tl.zeros([BLOCK_T, BLOCK_R], dtype=tl.float32)
    for first in range(0, num_in, BLOCK_IN):
        ins = first + tl.arange(0, BLOCK_IN)
        x_mask = (tokens[:, None] < per_row) & (ins[None, :] < num_in)
        x_tile = tl.load(x + places[:, None] * num_in + ins[None, :], mask=x_mask, other=0.0).to(tl.float32)
        a_mask = (ranks[:, None] < rank) & (ins[None, :] < num_in)
        a_tile = tl.load(a + ranks[:, None] * num_in + ins[None, :], mask=a_mask, other=0.0).to(tl.float32)
        if BLOCK_T == 1:
            total += tl.sum(x_tile * a_tile, axis=1)[None, :]
        else:
            total = tl.dot(x_tile, tl.trans(a_tile), total, input_precision="ieee")
    if IS_WEIGHTED:
        total *= tl.load(weights + row * num_updates + update).to(tl.float32)
    mask = (tokens[:, None] < per_row) & (ranks[None, :] < rank)
    tl.store(low + (places[:, None] * num_updates + update) * rank + ranks[None, :], total, mask=mask)


@triton.jit(do_not_specialize=["start"])
def _expand(
    low,
    slots,
    numbers,
    out,
    width,
    start,
    num_out,
    per_row,
    rank,
    num_updates: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    RANKS: tl.constexpr,
):
    """out (N, out) += B low, over the updates. A program: some tokens of a row, some outputs."""
    blocks = tl.cdiv(per_row, BLOCK_T)
    row = tl.program_id(0) // blocks
    tokens = (tl.program_id(0) % blocks) * BLOCK_T + tl.arange(0, BLOCK_T)
    places = row * per_row + tokens
    outs = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    ranks = tl.arange(0, RANKS)
    low_mask = (tokens[:, None] < per_row) & (ranks[None, :] < rank)
    b_mask = (ranks[:, None] < rank) & (outs[None, :] < num_out)
    total = tl.zeros([BLOCK_T, BLOCK_OUT], dtype=tl.float32)
    for update in range(num_updates):
        b = slots + tl.load(numbers + row * num_updates + update) * width + start
        b_tile = tl.load(b + ranks[:, None] * num_out + outs[None, :], mask=b_mask, other=0.0).to(tl.float32)
        low_places = (places[:, None] * num_updates + update) * rank + ranks[None, :]
        low_tile = tl.load(low + low_places, mask=low_mask, other=0.0)
        if BLOCK_T == 1:
            total += tl.sum(tl.trans(low_tile) * b_tile, axis=0)[None, :]
        else:
            total = tl.dot(low_tile, b_tile, total, input_precision="ieee")
    pointers = out + places[:, None] * num_out + outs[None, :]
    mask = (tokens[:, None] < per_row) & (outs[None, :] < num_out)
    old = tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
    tl.store(pointers, (old + total).to(out.dtype.element_ty), mask=mask)
