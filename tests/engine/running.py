"""Requests in one line, and a batch run to its end without a thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flan_lora.base.decode import LabelConstraint
from flan_lora.engine.batch import RunningBatch
from flan_lora.engine.decode_group import RunningRequest
from flan_lora.engine.generation_params import GenerationParams, Sampling
from flan_lora.engine.lease import BARE_LEASE, Lease
from flan_lora.engine.model_runner import ModelRunner
from flan_lora.engine.request import Mix, Request, SequenceOutput


def ask(
    ids: Sequence[int],
    mix: Mix | None = None,
    limit: int = 64,
    *,
    sampling: Sampling | None = None,
    constraint: LabelConstraint | None = None,
    **params: Any,
) -> Request:
    """A request whose parameters are keywords."""
    if sampling is not None:
        drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}
        params = {"do_sample": True, **drawn, **params}
    return Request(ids, mix or {}, GenerationParams(max_new_tokens=limit, **params), constraint)


def generate(
    model: ModelRunner,
    requests: Sequence[Request],
    lease: Lease = BARE_LEASE,
    on_token: Callable[[int, int], None] | None = None,
) -> list[tuple[SequenceOutput, ...]]:
    """The answers to each request, all of them in one batch; ``on_token`` hears (place, token)."""
    running = [RunningRequest(request, lease) for request in requests]
    places = {each: place for place, each in enumerate(running)}
    answers: dict[int, tuple[SequenceOutput, ...]] = {}
    batch = RunningBatch(model)
    batch.add(running)
    while batch.num_running:
        output = batch.step()
        for place, token in sorted((places[each], token) for each, token in output.tokens):
            if on_token is not None:
                on_token(place, token)
        answers.update({places[each]: found for each, found in output.finished})
    return [answers[place] for place in range(len(requests))]
