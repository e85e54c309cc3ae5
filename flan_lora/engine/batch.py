"""The running batch: requests that decode together, one token a step; between two steps they join and leave.

A request's answer does not depend on its neighbours, beyond float noise, nor on when they come and go.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch

from flan_lora.engine.decode_group import DecodeGroup, RunningRequest, StepOutput
from flan_lora.engine.model_runner import ModelRunner

_LENGTH_RATIO, _LENGTH_SLACK = 1.5, 16
"""Sources of a group are padded to the longest: at most this many times the shortest, and these tokens, long."""


class RunningBatch:
    """One thread's batch on one base."""

    def __init__(self, model: ModelRunner) -> None:
        self._model, self._runner = model, model.new_runner()
        self._groups: list[DecodeGroup[Any]] = []

    @property
    def num_running(self) -> int:
        """Requests that have not ended."""
        return sum(group.num_running for group in self._groups)

    @torch.inference_mode()
    def add(self, requests: Sequence[RunningRequest]) -> None:
        """Prefill new requests; they get their first token in the next step. If it raises, none is in."""
        self._groups += [self._model.prefill(self._runner, alike) for alike in _alike(requests, self._model)]

    def drop(self, requests: Collection[RunningRequest]) -> None:
        """Forget requests that nobody waits for any more; who has a slot of its own frees it at once."""
        for group in self._groups:
            group.drop(requests)
        self._compact()

    @torch.inference_mode()
    def step(self) -> StepOutput:
        """The next token of every request. If it raises, the batch is no longer good for anything."""
        assert self._groups, "a step takes requests"
        caches, ids = [group.cache for group in self._groups], [group.ids for group in self._groups]
        logits = self._runner.decode(caches, ids)
        outputs = [group.advance(own) for group, own in zip(self._groups, logits, strict=True)]
        self._compact()
        return StepOutput(
            tuple(token for output in outputs for token in output.tokens),
            tuple(request for output in outputs for request in output.finished),
        )

    def _compact(self) -> None:
        running = [group for group in self._groups if group.num_running]
        for group in self._groups:
            if not group.num_running:
                group.cache.free()
        have_shrunk = [group.compact() for group in running]
        if any(have_shrunk) or len(running) < len(self._groups):
            self._groups = running
            self._runner.release_idle()


def _alike(requests: Sequence[RunningRequest], model: ModelRunner) -> Iterator[list[RunningRequest]]:
    """Requests that may share a group: the same way to decode, sources of like length; those of a mix together.

    Leases from before and after the adapters' pool was made roomier are apart.
    """
    ways: dict[tuple[bool, int, int, int | None], list[RunningRequest]] = {}
    for each in requests:
        params = each.request.params
        length = model.padded_length(_length(each))
        ways.setdefault((params.num_beams > 1, params.width, id(each.lease.pool), length), []).append(each)
    for alike in ways.values():
        alike.sort(key=_length)
        start = 0
        for place, each in enumerate(alike):
            if _length(each) > _LENGTH_RATIO * _length(alike[start]) + _LENGTH_SLACK:
                yield sorted(alike[start:place], key=_slots)
                start = place
        yield sorted(alike[start:], key=_slots)


def _length(running: RunningRequest) -> int:
    return len(running.request.input_ids)


def _slots(running: RunningRequest) -> list[tuple[int, float]]:
    """Where its adapters lie: neighbours in this order share products (`lora_batch.Segment`)."""
    return [(ref.slot, ref.weight) for ref in running.refs]
