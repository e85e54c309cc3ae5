"""The learning rate of every step, as a share of its peak."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR


def rate_share(step: int, *, schedule: str, num_warmup_steps: int, num_steps: int) -> float:
    """The rate of a step (from 0) over the peak rate, in (0, 1] for every step of a run.

    The warm-up rises by equal parts and its first step has one of them. transformers begins at 0: a run of one
    step, or one whose first checkpoint is its best, would publish B = 0 and answer as the bare base. After the
    warm-up the shares are those of transformers' get_linear_schedule_with_warmup and get_cosine_...; constant has
    no warm-up there and none here.
    """
    if schedule == "constant":
        return 1.0
    if step < num_warmup_steps:
        return (step + 1) / (num_warmup_steps + 1)
    done = (step - num_warmup_steps) / max(1, num_steps - num_warmup_steps)
    if schedule == "cosine":
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))
    assert schedule == "linear", schedule
    return max(0.0, 1.0 - done)


def learning_rate_schedule(
    optimizer: Optimizer, schedule: str, *, num_warmup_steps: int, num_steps: int
) -> LambdaLR:
    """``rate_share`` as torch's scheduler; its state is a step number, as in older checkpoints."""
    from torch.optim.lr_scheduler import LambdaLR

    share = partial(rate_share, schedule=schedule, num_warmup_steps=num_warmup_steps, num_steps=num_steps)
    return LambdaLR(optimizer, share)
