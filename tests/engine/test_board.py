"""Seats and readers of fixed shapes: whoever comes after whom, each row gets what it would get alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flan_lora.engine.adapter_cache import Bank, Lease
from flan_lora.engine.board import Board, Boards
from flan_lora.engine.decode_group import Row
from flan_lora.engine.fixed import Idle, Shape, replayable
from flan_lora.engine.memory_pool import NO_DELTAS, Layout, Slots
from flan_lora.engine.reader import Reader, reading
from flan_lora.engine.request import Request
from flan_lora.engine.runner import Batch, Engine
from flan_lora.engine.t5 import Forward
from tests.published import bank_of_two
from tests.tiny import tiny_t5

NO_LEASE = Lease(None, {})
FORWARD = Forward(tiny_t5())
SHAPE = Shape(rows=4, width=1, source=64, tokens=32, updates=0, is_weighted=False)


def request(seed: int, length: int, limit: int = 6, **mix: float) -> Request:
    draw = torch.Generator().manual_seed(seed)
    return Request([*torch.randint(3, 98, (length,), generator=draw).tolist(), 1], mix, limit)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return bank_of_two(tmp_path_factory.mktemp("adapters"))


def alone(request: Request, lease: Lease) -> tuple[int, ...]:
    return Engine(tiny_t5(), boards=False).generate([request], lease)[0][0].ids


@torch.inference_mode()
def test_rows_sit_down_where_others_have_left(bank: Bank) -> None:
    """Seats are used again, with another adapter, mix, source and position each time."""
    mixes: list[dict[str, float]] = [{"one": 1.0}, {}, {"two": 1.0}, {"one": 0.5, "two": 0.5}, {"two": 0.3}]
    requests = [request(n, 3 + 5 * (n % 4), 2 + 3 * (n % 5), **mixes[n % 5]) for n in range(30)]
    with bank.lease(["one", "two"]) as lease:
        engine, found, boards = Engine(tiny_t5(), boards=True), {}, set()
        waiting, batch = [Row(each, lease) for each in requests], Batch(engine)
        rows = {row: place for place, row in enumerate(waiting)}
        while waiting or batch.num_rows:
            batch.join([waiting.pop(0) for _ in range(min(2, len(waiting)))])
            boards |= {id(board) for board in batch._boards._open}  # type: ignore[union-attr]
            found.update({rows[row]: answers[0].ids for row, answers in batch.step().finished})
        assert [found[place] for place in range(30)] == [alone(each, lease) for each in requests]
    assert len(boards) < 10, "thirty rows share few boards"


@torch.inference_mode()
def test_a_reader_forgets_what_it_read_before() -> None:
    reader = Reader(FORWARD, SHAPE, None)
    for length, rows in ((40, 4), (7, 2), (20, 3)):
        ids, mask = torch.full((rows, length), 5) + torch.arange(rows)[:, None], torch.ones(rows, length).long()
        mask[0, length // 2 :] = 0
        cross, visible = reader.read(ids, mask, [()] * rows)
        expected, own = FORWARD.look(FORWARD.encode(ids, mask, NO_DELTAS), mask, NO_DELTAS)
        assert torch.equal(visible, own) and len(cross) == len(expected)
        for pair, right in zip(cross, expected, strict=True):
            for each, other in zip(pair, right, strict=True):
                shown = mask[:, None, :, None].bool().expand_as(each)
                torch.testing.assert_close(each[shown], other[shown], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_reader_is_used_again_but_not_for_much_at_once() -> None:
    idle = Idle(1 << 30)
    for rows, length, is_kept in ((1, 9, True), (1, 30, True), (100, 64, False)):
        ids = torch.full((rows, length), 5)
        with reading(FORWARD, idle, ids, torch.ones_like(ids), [()] * rows, None) as (cross, visible):
            assert len(cross) == 2 and visible.shape == (rows, 1, 1, length)
            assert not idle._waiting or not is_kept, "nobody else may read with it now"
        assert len(idle._waiting) == 1, "the first one, again and again"


def test_what_is_idle_is_found_by_kind_shape_and_slots() -> None:
    idle, other = Idle(1 << 30), Shape(8, 1, 64, 32, 0, False)
    board, reader = Board(FORWARD, SHAPE, None), Reader(FORWARD, SHAPE, None)
    idle.give(board)
    idle.give(reader)
    assert idle.take(Board, FORWARD, other, None).shape == other
    slots = some_slots()
    assert idle.take(Board, FORWARD, SHAPE, slots).slots is slots
    assert idle.take(Reader, FORWARD, SHAPE, None) is reader is not idle.take(Reader, FORWARD, SHAPE, None)
    assert idle.take(Board, FORWARD, SHAPE, None) is board


def some_slots() -> Slots:
    layout = Layout.of(2, {"encoder.block.0.layer.0.SelfAttention.q": (32, 32)})
    return Slots(layout, torch.zeros(3, layout.width))


def test_what_is_idle_is_freed_when_there_is_much_or_its_slots_were_replaced() -> None:
    first, second = Board(FORWARD, SHAPE, None), Board(FORWARD, SHAPE, None)
    idle = Idle(max_bytes=first.size_bytes * 3 // 2)
    idle.give(first)
    idle.give(second)
    assert idle._waiting == [second], "the longest idle went"
    idle = Idle(1 << 30)
    old, new = Board(FORWARD, SHAPE, some_slots()), Board(FORWARD, SHAPE, some_slots())
    for each in (first, old, new):
        idle.give(each)
    assert idle._waiting == [first, new], "nobody asks for the old slots again"


def test_what_is_idle_makes_room_when_memory_is_short() -> None:
    class Large(Board):
        def __init__(self, *arguments: Any) -> None:
            if idle._waiting:
                raise torch.OutOfMemoryError
            super().__init__(*arguments)

    idle = Idle(1 << 30)
    idle.give(Board(FORWARD, SHAPE, None))
    assert isinstance(idle.take(Large, FORWARD, SHAPE, None), Large) and not idle._waiting


@torch.inference_mode()
def test_few_boards_serve_whatever_comes() -> None:
    boards = Boards(FORWARD, Idle(1 << 30))
    ids = torch.full((3, 9), 5)
    first = boards.start(ids, torch.ones_like(ids), [()] * 3, None, width=1, max_tokens=5)
    assert first.board.shape == Shape(4, 1, 64, 32, 1, False) and first.board.num_free == 1
    beside = boards.start(ids[:1], torch.ones_like(ids[:1]), [()], None, width=1, max_tokens=32)
    assert beside.board is first.board and first.board.num_free == 0
    crowd = boards.start(ids, torch.ones_like(ids), [()] * 3, None, width=1, max_tokens=32)
    assert crowd.board.shape.rows == 16, "room for those who sit elsewhere, too"
    beams = boards.start(ids, torch.ones_like(ids), [()] * 3, None, width=4, max_tokens=40)
    assert beams.board.shape == Shape(4, 4, 64, 64, 1, False)
    first.select(torch.tensor([2]))
    assert first.board.num_free == 2 and first.num_sequences == 1
    for seats in (first, beside):
        seats.close()
    boards.tidy()
    assert boards._open == [crowd.board, beams.board]
    assert boards._idle.take(Board, FORWARD, first.board.shape, None) is first.board


@torch.inference_mode()
def test_seats_that_nobody_has_sat_in_hold_no_nan() -> None:
    board = Board(FORWARD, SHAPE, None)
    board.step()
    assert board.logits.isfinite().all()


def test_the_bare_base_beside_adapters_stays_bare(bank: Bank) -> None:
    with bank.lease(["one"]) as lease:
        engine = Engine(tiny_t5(), boards=True)
        sources = [request(1, 8), request(1, 8, one=1.0)]
        bare, own = (answers[0].ids for answers in engine.generate(sources, lease))
    assert bare == alone(sources[0], NO_LEASE) != own


def test_what_cannot_be_captured_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr("flan_lora.engine.fixed._captured", failing)
    done: list[int] = []
    replay = replayable(lambda: done.append(1), torch.device("cuda"))
    replay()
    assert done == [1] and "not permitted when stream is capturing" in caplog.text
