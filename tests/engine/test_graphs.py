"""Graphs of fixed shapes: whoever comes after whom, each request gets what it would get alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.batch import RunningBatch
from flan_lora.engine.decode_group import RunningRequest
from flan_lora.engine.graphs.cuda_graph import GraphBucket, GraphPool, capture
from flan_lora.engine.graphs.decode_graph import CacheSlots, DecodeGraph
from flan_lora.engine.graphs.prefill_graph import PrefillGraph, prefill
from flan_lora.engine.lease import BARE_LEASE, Lease
from flan_lora.engine.lora_batch import NO_LORA
from flan_lora.engine.memory_pool import LoraMemoryPool, SlotLayout
from flan_lora.engine.model_runner import ModelRunner
from flan_lora.engine.request import Request
from flan_lora.engine.runner import GraphRunner
from flan_lora.engine.t5 import T5
from tests.engine.running import ask, generate
from tests.published import cache_of_two
from tests.tiny import tiny_t5

BASE = T5(tiny_t5())
BUCKET = GraphBucket(requests=4, width=1, source=64, tokens=32, adapters=0, is_weighted=False)


def request(seed: int, length: int, limit: int = 6, **mix: float) -> Request:
    draw = torch.Generator().manual_seed(seed)
    return ask([*torch.randint(3, 98, (length,), generator=draw).tolist(), 1], mix, limit)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> AdapterCache:
    return cache_of_two(tmp_path_factory.mktemp("adapters"))


def alone(request: Request, lease: Lease) -> tuple[int, ...]:
    return generate(ModelRunner(tiny_t5(), graphs=False), [request], lease)[0][0].ids


@torch.inference_mode()
def test_requests_take_slots_that_others_have_left(cache: AdapterCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots are used again, with another adapter, mix, source and position each time."""
    mixes: list[dict[str, float]] = [{"one": 1.0}, {}, {"two": 1.0}, {"one": 0.5, "two": 0.5}, {"two": 0.3}]
    requests = [request(n, 3 + 5 * (n % 4), 2 + 3 * (n % 5), **mixes[n % 5]) for n in range(30)]
    with cache.lease(["one", "two"]) as lease:
        model, found, graphs = ModelRunner(tiny_t5(), graphs=True), {}, set[DecodeGraph]()
        runner = model.new_runner()
        monkeypatch.setattr(model, "new_runner", lambda: runner)
        waiting, batch = [RunningRequest(each, lease) for each in requests], RunningBatch(model)
        rows = {row: place for place, row in enumerate(waiting)}
        while waiting or batch.num_running:
            batch.add([waiting.pop(0) for _ in range(min(2, len(waiting)))])
            graphs.update(runner.graphs)
            found.update({rows[row]: answers[0].ids for row, answers in batch.step().finished})
        assert [found[place] for place in range(30)] == [alone(each, lease) for each in requests]
    assert len(graphs) < 10, "thirty requests share few graphs"


