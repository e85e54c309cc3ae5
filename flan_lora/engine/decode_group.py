"""Requests that joined a batch together and decode alike: they share a cache, and choose tokens in one go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from flan_lora.engine.kv_cache import Cache
from flan_lora.engine.lease import Lease
from flan_lora.engine.lora_batch import AdapterRef
from flan_lora.engine.request import Request, SequenceOutput


@dataclass(frozen=True, slots=True, eq=False)
class RunningRequest:
    """A request that has been let in, with the lease on its adapters. Equal only to itself."""

    request: Request
    lease: Lease

    @property
    def refs(self) -> tuple[AdapterRef, ...]:
        """Where its adapters lie."""
        return self.lease.refs(self.request.mix)


@dataclass(frozen=True)
class StepOutput:
    """What one step has brought."""

    tokens: tuple[tuple[RunningRequest, int], ...] = ()
    """The new token of each request that decodes one sequence (greedy, one sample)."""
    finished: tuple[tuple[RunningRequest, tuple[SequenceOutput, ...]], ...] = ()
    """Requests that have ended, with ``num_return_sequences`` answers, best first."""


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Token ids that a base gives a meaning."""

    start: int
    eos: int
    pad: int


class DecodeGroup(ABC, Generic[Cache]):
    """Greedy and sampled requests (`SamplingGroup`), or beams (`BeamGroup`). R requests of W sequences each."""

    def __init__(self, requests: Sequence[RunningRequest], cache: Cache, special: SpecialTokens) -> None:
        self.requests = list(requests)
        """Those that are still decoded; the finished ones among them leave when they are half of all."""
        self.ids = torch.full((cache.num_sequences,), special.start, device=cache.device)
        """(R * W,) to feed next"""
        self.cache, self._special = cache, special
        self._is_finished = [False] * len(requests)

    @property
    def num_running(self) -> int:
        """Requests that have not ended."""
        return self._is_finished.count(False)

    @abstractmethod
    def advance(self, logits: Tensor) -> StepOutput:
        """Choose from (R * W, V), once for every request."""

    @abstractmethod
    def _filter(self, requests: list[int], sequences: list[int]) -> None:
        """Keep what is known of the requests, and of their sequences, at these places."""

    def drop(self, requests: Collection[RunningRequest]) -> None:
        """Forget requests that nobody waits for."""
        pairs = zip(self._is_finished, self.requests, strict=True)
        self._is_finished = [is_finished or request in requests for is_finished, request in pairs]

    def compact(self) -> bool:
        """Let finished requests leave, if they are half of all; whether any has.

        A request costs less than the copy of the cache that lets it leave.
        """
        kept = [place for place, is_finished in enumerate(self._is_finished) if not is_finished]
        if not kept or len(kept) * 2 > len(self._is_finished):
            return False
        width = self.cache.width
        sequences = [place * width + each for place in kept for each in range(width)]
        self.cache.filter(kept)
        self.ids = self.ids[torch.tensor(sequences, device=self.ids.device)]
        self.requests = [self.requests[place] for place in kept]
        self._is_finished = [False] * len(kept)
        self._filter(kept, sequences)
        return True
