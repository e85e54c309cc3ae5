"""Engines of the tiny T5, requests for them, and a gate before every step."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.batch import RunningBatch
from flan_lora.engine.decode_group import StepOutput
from flan_lora.engine.engine import Engine
from flan_lora.engine.model_runner import ModelRunner
from flan_lora.engine.request import GenerationOutput, Request
from flan_lora.engine.scheduler import EngineLimits
from tests.engine.running import ask, generate
from tests.published import no_adapters
from tests.tiny import tiny_t5

POISON = 99
"""A source token at which a poisoned model fails."""
WAIT_S = 30.0


def request(seed: int, limit: int = 12, **fields: Any) -> Request:
    draw = random.Random(seed)
    return ask([draw.randrange(3, 98) for _ in range(2 + seed % 20)] + [1], {}, limit, **fields)


def ids(outputs: Sequence[GenerationOutput]) -> list[list[tuple[int, ...]]]:
    return [[sequence.ids for sequence in output.sequences] for output in outputs]


def alone(requests: Sequence[Request]) -> list[list[tuple[int, ...]]]:
    model = ModelRunner(tiny_t5())
    return [[sequence.ids for sequence in generate(model, [each])[0]] for each in requests]


def in_threads(jobs: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a caller waits for ever"


class Gate:
    """Every step of an engine waits for a permit, so that a test decides what comes between two of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self._permits, self._arrived = threading.Semaphore(0), threading.Semaphore(0)
        plain, gate = RunningBatch.step, self

        def step(batch: RunningBatch) -> StepOutput:
            if threading.current_thread().name == "flan-lora-engine":
                gate.sizes.append(batch.num_running)
                gate._arrived.release()
                assert gate._permits.acquire(timeout=WAIT_S), "no permit came"
            return plain(batch)

        monkeypatch.setattr(RunningBatch, "step", step)

    def await_step(self) -> int:
        """Until a step is about to be made; how many run in it."""
        assert self._arrived.acquire(timeout=WAIT_S), "no step came"
        return self.sizes[-1]

    def allow(self, number: int = 1) -> None:
        """So many steps."""
        self._permits.release(number)


MADE: list[Engine] = []


def make(limits: EngineLimits | None = None, adapters: AdapterCache | None = None) -> Engine:
    MADE.append(Engine(tiny_t5(), adapters or no_adapters(), limits=limits or EngineLimits()))
    return MADE[-1]