@torch.inference_mode()
def test_a_prefill_graph_forgets_what_it_read_before() -> None:
    graph = PrefillGraph(BASE, BUCKET, None)
    for length, rows in ((40, 4), (7, 2), (20, 3)):
        ids, mask = torch.full((rows, length), 5) + torch.arange(rows)[:, None], torch.ones(rows, length).long()
        mask[0, length // 2 :] = 0
        cross, visible = graph.replay(ids, mask, [()] * rows)
        expected, own = BASE.prefill(ids, mask, NO_LORA)
        assert torch.equal(visible, own) and len(cross) == len(expected)
        for pair, right in zip(cross, expected, strict=True):
            for each, other in zip(pair, right, strict=True):
                shown = mask[:, None, :, None].bool().expand_as(each)
                torch.testing.assert_close(each[shown], other[shown], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_prefill_graph_is_used_again_but_not_for_much_at_once() -> None:
    idle = GraphPool(1 << 30)
    for rows, length, is_kept in ((1, 9, True), (1, 30, True), (100, 64, False)):
        ids = torch.full((rows, length), 5)
        with prefill(BASE, idle, ids, torch.ones_like(ids), [()] * rows, None) as (cross, visible):
            assert len(cross) == 2 and visible.shape == (rows, 1, 1, length)
            assert not idle.idle or not is_kept, "nobody else may read with it now"
        assert len(list(idle.idle)) == 1, "the first one, again and again"


def test_what_is_idle_is_found_by_kind_shape_and_slots() -> None:
    idle, other = GraphPool(1 << 30), GraphBucket(8, 1, 64, 32, 0, False)
    decode, prefill = DecodeGraph(BASE, BUCKET, None), PrefillGraph(BASE, BUCKET, None)
    idle.release(decode)
    idle.release(prefill)
    assert idle.acquire(DecodeGraph, BASE, other, None).bucket == other
    pool = some_slots()
    assert idle.acquire(DecodeGraph, BASE, BUCKET, pool).pool is pool
    assert idle.acquire(PrefillGraph, BASE, BUCKET, None) is prefill
    assert idle.acquire(PrefillGraph, BASE, BUCKET, None) is not prefill, "it is taken"
    assert idle.acquire(DecodeGraph, BASE, BUCKET, None) is decode


def some_slots() -> LoraMemoryPool:
    layout = SlotLayout.of(2, {"encoder.block.0.layer.0.SelfAttention.q": (32, 32)})
    return LoraMemoryPool(layout, torch.zeros(3, layout.width))


def test_what_is_idle_is_freed_when_there_is_much_or_its_slots_were_replaced() -> None:
    first, second = DecodeGraph(BASE, BUCKET, None), DecodeGraph(BASE, BUCKET, None)
    idle = GraphPool(max_bytes=first.size_bytes * 3 // 2)
    idle.release(first)
    idle.release(second)
    assert list(idle.idle) == [second], "the longest idle went"
    idle = GraphPool(1 << 30)
    old, new = DecodeGraph(BASE, BUCKET, some_slots()), DecodeGraph(BASE, BUCKET, some_slots())
    for each in (first, old, new):
        idle.release(each)
    assert list(idle.idle) == [first, new], "nobody asks for the old slots again"


def test_what_is_idle_makes_room_when_memory_is_short() -> None:
    class Large(DecodeGraph):
        def __init__(self, *arguments: Any) -> None:
            if list(idle.idle):
                raise torch.OutOfMemoryError
            super().__init__(*arguments)

    idle = GraphPool(1 << 30)
    idle.release(DecodeGraph(BASE, BUCKET, None))
    assert isinstance(idle.acquire(Large, BASE, BUCKET, None), Large) and not list(idle.idle)


@torch.inference_mode()
def test_few_graphs_serve_whatever_comes() -> None:
    pool = GraphPool(1 << 30)
    runner = GraphRunner(BASE, pool)

    def start(number: int, *, width: int = 1, max_tokens: int) -> CacheSlots:
        ids = torch.full((number, 9), 5)
        return runner.prefill(ids, torch.ones_like(ids), [()] * number, None, width=width, max_tokens=max_tokens)

    first = start(3, max_tokens=5)
    assert first.graph.bucket == GraphBucket(4, 1, 64, 32, 1, False) and first.graph.num_free == 1
    beside = start(1, max_tokens=32)
    assert beside.graph is first.graph and first.graph.num_free == 0
    crowd = start(3, max_tokens=32)
    assert crowd.graph.bucket.requests == 16, "room for those who have slots elsewhere, too"
    beams = start(3, width=4, max_tokens=40)
    assert beams.graph.bucket == GraphBucket(4, 4, 64, 64, 1, False)
    first.filter([2])
    assert first.graph.num_free == 2 and first.num_sequences == 1
    for slots in (first, beside):
        slots.free()
    runner.release_idle()
    assert runner.graphs == (crowd.graph, beams.graph)
    assert pool.acquire(DecodeGraph, BASE, first.graph.bucket, None) is first.graph


@torch.inference_mode()
def test_slots_that_nobody_has_had_hold_no_nan() -> None:
    graph = DecodeGraph(BASE, BUCKET, None)
    graph.replay()
    assert graph.logits(torch.arange(4)).isfinite().all()


def test_the_bare_base_beside_adapters_stays_bare(cache: AdapterCache) -> None:
    with cache.lease(["one"]) as lease:
        engine = ModelRunner(tiny_t5(), graphs=True)
        sources = [request(1, 8), request(1, 8, one=1.0)]
        bare, own = (answers[0].ids for answers in generate(engine, sources, lease))
    assert bare == alone(sources[0], BARE_LEASE) != own


def test_what_cannot_be_captured_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "Stream", failing)
    done: list[int] = []
    replay = capture(lambda: done.append(1), torch.device("cuda"))
    replay()
    assert done == [1] and "not permitted when stream is capturing" in caplog.text
