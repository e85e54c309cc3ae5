"""The rate of every step is above 0, and after the warm-up it is transformers' own."""

from __future__ import annotations

import pytest
import torch
from transformers import get_scheduler

from flan_lora.training.schedule import learning_rate_schedule, rate_share


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize(("num_steps", "num_warmup"), [(1, 0), (1, 1), (2, 1), (3, 3), (10, 1), (200, 6)])
def test_every_step_has_a_rate(schedule: str, num_steps: int, num_warmup: int) -> None:
    shares = [
        rate_share(step, schedule=schedule, num_warmup_steps=num_warmup, num_steps=num_steps)
        for step in range(num_steps)
    ]
    assert all(0.0 < share <= 1.0 for share in shares)
    assert shares[:num_warmup] == sorted(shares[:num_warmup])


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_after_the_warm_up_the_rates_are_those_of_transformers(schedule: str) -> None:
    def rates(make):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        scheduler, found = make(optimizer), []
        for _ in range(40):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return found

    ours = rates(lambda optimizer: learning_rate_schedule(optimizer, schedule, num_warmup_steps=4, num_steps=40))
    theirs = rates(lambda optimizer: get_scheduler(schedule, optimizer, num_warmup_steps=4, num_training_steps=40))
    assert ours[4:] == pytest.approx(theirs[4:])
    if schedule != "constant":
        assert theirs[0] == 0.0 and ours[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
