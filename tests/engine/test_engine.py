"""Threads share one running batch: requests join it, leave it, fail and vanish, and no other answer changes."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flan_lora.adapters.weights import open_folder
from flan_lora.base.decode import label_constraint
from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.batch import RunningBatch
from flan_lora.engine.decode_group import RunningRequest, StepOutput
from flan_lora.engine.engine import Engine
from flan_lora.engine.generation import results
from flan_lora.engine.generation_params import Sampling
from flan_lora.engine.model_runner import ModelRunner
from flan_lora.engine.request import GenerationOutput, Request
from flan_lora.engine.runner import EagerRunner
from flan_lora.engine.scheduler import EngineLimits
from flan_lora.errors import QueueFullError, RequestError, UnknownAdapterError
from tests.engine.running import ask, generate
from tests.published import cache_of_two, no_adapters, stage
from tests.tiny import tiny_t5, tiny_tokenizer

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.allow(10_000)
    while MADE:  # what one leaves behind would pass the next test's gate
        MADE.pop().close(0)


def make(limits: EngineLimits | None = None, adapters: AdapterCache | None = None) -> Engine:
    MADE.append(Engine(tiny_t5(), adapters or no_adapters(), limits=limits or EngineLimits()))
    return MADE[-1]


# Together as alone


@pytest.mark.parametrize("graphs", [False, True])
def test_callers_of_all_kinds_share_batches_and_answer_as_alone(graphs: bool) -> None:
    ways: list[dict[str, Any]] = [
        {}, {"num_beams": 3, "num_return_sequences": 2}, {"sampling": Sampling(2.0, seed=3)}, {"limit": 3}
    ]  # fmt: skip
    requests = [request(seed, **ways[seed % 4]) for seed in range(32)]
    engine = Engine(tiny_t5(), no_adapters(), limits=EngineLimits(max_running=6), graphs=graphs)
    found: dict[int, list[list[tuple[int, ...]]]] = {}
    barrier = threading.Barrier(8)

    def call(start: int) -> None:
        barrier.wait()
        found[start] = ids(results(engine.submit_many(requests[start : start + 4])))

    in_threads([lambda start=start: call(start) for start in range(0, 32, 4)])  # type: ignore[misc]
    assert [row for start in range(0, 32, 4) for row in found[start]] == alone(requests)
    stats = engine.stats
    assert (stats.num_admitted, stats.num_finished, stats.most_running) == (32, 32, 6)
    assert stats.num_joined > 16, "most must come while others are under way"
    assert stats.num_prompt_tokens == sum(len(each.input_ids) for each in requests)


def test_a_generation_knows_its_times_and_the_shorter_one_ends_first() -> None:
    short, long = results(make().submit_many([request(1, 1), request(2, 12)]))
    assert short.queued_s <= short.first_token_s == short.finished_s
    assert long.queued_s < long.first_token_s < long.finished_s > short.finished_s


def test_tokens_come_one_by_one(gate: Gate) -> None:
    engine, heard = make(), list[int]()
    expected = alone([request(2, 6)])[0][0]
    generation = engine.submit(request(2, 6), on_token=heard.append)
    tokens = generation.tokens()
    for number, token in enumerate(expected, 1):
        gate.await_step()
        assert len(heard) < number and not generation.done
        gate.allow()
        assert next(tokens) == token
    assert list(tokens) == [] and tuple(heard) == expected == generation.result(WAIT_S).sequences[0].ids


def test_beams_come_as_tokens_when_they_are_known() -> None:
    generation = make().submit(request(2, 6, num_beams=3))
    assert tuple(generation.tokens()) == generation.result().sequences[0].ids == alone([generation.request])[0][0]


def test_more_texts_to_read_than_rows_follow_each_other_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is decoded meanwhile, so nobody tells the worker that there is room again."""
    monkeypatch.setattr("flan_lora.engine.engine._IDLE_S", WAIT_S)
    sources = [[5 + number % 80, 1] for number in range(12)]
    engine, start = make(EngineLimits(max_running=2)), time.perf_counter()
    torch.testing.assert_close(
        engine.encode(sources), ModelRunner(tiny_t5()).pooled_states(sources), rtol=1e-4, atol=1e-5
    )
    assert time.perf_counter() - start < WAIT_S


def test_labels_and_states_are_jobs_of_the_same_worker(tmp_path: Path) -> None:
    cache, model = cache_of_two(tmp_path), ModelRunner(tiny_t5())
    engine = make(EngineLimits(max_running=3), cache)
    labels = label_constraint(tiny_tokenizer(), ["joy", "sad", "sadness"])
    asked = [ask([5 + seed, 6, 1], {"one": 1.0} if seed % 2 else {}, 5, constraint=labels) for seed in range(7)]
    with cache.lease(["one"]) as lease:
        expected = model.label_probabilities([RunningRequest(each, lease) for each in asked])
    busy = engine.submit_many([request(seed) for seed in range(6)])
    for found, right in zip(engine.score_labels(asked), expected, strict=True):
        assert found == pytest.approx(right, abs=1e-5)
    sources = [[5, 6, 1], [7] * 30 + [1], [8, 1], [9, 9, 1]]
    torch.testing.assert_close(engine.encode(sources), model.pooled_states(sources), rtol=1e-4, atol=1e-5)
    assert ids(results(busy)) == alone([each.request for each in busy])
    assert [status.num_leases for status in cache.status()] == [0, 0]


# Who is let in


def test_a_cancelled_generation_frees_its_place_within_one_step(gate: Gate) -> None:
    engine = make(EngineLimits(max_running=2))
    first, second, third = engine.submit_many([request(seed) for seed in range(3)])
    assert gate.await_step() == 2 and engine.stats.num_waiting == 1
    second.cancel()
    gate.allow()
    assert gate.await_step() == 2, "the third one is in for the second"
    assert second.done and engine.stats.num_waiting == 0 and engine.stats.num_cancelled == 1
    with pytest.raises(CancelledError):
        second.result()
    gate.allow(100)
    assert ids(results([first, third])) == alone([first.request, third.request])


