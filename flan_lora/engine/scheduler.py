"""Who is let into the batch before the next step: first come first served, within limits, and nobody starves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from flan_lora.engine.generation import AnyWork
from flan_lora.errors import QueueFullError


@dataclass(frozen=True)
class EngineLimits:
    """How much is taken on at once."""

    max_running: int = 32
    """Requests that are decoded at once; the others wait."""
    max_waiting: int | None = 1024
    """Requests that wait; more are refused with QueueFullError. None: any number."""
    max_prefill_tokens: int = 4096
    """Source tokens that are read before one step while others are decoded, so that those do not stall. One source
    may be longer than that: then it is read alone."""
    max_overtaken: int = 64
    """How often a request whose adapters have no room may be overtaken by others; then all wait for it."""

    def __post_init__(self) -> None:
        assert self.max_running >= 1, "a batch has a request at least"


DEFAULT_LIMITS = EngineLimits()


class WaitingQueue:
    """What has been submitted and not let in yet. Not for several threads at once."""

    def __init__(self, limits: EngineLimits) -> None:
        self._limits = limits
        self._waiting: dict[AnyWork, None] = {}  # in order; a long queue is left without looking through it

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def items(self) -> tuple[AnyWork, ...]:
        """In the order in which they came."""
        return tuple(self._waiting)

    def check_room(self, number: int) -> None:
        """Raises QueueFullError if so many more may not wait."""
        most = self._limits.max_waiting
        if most is not None and len(self._waiting) + number > most:
            raise QueueFullError(
                f"the engine is busy: {len(self._waiting)} requests wait, and {number} more would be more than "
                f"max_waiting={most}.\nTry again later, ask for fewer at once, or set a higher limit."
            )

    def add(self, work: Sequence[AnyWork]) -> None:
        """To the end of the queue. `check_room` first."""
        self._waiting.update(dict.fromkeys(work))

    def remove(self, work: Collection[AnyWork]) -> None:
        """Let in, or given up."""
        for each in work:
            self._waiting.pop(each, None)


def admit(
    waiting: Sequence[AnyWork], num_running: int, limits: EngineLimits, try_lease: Callable[[AnyWork], bool]
) -> list[AnyWork]:
    """Those of ``waiting`` that are let in now, in order.

    Who finds no room for its adapters is skipped, as vLLM does, but not for ever (`EngineLimits.max_overtaken`).

    Args:
        try_lease: whether there is room for the adapters of one, which are then its own.
    """
    admitted: list[AnyWork] = []
    skipped: list[AnyWork] = []
    num_tokens = 0
    # a long queue for few slots: there is no use in asking for all of them before every step
    for work in waiting[: 4 * limits.max_running]:
        num_tokens += work.num_tokens
        is_over_budget = num_running > 0 and admitted and num_tokens > limits.max_prefill_tokens
        if num_running + len(admitted) >= limits.max_running or is_over_budget:
            break
        if try_lease(work):
            admitted.append(work)
            for each in skipped:
                each.num_overtaken += 1
        elif work.num_overtaken >= limits.max_overtaken:
            break
        else:
            num_tokens -= work.num_tokens
            skipped.append(work)
    return admitted
