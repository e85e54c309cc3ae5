"""What goes wrong in an engine: errors, interrupts, bugs, closing, the end of the program."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from flan_lora.engine.batch import RunningBatch
from flan_lora.engine.decode_group import RunningRequest, StepOutput
from flan_lora.engine.generation import results
from flan_lora.engine.model_runner import ModelRunner
from flan_lora.engine.runner import EagerRunner
from flan_lora.engine.scheduler import EngineLimits
from flan_lora.errors import RequestError
from tests.engine.engines import POISON, WAIT_S, Gate, alone, ids, make, request
from tests.engine.running import ask
from tests.published import cache_of_two

ROOT = Path(__file__).resolve().parents[2]


# What goes wrong


def poison(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Let a model fail at some sources, when they are read or later."""
    prefill, step = ModelRunner.prefill, RunningBatch.step
    poisoned: dict[RunningBatch, int] = {}

    def bad(requests: Sequence[RunningRequest]) -> bool:
        return any(POISON in each.request.input_ids for each in requests)

    def failing_prefill(model: ModelRunner, runner: Any, requests: Sequence[RunningRequest]) -> Any:
        if bad(requests):
            if where == "prefill":
                raise RuntimeError("poisoned")
            poisoned[runner] = 0
        return prefill(model, runner, requests)

    def failing_decode(runner: EagerRunner, caches: Any, own: Any) -> list[Tensor]:
        if runner in poisoned:
            poisoned[runner] += 1  # type: ignore[index]
            if poisoned[runner] > 2:  # type: ignore[index]
                raise RuntimeError("poisoned")
        return decode(runner, caches, own)

    decode = EagerRunner.decode
    monkeypatch.setattr(ModelRunner, "prefill", failing_prefill)
    monkeypatch.setattr(EagerRunner, "decode", failing_decode)
    assert step is RunningBatch.step


@pytest.mark.parametrize("where", ["prefill", "step"])
def test_an_error_reaches_only_the_generation_that_caused_it(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = [request(seed) for seed in range(5)], ask([5, POISON, 1], {}, 9)
    expected = alone(good)
    poison(monkeypatch, where)
    engine, heard = make(), list[int]()
    first = engine.submit(good[0], on_token=heard.append)
    failing, *others = engine.submit_many([bad, *good[1:]])
    assert ids(results([first, *others])) == expected
    assert tuple(heard) == expected[0][0], "no token comes twice"
    with pytest.raises(RuntimeError, match="poisoned"):
        failing.result()
    with pytest.raises(RuntimeError, match="poisoned"):
        list(failing.tokens())
    assert ids([engine.submit(good[0]).result()]) == expected[:1], "it goes on afterwards"
    assert engine.stats.num_failed == 1


def test_an_adapter_that_cannot_be_loaded_fails_its_own_generation(tmp_path: Path) -> None:
    cache = cache_of_two(tmp_path, max_cpu_bytes=1)
    (tmp_path / "one" / "adapter_model.safetensors").write_bytes(b"gone bad")
    engine = make(adapters=cache)
    failing, good = engine.submit_many([ask([5, 1], {"one": 1.0}, 3), ask([5, 1], {"two": 1.0}, 3)])
    with pytest.raises(Exception, match="changed since it was opened"):
        failing.result()
    assert good.result().sequences[0].ids and engine.stats.num_failed == 1
    assert not any(status.num_leases for status in cache.status())


def test_a_listener_that_raises_ends_its_own_generation() -> None:
    def raising(token: int) -> None:
        raise ValueError("tired")

    engine = make()
    failing, good = engine.submit(request(1), on_token=raising), engine.submit(request(3))
    with pytest.raises(ValueError, match="tired"):
        failing.result()
    assert ids([good.result()]) == alone([request(3)])


def test_an_interrupted_caller_gives_its_generations_up(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make(EngineLimits(max_running=2))
    mine, other = engine.submit(request(1)), engine.submit(request(2))
    gate.await_step()
    waiting = engine.submit(request(3))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mine._future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        results([mine, waiting])
    assert mine.is_cancelled and waiting.is_cancelled
    monkeypatch.undo()
    gate.allow(100)
    assert ids([other.result(WAIT_S)]) == alone([request(2)])
    assert mine.done and waiting.done


def test_the_worker_ends_when_nothing_comes_and_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    returned: list[threading.Thread] = []
    # workers of other tests' engines may still idle here, and end under the shorter time too
    others = set(threading.enumerate())
    monkeypatch.setattr("flan_lora.engine.engine._IDLE_S", 0.01)
    monkeypatch.setattr(
        "flan_lora.engine.engine.return_freed_memory", lambda: returned.append(threading.current_thread())
    )
    engine = make()
    for seed in range(3):
        assert ids([engine.submit(request(seed)).result()]) == alone([request(seed)])
        for thread in threading.enumerate():
            if thread.name == "flan-lora-engine" and thread not in others:
                thread.join(WAIT_S)
                assert not thread.is_alive()
    assert len(set(returned) - others) == 3, "what the batches used goes back to the system"
    assert engine.submit_many([]) == []


def test_a_bug_of_the_worker_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bug(BaseException):
        """Nothing that running requests apart could mend."""

    def broken(_: RunningBatch) -> StepOutput:
        raise Bug

    engine = make()
    with monkeypatch.context() as patch:
        patch.setattr(RunningBatch, "step", broken)
        patch.setattr(threading, "excepthook", lambda _: None)
        with pytest.raises(Bug):
            engine.submit(request(1)).result(WAIT_S)
    assert ids([engine.submit(request(1)).result()]) == alone([request(1)])


def test_a_closed_engine_takes_nothing_and_has_answered_what_it_had(gate: Gate) -> None:
    engine = make(EngineLimits(max_running=1))
    generations = engine.submit_many([request(1, 3), request(2, 3)])
    gate.allow(100)
    engine.close()
    assert ids(results(generations)) == alone([request(1, 3), request(2, 3)])
    with pytest.raises(RequestError, match="closed"):
        engine.submit(request(3))


def test_closing_gives_up_what_takes_too_long(gate: Gate) -> None:
    engine = make(EngineLimits(max_running=1))
    generations = engine.submit_many([request(1), request(2)])
    gate.await_step()
    closing = threading.Thread(target=engine.close, args=(0.01,))
    closing.start()
    while not generations[0].is_cancelled:
        closing.join(0.01)
    gate.allow()
    closing.join(WAIT_S)
    assert not closing.is_alive() and all(each.done for each in generations)
    with pytest.raises(CancelledError):
        results(generations)


def test_a_program_may_end_while_requests_are_under_way() -> None:
    """Killed within torch a worker aborts the process, about every other time: so four of them are under way."""
    program = """
import threading
from flan_lora.engine.generation import results
from tests.engine.engines import make, request
def call(engine, has_begun):
    while True:
        engine.submit_many([request(seed) for seed in range(3)])
        results([engine.submit(request(4), on_token=lambda _: has_begun.set())])
for _ in range(4):
    has_begun = threading.Event()
    threading.Thread(target=call, args=(make(), has_begun), daemon=True).start()
    assert has_begun.wait(30)
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
