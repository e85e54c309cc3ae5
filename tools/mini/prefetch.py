"""Batches made ahead by other processes, for a device that reads faster than one core corrupts text."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import torch

from tools.mini.pretrain import Batch, BatchOf

_batches: BatchOf
"""In a worker: what `make` gave it."""


class Prefetcher:
    """step -> micro-batches, as `make()` gives them; steps are expected in order, some are made ahead.

    `make` runs once in each worker and must be importable from there (a function, or a `functools.partial`).
    """

    def __init__(self, make: Callable[[], BatchOf], num_workers: int, ahead: int = 4) -> None:
        self.pool = ProcessPoolExecutor(
            num_workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(make,)
        )
        self.depth = num_workers * ahead
        self.waiting: deque[tuple[int, Future[list[Batch]]]] = deque()

    def __call__(self, step: int) -> list[Batch]:
        """The batches of `step`; a step out of turn starts the making anew."""
        if not self.waiting or self.waiting[0][0] != step:
            self.waiting.clear()
            self._order(step)
        while len(self.waiting) < self.depth:
            self._order(self.waiting[-1][0] + 1)
        return self.waiting.popleft()[1].result()

    def close(self) -> None:
        """End the workers; what they still make is dropped."""
        self.pool.shutdown(wait=True, cancel_futures=True)

    def _order(self, step: int) -> None:
        self.waiting.append((step, self.pool.submit(_make, step)))


def _begin(make: Callable[[], BatchOf]) -> None:
    global _batches
    torch.set_num_threads(1)
    _batches = make()


def _make(step: int) -> list[Batch]:
    return _batches(step)