def test_a_waiting_generation_that_is_cancelled_never_joins(gate: Gate) -> None:
    engine = make(EngineLimits(max_running=1))
    first, second, third = engine.submit_many([request(seed, 2) for seed in range(3)])
    gate.await_step()
    second.cancel()
    gate.allow(100)
    assert ids(results([first, third])) == alone([first.request, third.request])
    assert second.done and engine.stats.num_admitted == 2


def test_who_stops_reading_gives_its_generation_up(gate: Gate) -> None:
    engine = make()
    generation = engine.submit(request(2))
    tokens = generation.tokens()
    gate.allow()
    next(tokens)
    gate.await_step(), gate.await_step()
    tokens.close()  # type: ignore[attr-defined]
    gate.allow()
    with pytest.raises(CancelledError):
        generation.result(WAIT_S)


def test_a_long_source_does_not_hold_up_those_that_are_decoded(gate: Gate) -> None:
    """Beside others so many tokens are read before a step, or one source; an empty batch takes all."""
    engine = make(EngineLimits(max_prefill_tokens=12))
    engine.submit_many([ask([5] * 9 + [1], {}, 30) for _ in range(3)])
    sizes = [gate.await_step()]
    engine.submit_many([ask([number] * length + [1], {}, 30) for number, length in enumerate((5, 5, 5, 49, 2), 5)])
    for _ in range(4):
        gate.allow()
        sizes.append(gate.await_step())
    assert sizes == [3, 5, 6, 7, 8]


def test_a_full_queue_refuses_all_or_none(gate: Gate) -> None:
    engine = make(EngineLimits(max_running=1, max_waiting=3))
    first = engine.submit(request(1, 2))
    gate.await_step()
    waiting = engine.submit_many([request(2, 2), request(3, 2)])
    with pytest.raises(QueueFullError, match=r"2 requests wait, and 2 more would be more than max_waiting=3"):
        engine.submit_many([request(4), request(5)])
    assert engine.stats.num_waiting == 2
    last = engine.submit(request(4, 2))
    gate.allow(100)
    assert ids(results([first, *waiting, last])) == alone([request(seed, 2) for seed in range(1, 5)])


def test_an_unknown_adapter_is_an_error_at_once_and_nothing_is_queued(tmp_path: Path) -> None:
    cache = cache_of_two(tmp_path)
    engine = make(adapters=cache)
    with pytest.raises(UnknownAdapterError, match="no adapter 'three'"):
        engine.submit_many([ask([5, 1], {"one": 1.0}), ask([5, 1], {"three": 1.0})])
    assert engine.stats.num_waiting == 0
    cache.unload("one", timeout_s=0)  # nobody waits for it


def test_who_asked_before_a_new_version_gets_the_old_one(tmp_path: Path, gate: Gate) -> None:
    cache = cache_of_two(tmp_path / "old")
    engine = make(EngineLimits(max_running=2), cache)
    asked = ask([5, 6, 7, 1], {"one": 1.0}, 8)
    running, _, waiting = engine.submit_many([asked, request(1), asked])
    gate.await_step()
    cache.replace(*open_folder("one", stage(tmp_path / "new" / "one", seed=7)))
    new = engine.submit(asked)
    gate.allow(100)
    found = ids(results([running, waiting, new]))
    assert found[0] == found[1] != found[2]
    with cache.lease(["one"]) as lease:
        assert found[2] == [generate(ModelRunner(tiny_t5()), [asked], lease)[0][0].ids]
    assert [status.name for status in cache.status()] == ["one", "two"]


def test_a_slot_that_another_gives_back_is_taken(tmp_path: Path) -> None:
    """Nothing runs, so only the cache can wake the worker."""
    cache = cache_of_two(tmp_path, num_slots=2)
    engine = make(adapters=cache)
    with cache.lease(["one"]):
        generation = engine.submit(ask([5, 1], {"two": 1.0}, 3))
        with pytest.raises(TimeoutError):
            generation.result(0.05)
    assert len(generation.result(1.0).sequences) == 1, "well before it would look again by itself"


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
    returned: list[None] = []
    monkeypatch.setattr("flan_lora.engine.engine._IDLE_S", 0.01)
    monkeypatch.setattr("flan_lora.engine.engine.return_freed_memory", lambda: returned.append(None))
    engine = make()
    for seed in range(3):
        assert ids([engine.submit(request(seed)).result()]) == alone([request(seed)])
        for thread in threading.enumerate():
            if thread.name == "flan-lora-engine":
                thread.join(WAIT_S)
                assert not thread.is_alive()
    assert len(returned) == 3, "what the batches used goes back to the system"
    assert engine.submit_many([]) == []


def test_a_bug_of_the_worker_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make()

    def broken(*_: object) -> None:
        raise AssertionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_deliver", broken)
        patch.setattr(engine, "_run_apart", broken)
        patch.setattr(threading, "excepthook", lambda _: None)
        with pytest.raises(AssertionError, match="a bug"):
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
    """Killed within torch the worker would abort the process."""
    program = """
import threading
from tests.engine.test_engine import make, request, results
engine, has_begun = make(), threading.Event()
def call():
    while True:
        engine.submit_many([request(seed) for seed in range(3)])
        results([engine.submit(request(4), on_token=lambda _: has_begun.set())])
threading.Thread(target=call, daemon=True).start()
assert has_begun.wait(30)
"""
    for _ in range(2):
        command = [sys.executable, "-c", program]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stderr
