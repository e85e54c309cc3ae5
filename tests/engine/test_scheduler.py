"""Threads share one running batch: rows join it, leave it, fail and vanish, and nobody else's answer changes."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from torch import Tensor

from flan_lora.engine.adapter_cache import Lease
from flan_lora.engine.decode_group import DecodeGroup, RunningRequest
from flan_lora.engine.graphs.decode_graph import DecodeGraphs
from flan_lora.engine.lora_batch import SegmentedLora
from flan_lora.engine.request import Request, Sampling
from flan_lora.engine.runner import ModelRunner
from flan_lora.engine.scheduler import GenerationOutput, Scheduler
from tests.tiny import tiny_t5

ROOT = Path(__file__).resolve().parents[2]
BARE = Lease(None, {})
POISON = 99
"""A source token at which `Slow` fails."""


class Slow(ModelRunner):
    """An engine whose steps take a while, so that rows meet; some sources make it fail, when joining or later."""

    def __init__(self, *, step_s: float = 0.002, fails_at: str = "step") -> None:
        super().__init__(tiny_t5())
        self._step_s, self._fails_at = step_s, fails_at

    def start(self, rows: Sequence[RunningRequest], graphs: DecodeGraphs | None) -> DecodeGroup:
        self._check(rows, "join")
        return super().start(rows, graphs)

    def step(self, groups: Sequence[DecodeGroup], lora: SegmentedLora) -> list[Tensor]:
        time.sleep(self._step_s)
        if groups[0].kv_cache.length > 1:
            self._check([row for group in groups for row in group.rows], "step")
        return super().step(groups, lora)

    def _check(self, rows: Sequence[RunningRequest], where: str) -> None:
        if where == self._fails_at and any(POISON in row.request.input_ids for row in rows):
            raise RuntimeError("poisoned")


def request(seed: int, limit: int = 12, **fields: object) -> Request:
    draw = random.Random(seed)
    ids = [draw.randrange(3, 98) for _ in range(2 + seed % 20)] + [1]
    return Request(ids, {}, limit, **fields)  # type: ignore[arg-type]


def ids(served: Sequence[GenerationOutput]) -> list[list[tuple[int, ...]]]:
    return [[answer.ids for answer in each.answers] for each in served]


def alone(requests: Sequence[Request]) -> list[list[tuple[int, ...]]]:
    engine = ModelRunner(tiny_t5())
    return [[answer.ids for answer in engine.generate([each], BARE)[0]] for each in requests]


def in_threads(jobs: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a caller waits for ever"


def test_calls_of_all_kinds_share_batches_and_answer_as_alone() -> None:
    ways: list[dict[str, object]] = [
        {}, {"num_beams": 3, "num_return_sequences": 2}, {"sampling": Sampling(2.0, seed=3)}, {"limit": 3}
    ]  # fmt: skip
    requests = [request(seed, **ways[seed % 4]) for seed in range(32)]  # type: ignore[arg-type]
    expected, scheduler = alone(requests), Scheduler(Slow(), max_rows=6)
    found: dict[int, list[list[tuple[int, ...]]]] = {}

    def ask(start: int) -> None:
        time.sleep(0.003 * (start % 5))
        found[start] = ids(scheduler.run(requests[start : start + 4], BARE))

    in_threads([lambda start=start: ask(start) for start in range(0, 32, 4)])  # type: ignore[misc]
    assert [row for start in range(0, 32, 4) for row in found[start]] == expected
    traffic = scheduler.traffic
    assert traffic.num_rows == 32 and traffic.most_rows == 6, "no more at once than allowed"
    assert traffic.num_joined > 16, "most rows must come while others are under way"


def test_a_row_that_ends_first_is_known_first() -> None:
    short, long = Scheduler(Slow()).run([request(1, 1), request(2, 12)], BARE)
    assert short.finished_s < long.finished_s


@pytest.mark.parametrize("fails_at", ["join", "step"])
def test_an_error_reaches_only_the_caller_whose_row_caused_it(fails_at: str) -> None:
    scheduler = Scheduler(Slow(fails_at=fails_at))
    good, bad = [request(seed) for seed in range(6)], Request([5, POISON, 1], {}, 9)
    heard: list[list[int]] = [[], []]
    outcomes: dict[str, object] = {}

    def ask(name: str, requests: Sequence[Request], on_token: Callable[[int, int], None] | None = None) -> None:
        try:
            outcomes[name] = ids(scheduler.run(requests, BARE, on_token=on_token))
        except RuntimeError as error:
            outcomes[name] = str(error)

    in_threads(
        [
            lambda: ask("first", good[:2], lambda place, token: heard[place].append(token)),
            lambda: ask("bad", [good[2], bad]),
            lambda: ask("second", good[3:]),
        ]
    )
    assert outcomes == {"first": alone(good[:2]), "bad": "poisoned", "second": alone(good[3:])}
    assert [tuple(row) for row in heard] == [row[0] for row in alone(good[:2])], "no token is told twice"
    assert ids(scheduler.run(good[:1], BARE)) == alone(good[:1]), "it goes on afterwards"


def test_a_listener_that_raises_ends_its_own_call() -> None:
    scheduler, outcomes = Scheduler(Slow()), list[object]()

    def raising(place: int, token: int) -> None:
        raise ValueError("tired")

    def fail() -> None:
        with pytest.raises(ValueError, match="tired"):
            scheduler.run([request(1), request(2)], BARE, on_token=raising)
        outcomes.append("failed")

    def succeed() -> None:
        outcomes.append(ids(scheduler.run([request(3)], BARE)))

    in_threads([fail, succeed])
    assert "failed" in outcomes and alone([request(3)]) in outcomes
    assert not scheduler._calls and not scheduler._waiting


def test_an_interrupted_caller_takes_its_rows_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Running rows and waiting ones; the others go on."""
    scheduler, found = Scheduler(Slow(step_s=0.02), max_rows=3), list[object]()
    other = threading.Thread(target=lambda: found.append(ids(scheduler.run([request(1), request(2)], BARE))))
    other.start()
    while not scheduler.traffic.num_steps:
        time.sleep(0.001)
    wait, num_waits = threading.Event.wait, list[float | None]()

    def interrupted(event: threading.Event, timeout: float | None = None) -> bool:
        if threading.current_thread() is threading.main_thread() and timeout is None:
            wait(event, 0.05)
            num_waits.append(timeout)
            raise KeyboardInterrupt
        return wait(event, timeout)

    monkeypatch.setattr(threading.Event, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scheduler.run([request(3), request(4), request(5)], BARE)
    assert num_waits and not any(call.is_given_up for call in scheduler._calls.values()), "its rows have left"
    monkeypatch.undo()
    other.join(30)
    assert found == [alone([request(1), request(2)])]
    assert not scheduler._calls and not scheduler._waiting


def test_the_worker_ends_when_nothing_comes_and_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flan_lora.engine.scheduler._IDLE_S", 0.01)
    scheduler = Scheduler(Slow(step_s=0))
    for seed in range(3):
        assert ids(scheduler.run([request(seed)], BARE)) == alone([request(seed)])
        worker = scheduler._worker
        if worker is not None:
            worker.join(10)
        assert scheduler._worker is None
    assert scheduler.run([], BARE) == []


def test_a_bug_of_the_worker_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler(Slow())

    def broken(*_: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr(scheduler, "_deliver", broken)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with pytest.raises(AssertionError, match="a bug"):
        scheduler.run([request(1)], BARE)
    monkeypatch.undo()
    assert ids(scheduler.run([request(1)], BARE)) == alone([request(1)])


def test_a_program_may_end_while_rows_are_under_way() -> None:
    """Killed within torch the worker would abort the process."""
    program = """
import threading, time
from tests.engine.test_scheduler import BARE, ModelRunner, Scheduler, request, tiny_t5
scheduler = Scheduler(ModelRunner(tiny_t5()))
def ask():
    while True:
        scheduler.run([request(seed) for seed in range(4)], BARE)
threading.Thread(target=ask, daemon=True).start()
time.sleep(0.2)
assert scheduler.traffic.num_steps
"""
    for _ in range(3):
        command = [sys.executable, "-c", program]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert (ended.returncode, ended.stderr) == (0, "")
