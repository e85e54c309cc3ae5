"""Thousands of requests of eight threads, while adapters come, leave and are replaced: each is answered as alone.

In fp64, where float noise is a million times smaller than what a wrong adapter, a stale slot or a stolen draw
would change: in fp32 a difference could be blamed on rounding, and in int8 rounding alone changes some answers.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from flan_lora.adapters.weights import base_linears, open_folder
from flan_lora.base.decode import label_constraint
from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.engine import Engine
from flan_lora.engine.generation import results
from flan_lora.engine.generation_params import Sampling
from flan_lora.engine.request import GenerationOutput, Request
from flan_lora.engine.scheduler import EngineLimits
from tests.engine.running import ask
from tests.published import stage
from tests.tiny import tiny_t5, tiny_tokenizer

NAMES = ("a", "b", "c", "d", "e")
LABELS = label_constraint(tiny_tokenizer(), ["joy", "sad", "sadness", "not joy"])
WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"sampling": Sampling(2.0, 0.9)},
    {"sampling": Sampling(3.0), "num_return_sequences": 2, "top_k": 40},
    {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.5},
    {"constraint": LABELS},
    {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_new_tokens": 2},
    {"num_beams": 2, "no_repeat_ngram_size": 2, "early_stopping": True},
)


def make_request(seed: int) -> Request:
    draw = random.Random(seed)
    mixes: list[dict[str, float]] = [{}, *({name: 1.0} for name in NAMES), {"a": 0.5, "c": 0.5}, {"b": -0.3}]
    fields = dict(draw.choice(WAYS))
    if (sampling := fields.get("sampling")) is not None:
        fields["sampling"] = Sampling(sampling.temperature, sampling.top_p, seed=draw.randrange(2**32))
    ids = [draw.randrange(3, 98) for _ in range(draw.choice((1, 3, 8, 21, 50)))] + [1]
    return ask(ids, draw.choice(mixes), draw.choice((2, 4, 9)), **fields)


def open_engine(path: Path, limits: EngineLimits) -> tuple[Engine, AdapterCache]:
    """Five adapters for three slots: most requests have to bring theirs in."""
    base = tiny_t5().double()
    base.lm_head.weight.data *= 0.3  # else two tokens have all the probability
    cache = AdapterCache(base_linears(base), fingerprint="x" * 64, num_slots=4, dtype=torch.float64)
    for seed, name in enumerate(NAMES):
        folder = path / name
        cache.add(*open_folder(name, folder if folder.exists() else stage(folder, seed, r=2 + seed)))
    return Engine(base, cache, limits=limits), cache


def assert_answers_are_those_of_each_alone(path: Path, num_requests: int) -> None:
    asked = [make_request(seed) for seed in range(num_requests)]
    one_by_one, _ = open_engine(path, EngineLimits(max_running=1))
    expected = [one_by_one.submit(request).result() for request in asked]
    engine, cache = open_engine(path, EngineLimits(max_running=12, max_prefill_tokens=60, max_overtaken=5))
    found: dict[int, GenerationOutput] = {}

    def call(caller: int) -> None:
        draw, places = random.Random(caller), list(range(caller, num_requests, 8))
        while places:
            own, places = places[: (size := draw.choice((1, 2, 5, 9)))], places[size:]
            found.update(zip(own, results(engine.submit_many([asked[place] for place in own])), strict=True))
            if draw.random() < 0.2:  # somebody who does not wait for the end
                engine.submit(asked[own[0]]).cancel()
            if caller == 0:  # the same weights as another version, while others run, wait, and ask
                version = path / "again" / str(len(places) % 2)
                cache.replace(*open_folder("d", version if version.exists() else stage(version, 3, r=5)))

    callers = [threading.Thread(target=call, args=(caller,)) for caller in range(8)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(600)
        assert not thread.is_alive(), "a caller waits for ever"
    assert_equal(asked, found, expected)
    stats = engine.stats
    assert stats.cache.num_evictions > num_requests / 20, "adapters must leave for this to test it"
    assert stats.most_running == 12 and stats.num_joined > num_requests / 2
    engine.close(10)
    assert (engine.stats.num_running, engine.stats.num_waiting) == (0, 0)
    assert not any(status.num_leases for status in cache.status())


def assert_equal(
    asked: Sequence[Request], found: dict[int, GenerationOutput], expected: Sequence[GenerationOutput]
) -> None:
    for place, (request, right) in enumerate(zip(asked, expected, strict=True)):
        got = found[place].sequences
        assert [each.ids for each in got] == [each.ids for each in right.sequences], request
        log_probs = [each.log_prob for each in right.sequences]
        assert [each.log_prob for each in got] == pytest.approx(log_probs, abs=1e-4), request


def test_two_hundred_requests_of_eight_threads_are_answered_as_alone(tmp_path: Path) -> None:
    assert_answers_are_those_of_each_alone(tmp_path, 200)


@pytest.mark.slow
def test_two_thousand_requests_of_eight_threads_are_answered_as_alone(tmp_path: Path) -> None:
    assert_answers_are_those_of_each_alone(tmp_path, 2000)
