"""Threads share one running batch: requests join it, leave it, fail and vanish, and no other answer changes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flan_lora.adapters.weights import open_folder
from flan_lora.base.decode import label_constraint
from flan_lora.engine.decode_group import RunningRequest
from flan_lora.engine.engine import Engine
from flan_lora.engine.generation import results
from flan_lora.engine.generation_params import Sampling
from flan_lora.engine.model_runner import ModelRunner
from flan_lora.engine.scheduler import EngineLimits
from flan_lora.errors import QueueFullError, RequestError, UnknownAdapterError
from tests.engine.engines import WAIT_S, Gate, alone, ids, in_threads, make, request
from tests.engine.running import ask, generate
from tests.published import cache_of_two, no_adapters, stage
from tests.tiny import tiny_t5, tiny_tokenizer

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


def test_the_score_of_an_answer_is_the_log_probability_that_it_was_generated_with(tmp_path: Path) -> None:
    engine = make(EngineLimits(max_running=5), cache_of_two(tmp_path))
    mixes: list[dict[str, float]] = [{}, {"one": 1.0}, {"one": 0.5, "two": -0.7}]
    asked = [ask([5 + seed] * (1 + seed % 4) + [1], mixes[seed % 3], 3 + seed % 5) for seed in range(12)]
    answers = [each.sequences[0] for each in results(engine.submit_many(asked))]
    scored = engine.score_targets(
        [replace(each, target=answer.ids) for each, answer in zip(asked, answers, strict=True)]
    )
    assert scored == pytest.approx([answer.log_prob for answer in answers], abs=1e-4)
    with pytest.raises(RequestError, match="expected token ids"):
        engine.score_targets(asked)


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
