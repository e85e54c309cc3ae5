"""The load that is put on servers, and the plain server that ours is measured beside."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from flan_lora.bench.load import Exchange, LoadReport, mixed_bodies, run_closed, run_open
from flan_lora.bench.server import Row, RunningServer
from tests.serving.openai.fake import FakeModel, served

BODIES = [{"model": "mini", "prompt": f"word{place} b c", "stream": place % 2 == 0} for place in range(12)]


def test_closed_loop_asks_all_and_never_more_at_once_than_clients() -> None:
    with served(FakeModel(step_s=0.002, max_running=3)) as server:
        report = run_closed(server.url, BODIES, num_clients=3)
        assert {str(query.text) for query in server.model.asked} == {body["prompt"] for body in BODIES}
    assert len(report.answered) == 12 and report.num_errors == 0
    assert all(each.num_tokens == 4 and 0 < each.first_s <= each.total_s for each in report.exchanges)
    assert report.tokens_per_s == pytest.approx(4 * report.requests_per_s)


def test_open_loop_asks_at_its_rate_and_counts_who_is_turned_away() -> None:
    with served(FakeModel(blocks=True, max_running=2)) as server:
        import threading

        threading.Timer(1.0, server.model.release).start()
        report = run_open(server.url, BODIES, rate_per_s=200)
    assert len(report.exchanges) == 12
    assert report.num_errors == 10 and {each.status for each in report.exchanges} == {200, 429}


def test_a_server_that_is_gone_is_an_error_and_not_an_exception() -> None:
    with served() as server:
        url = server.url
    report = run_closed(url, BODIES[:2], num_clients=1)
    assert report.num_errors == 2 and math.isnan(report.quantile_s(0.5))


def test_an_error_within_a_stream_counts_as_one() -> None:
    from flan_lora.errors import DataError

    with served() as server:
        server.model.error = DataError("on the way")
        report = run_closed(server.url, [{"model": "mini", "prompt": "a b", "stream": True}], num_clients=1)
    assert report.num_errors == 1


def test_the_questions_are_for_all_adapters_and_the_same_for_a_seed() -> None:
    tasks = {"emotion": "emotion", "mine": "qa"}
    bodies = mixed_bodies(tasks, 40, streamed_share=0.5)
    assert bodies == mixed_bodies(tasks, 40, streamed_share=0.5) != mixed_bodies(tasks, 40, seed=1)
    assert {body["model"] for body in bodies} == set(tasks)
    assert {body["stream"] for body in bodies} == {True, False}
    assert all(set(body["inputs"]) == {"context", "question"} for body in bodies if body["model"] == "mine")


def test_figures_are_medians_over_rounds() -> None:
    rounds = [
        LoadReport(seconds, [Exchange(200, 0.1, seconds, 5)] * 4, seconds / 2) for seconds in (1.0, 2.0, 4.0)
    ]
    row = Row.of("ours", rounds)
    assert (row.requests_per_s, row.tokens_per_s, row.p95_s, row.num_errors) == (2.0, 10.0, 2.0, 0)
    assert row.cpu_s_per_request == 0.25


def test_processor_time_is_that_of_the_process_which_answers() -> None:
    def burn(seconds: float) -> LoadReport:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        return LoadReport(seconds, [])

    idle = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert RunningServer("", os.getpid()).measured(partial(burn, 0.2)).cpu_s == pytest.approx(0.2, abs=0.1)
        assert RunningServer("", idle.pid).measured(partial(burn, 0.2)).cpu_s < 0.1
    finally:
        idle.communicate(b"\n")


def test_the_plain_server_gives_the_answers_that_ours_gives(repo: Path) -> None:
    """Otherwise the comparison would be with something else."""
    from flan_lora.adapters.store import Store
    from flan_lora.bench.plain_server import PlainModel
    from flan_lora.serving.router import Router

    store = Store(repo / "adapters" / "mini")
    stored = [store.open(name) for name in ("emotion", "paraphrase")]
    plain, router = PlainModel(stored), Router.open(store.root, "mini")
    for body in mixed_bodies({item.name: item.manifest.task for item in stored}, 6):
        text, num_tokens = plain.answer(body["model"], body["inputs"])
        ours = router.generate(body["inputs"], body["model"])
        assert (text, num_tokens) == (ours.text, ours.num_tokens)
