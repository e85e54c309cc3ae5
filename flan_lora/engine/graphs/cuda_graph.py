"""Passes that are captured once for a shape and replayed, so that a GPU need not be told every kernel anew.

A pass of flan-t5-large is thousands of small kernels, and launching them takes a GPU's host several times as long
as running them. Captured once as a CUDA graph they are one launch, over tensors that stay where they are.
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
"""Of graphs that wait for their shape to come again, or that share of a GPU's memory if it is more."""


@dataclass(frozen=True)
class GraphBucket:
    """The shape of a graph: room for some requests and what they bring along."""

    requests: int
    width: int
    """Sequences per request."""
    source: int
    """Tokens of a request's source."""
    tokens: int
    """Generated, at most."""
    adapters: int
    """Of a request."""
    is_weighted: bool
    """Whether adapters may have other weights than 1."""

    @staticmethod
    def of(refs: Sequence[tuple[AdapterRef, ...]], *, width: int, source: int, tokens: int) -> GraphBucket:
        """What requests with these adapters need."""
        most = max(map(len, refs), default=0)
        is_weighted = any(ref.weight != 1 for own in refs for ref in own)
        return GraphBucket(len(refs), width, source, tokens, most, is_weighted)

    def lora(self, pool: LoraMemoryPool) -> IndexedLora:
        """For the adapters of so many requests, none of which has any as yet."""
        return IndexedLora(pool, self.requests, self.adapters, is_weighted=self.is_weighted)


class Graph(Protocol):
    """A captured pass of a shape, over one pool of adapters."""

    def __init__(self, t5: T5, bucket: GraphBucket, pool: LoraMemoryPool | None) -> None: ...

    @property
    def bucket(self) -> GraphBucket: ...

    @property
    def pool(self) -> LoraMemoryPool | None: ...

    @property
    def size_bytes(self) -> int: ...


AnyGraph = TypeVar("AnyGraph", bound=Graph)


class GraphPool:
    """The graphs of one base that nobody uses at the moment. Any number of threads may use it."""

    def __init__(self, max_bytes: int) -> None:
        """
        Args:
            max_bytes: kept; what has waited longest is freed first.
        """
        self._lock, self._max_bytes = threading.Lock(), max_bytes
        self._idle: list[Graph] = []  # the longest first

    @staticmethod
    def on(device: torch.device) -> GraphPool:
        """As much as is reasonable there."""
        total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
        return GraphPool(max(_IDLE_BYTES, int(total * _IDLE_SHARE)))

    @property
    def idle(self) -> tuple[Graph, ...]:
        """What is kept, the longest idle first."""
        with self._lock:
            return tuple(self._idle)

    def acquire(self, kind: type[AnyGraph], t5: T5, bucket: GraphBucket, pool: LoraMemoryPool | None) -> AnyGraph:
        """A graph of this kind and bucket over these adapters, captured if none is idle.

        Raises:
            torch.OutOfMemoryError: there is no room for it even when all that is idle is gone.
        """
        found = self._find(kind, bucket, pool)
        if found is not None:
            return found
        try:
            return kind(t5, bucket, pool)
        except torch.OutOfMemoryError:
            with self._lock:
                self._idle.clear()
            return kind(t5, bucket, pool)

    def release(self, graph: Graph) -> None:
        """Keep it for as long as there is room; graphs over a pool that has been replaced go at once."""
        with self._lock:
            if graph.pool is not None:
                self._idle = [each for each in self._idle if each.pool in (None, graph.pool)]
            self._idle.append(graph)
            while sum(each.size_bytes for each in self._idle) > self._max_bytes:
                self._idle.pop(0)

    def _find(self, kind: type[AnyGraph], bucket: GraphBucket, pool: LoraMemoryPool | None) -> AnyGraph | None:
        with self._lock:
            for each in self._idle:
                if isinstance(each, kind) and each.bucket == bucket and each.pool is pool:
                    self._idle.remove(each)
                    return each
        return None


def round_up(base: int, number: int, least: int) -> int:
    """``least`` times the smallest power of ``base`` that makes it ``number`` or more: few buckets serve all."""
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
