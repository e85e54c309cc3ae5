"""First come first served, within limits; who finds no room is overtaken, but not for ever."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from flan_lora.engine.generation import AnyWork, Generation
from flan_lora.engine.request import Request
from flan_lora.engine.scheduler import EngineLimits, WaitingQueue, admit
from flan_lora.errors import QueueFullError


def work(*lengths: int) -> list[AnyWork]:
    return [Generation(Request([1] * length), None, lambda: None) for length in lengths]


def let_in(
    waiting: list[AnyWork], num_running: int, limits: EngineLimits, without_room: Collection[AnyWork] = ()
) -> list[int]:
    """Places of those that are let in, who then leave the queue."""
    places = {each: place for place, each in enumerate(waiting)}
    admitted = admit(waiting, num_running, limits, lambda each: each not in without_room)
    waiting[:] = [each for each in waiting if each not in admitted]
    return [places[each] for each in admitted]


def test_the_first_are_let_in_up_to_the_limit() -> None:
    waiting = work(5, 5, 5, 5)
    assert let_in(waiting, 1, EngineLimits(max_running=3)) == [0, 1]
    assert let_in(waiting, 3, EngineLimits(max_running=3)) == []


@pytest.mark.parametrize(
    ("lengths", "num_running", "expected"),
    [
        ((5, 5, 5), 1, [0, 1]),
        ((5, 6, 1), 1, [0]),
        ((50, 1), 1, [0]),
        ((5, 50, 1), 1, [0]),
        ((5, 50, 1), 0, [0, 1, 2]),
    ],
    ids=["a budget", "in order", "one that is longer", "never passed by a shorter one", "nobody is held up"],
)
def test_prefill_beside_others_has_a_budget(
    lengths: tuple[int, ...], num_running: int, expected: list[int]
) -> None:
    assert let_in(work(*lengths), num_running, EngineLimits(max_prefill_tokens=10)) == expected


def test_who_finds_no_room_is_overtaken_but_not_for_ever() -> None:
    limits = EngineLimits(max_running=2, max_overtaken=3)
    waiting = work(*[1] * 8)
    starving = waiting[0]
    rounds = [let_in(waiting, 1, limits, {starving}) for _ in range(5)]
    assert rounds == [[1], [1], [1], [], []], "after three others nobody passes it"
    assert let_in(waiting, 1, limits) == [0] and starving not in waiting


def test_what_has_no_room_costs_no_budget() -> None:
    waiting = work(9, 5, 5)
    assert let_in(waiting, 1, EngineLimits(max_prefill_tokens=10), {waiting[0]}) == [1, 2]


def test_a_long_queue_is_not_searched_to_its_end() -> None:
    waiting, asked = work(*[1] * 1000), list[AnyWork]()
    admit(waiting, 0, EngineLimits(max_running=4), lambda each: bool(asked.append(each)))
    assert len(asked) <= 16


def test_a_queue_has_an_end() -> None:
    queue = WaitingQueue(EngineLimits(max_waiting=3))
    queue.add(work(1, 1))
    queue.check_room(1)
    with pytest.raises(QueueFullError, match=r"2 requests wait, and 2 more.*max_waiting=3"):
        queue.check_room(2)
    WaitingQueue(EngineLimits(max_waiting=None)).check_room(10**6)
