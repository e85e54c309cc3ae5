"""What is made once for a shape and used again and again, so that a GPU need not be told every kernel anew.

A pass of flan-t5-large is thousands of small kernels, and launching them takes a GPU's host several times as long
as running them. Captured once as a CUDA graph they are one launch, over tensors that stay where they are. Knows
shapes and callables; never a token.
Source: https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from flan_lora.engine.lora_batch import AdapterRef, IndexedLora
from flan_lora.engine.memory_pool import LoraMemoryPool
from flan_lora.engine.t5 import T5

log = logging.getLogger(__name__)

_IDLE_BYTES, _IDLE_SHARE = 2 << 30, 1 / 8
"""Of what waits for its shape to come again, or that share of a GPU's memory if it is more."""


@dataclass(frozen=True)
class GraphBucket:
    """Room for some rows and what they bring along."""

    rows: int
    width: int
    """Sequences per row."""
    source: int
    """Tokens of a row's source."""
    tokens: int
    """Generated, at most."""
    updates: int
    """Adapters of a row."""
    is_weighted: bool
    """Whether updates may have other weights than 1."""

    @staticmethod
    def of(updates: Sequence[tuple[AdapterRef, ...]], *, width: int, source: int, tokens: int) -> GraphBucket:
        """What rows with these updates need."""
        most = max(map(len, updates), default=0)
        is_weighted = any(update.weight != 1 for row in updates for update in row)
        return GraphBucket(len(updates), width, source, tokens, most, is_weighted)


class Fixed(Protocol):
    """Something of a shape, over the slots of some adapters."""

    def __init__(self, t5: T5, shape: GraphBucket, pool: LoraMemoryPool | None) -> None: ...

    @property
    def shape(self) -> GraphBucket: ...

    @property
    def pool(self) -> LoraMemoryPool | None: ...

    @property
    def size_bytes(self) -> int: ...


Kind = TypeVar("Kind", bound=Fixed)


class GraphPool:
    """What nobody uses at the moment, of one base. Any number of threads may take from it and give back."""

    def __init__(self, max_bytes: int) -> None:
        """
        Args:
            max_bytes: kept; what has waited longest is freed first.
        """
        self._lock, self._max_bytes = threading.Lock(), max_bytes
        self._waiting: list[Fixed] = []  # the longest first

    @staticmethod
    def on(device: torch.device) -> GraphPool:
        """As much as is reasonable there."""
        total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
        return GraphPool(max(_IDLE_BYTES, int(total * _IDLE_SHARE)))

    def take(self, kind: type[Kind], t5: T5, shape: GraphBucket, pool: LoraMemoryPool | None) -> Kind:
        """One of this kind and shape over these slots, made if none is idle.

        Raises:
            torch.OutOfMemoryError: there is no room for it even when all that is idle is gone.
        """
        found = self._find(kind, shape, pool)
        if found is not None:
            return found
        try:
            return kind(t5, shape, pool)
        except torch.OutOfMemoryError:
            with self._lock:
                self._waiting.clear()
            return kind(t5, shape, pool)

    def give(self, fixed: Fixed) -> None:
        """Keep it for as long as there is room; what is over slots that have been replaced goes at once."""
        with self._lock:
            if fixed.pool is not None:
                self._waiting = [each for each in self._waiting if each.pool in (None, fixed.pool)]
            self._waiting.append(fixed)
            while sum(each.size_bytes for each in self._waiting) > self._max_bytes:
                self._waiting.pop(0)

    def _find(self, kind: type[Kind], shape: GraphBucket, pool: LoraMemoryPool | None) -> Kind | None:
        with self._lock:
            for each in self._waiting:
                if isinstance(each, kind) and each.shape == shape and each.pool is pool:
                    self._waiting.remove(each)
                    return each
        return None


def indexed_lora(pool: LoraMemoryPool, shape: GraphBucket) -> IndexedLora:
    """The updates of rows of a shape, all the bare base as yet."""
    return IndexedLora(pool, shape.rows, shape.updates, is_weighted=shape.is_weighted)


def round_up(base: int, number: int, least: int) -> int:
    """``least`` times the smallest power of ``base`` that makes it ``number`` or more: few shapes serve all."""
    while least < number:
        least *= base
    return least


def capture(run: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """``run`` as one CUDA graph, which reads and writes the tensors that it did where they are.

    Elsewhere than on a GPU, and where it cannot be captured, it is ``run`` itself.
    """
    if device.type != "cuda":
        return run
    try:
        return _captured(run, device)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        log.warning("a pass cannot be captured on this GPU, which makes it slower: %s", error)
        return run


def _captured(run: Callable[[], None], device: torch.device) -> Callable[[], None]:
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.stream(stream):
        run()  # kernels are loaded and workspaces made, which cannot be captured
        graph.capture_begin(capture_error_mode="thread_local")  # other threads may use the GPU meanwhile
        try:
            run()
        finally:
            graph.capture_end()
    torch.cuda.current_stream(device).wait_stream(stream)
    return graph.replay
