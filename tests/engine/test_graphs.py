"""Seats and readers of fixed shapes: whoever comes after whom, each row gets what it would get alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flan_lora.engine.adapter_cache import AdapterCache, Lease
from flan_lora.engine.decode_group import RunningRequest
from flan_lora.engine.graphs.cuda_graph import GraphBucket, GraphPool, capture
from flan_lora.engine.graphs.decode_graph import DecodeGraph, DecodeGraphs
from flan_lora.engine.graphs.prefill_graph import PrefillGraph, prefilled
from flan_lora.engine.lora_batch import NO_LORA
from flan_lora.engine.memory_pool import LoraMemoryPool, SlotLayout
from flan_lora.engine.request import Request
from flan_lora.engine.runner import ModelRunner, RunningBatch
from flan_lora.engine.t5 import T5
from tests.published import cache_of_two
from tests.tiny import tiny_t5

NO_LEASE = Lease(None, {})
FORWARD = T5(tiny_t5())
SHAPE = GraphBucket(rows=4, width=1, source=64, tokens=32, updates=0, is_weighted=False)


def request(seed: int, length: int, limit: int = 6, **mix: float) -> Request:
    draw = torch.Generator().manual_seed(seed)
    return Request([*torch.randint(3, 98, (length,), generator=draw).tolist(), 1], mix, limit)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> AdapterCache:
    return cache_of_two(tmp_path_factory.mktemp("adapters"))


def alone(request: Request, lease: Lease) -> tuple[int, ...]:
    return ModelRunner(tiny_t5(), graphs=False).generate([request], lease)[0][0].ids


@torch.inference_mode()
def test_rows_sit_down_where_others_have_left(cache: AdapterCache) -> None:
    """Seats are used again, with another adapter, mix, source and position each time."""
    mixes: list[dict[str, float]] = [{"one": 1.0}, {}, {"two": 1.0}, {"one": 0.5, "two": 0.5}, {"two": 0.3}]
    requests = [request(n, 3 + 5 * (n % 4), 2 + 3 * (n % 5), **mixes[n % 5]) for n in range(30)]
    with cache.lease(["one", "two"]) as lease:
        engine, found, graphs = ModelRunner(tiny_t5(), graphs=True), {}, set()
        waiting, batch = [RunningRequest(each, lease) for each in requests], RunningBatch(engine)
        rows = {row: place for place, row in enumerate(waiting)}
        while waiting or batch.num_rows:
            batch.join([waiting.pop(0) for _ in range(min(2, len(waiting)))])
            graphs |= {id(graph) for graph in batch._graphs._open}  # type: ignore[union-attr]
            found.update({rows[row]: answers[0].ids for row, answers in batch.step().finished})
        assert [found[place] for place in range(30)] == [alone(each, lease) for each in requests]
    assert len(graphs) < 10, "thirty rows share few boards"


@torch.inference_mode()
def test_a_reader_forgets_what_it_read_before() -> None:
    graph = PrefillGraph(FORWARD, SHAPE, None)
    for length, rows in ((40, 4), (7, 2), (20, 3)):
        ids, mask = torch.full((rows, length), 5) + torch.arange(rows)[:, None], torch.ones(rows, length).long()
        mask[0, length // 2 :] = 0
        cross, visible = graph.read(ids, mask, [()] * rows)
        expected, own = FORWARD.precompute_cross_kv(FORWARD.encode(ids, mask, NO_LORA), mask, NO_LORA)
        assert torch.equal(visible, own) and len(cross) == len(expected)
        for pair, right in zip(cross, expected, strict=True):
            for each, other in zip(pair, right, strict=True):
                shown = mask[:, None, :, None].bool().expand_as(each)
                torch.testing.assert_close(each[shown], other[shown], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_reader_is_used_again_but_not_for_much_at_once() -> None:
    idle = GraphPool(1 << 30)
    for rows, length, is_kept in ((1, 9, True), (1, 30, True), (100, 64, False)):
        ids = torch.full((rows, length), 5)
        with prefilled(FORWARD, idle, ids, torch.ones_like(ids), [()] * rows, None) as (cross, visible):
            assert len(cross) == 2 and visible.shape == (rows, 1, 1, length)
            assert not idle._waiting or not is_kept, "nobody else may read with it now"
        assert len(idle._waiting) == 1, "the first one, again and again"


def test_what_is_idle_is_found_by_kind_shape_and_slots() -> None:
    idle, other = GraphPool(1 << 30), GraphBucket(8, 1, 64, 32, 0, False)
    decode, prefill = DecodeGraph(FORWARD, SHAPE, None), PrefillGraph(FORWARD, SHAPE, None)
    idle.give(decode)
    idle.give(prefill)
    assert idle.take(DecodeGraph, FORWARD, other, None).shape == other
    pool = some_slots()
    assert idle.take(DecodeGraph, FORWARD, SHAPE, pool).pool is pool
    assert idle.take(PrefillGraph, FORWARD, SHAPE, None) is prefill
    assert idle.take(PrefillGraph, FORWARD, SHAPE, None) is not prefill, "it is taken"
    assert idle.take(DecodeGraph, FORWARD, SHAPE, None) is decode


def some_slots() -> LoraMemoryPool:
    layout = SlotLayout.of(2, {"encoder.block.0.layer.0.SelfAttention.q": (32, 32)})
    return LoraMemoryPool(layout, torch.zeros(3, layout.width))


def test_what_is_idle_is_freed_when_there_is_much_or_its_slots_were_replaced() -> None:
    first, second = DecodeGraph(FORWARD, SHAPE, None), DecodeGraph(FORWARD, SHAPE, None)
    idle = GraphPool(max_bytes=first.size_bytes * 3 // 2)
    idle.give(first)
    idle.give(second)
    assert idle._waiting == [second], "the longest idle went"
    idle = GraphPool(1 << 30)
    old, new = DecodeGraph(FORWARD, SHAPE, some_slots()), DecodeGraph(FORWARD, SHAPE, some_slots())
    for each in (first, old, new):
        idle.give(each)
    assert idle._waiting == [first, new], "nobody asks for the old slots again"


def test_what_is_idle_makes_room_when_memory_is_short() -> None:
    class Large(DecodeGraph):
        def __init__(self, *arguments: Any) -> None:
            if idle._waiting:
                raise torch.OutOfMemoryError
            super().__init__(*arguments)

    idle = GraphPool(1 << 30)
    idle.give(DecodeGraph(FORWARD, SHAPE, None))
    assert isinstance(idle.take(Large, FORWARD, SHAPE, None), Large) and not idle._waiting


@torch.inference_mode()
def test_few_boards_serve_whatever_comes() -> None:
    graphs = DecodeGraphs(FORWARD, GraphPool(1 << 30))
    ids = torch.full((3, 9), 5)
    first = graphs.start(ids, torch.ones_like(ids), [()] * 3, None, width=1, max_tokens=5)
    assert first.graph.shape == GraphBucket(4, 1, 64, 32, 1, False) and first.graph.num_free == 1
    beside = graphs.start(ids[:1], torch.ones_like(ids[:1]), [()], None, width=1, max_tokens=32)
    assert beside.graph is first.graph and first.graph.num_free == 0
    crowd = graphs.start(ids, torch.ones_like(ids), [()] * 3, None, width=1, max_tokens=32)
    assert crowd.graph.shape.rows == 16, "room for those who sit elsewhere, too"
    beams = graphs.start(ids, torch.ones_like(ids), [()] * 3, None, width=4, max_tokens=40)
    assert beams.graph.shape == GraphBucket(4, 4, 64, 64, 1, False)
    first.select(torch.tensor([2]))
    assert first.graph.num_free == 2 and first.num_sequences == 1
    for slots in (first, beside):
        slots.close()
    graphs.release_idle()
    assert graphs._open == [crowd.graph, beams.graph]
    assert graphs._graph_pool.take(DecodeGraph, FORWARD, first.graph.shape, None) is first.graph


@torch.inference_mode()
def test_seats_that_nobody_has_sat_in_hold_no_nan() -> None:
    graph = DecodeGraph(FORWARD, SHAPE, None)
    graph.step()
    assert graph.logits.isfinite().all()


def test_the_bare_base_beside_adapters_stays_bare(cache: AdapterCache) -> None:
    with cache.lease(["one"]) as lease:
        engine = ModelRunner(tiny_t5(), graphs=True)
        sources = [request(1, 8), request(1, 8, one=1.0)]
        bare, own = (answers[0].ids for answers in engine.generate(sources, lease))
    assert bare == alone(sources[0], NO_LEASE) != own


def test_what_cannot_be_captured_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr("flan_lora.engine.graphs.cuda_graph._captured", failing)
    done: list[int] = []
    replay = capture(lambda: done.append(1), torch.device("cuda"))
    replay()
    assert done == [1] and "not permitted when stream is capturing" in caplog.text
