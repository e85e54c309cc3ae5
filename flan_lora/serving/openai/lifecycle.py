"""Starting, ready, draining: what the server is doing, and how many requests are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from flan_lora.serving.openai.errors import unavailable


class Phase(Enum):
    """Of a server's life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class Lifecycle:
    """The phase, and the requests that were let in. Used by the event loop's thread alone."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.num_in_flight = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Let a request in; draining waits for it. Raises ApiError (503) in any phase but READY."""
        if self.phase is not Phase.READY:
            raise unavailable(f"the server is {self.phase.value}; try again, or another one.", self.phase.value)
        self.num_in_flight += 1
        self._is_idle.clear()
        try:
            yield
        finally:
            self.num_in_flight -= 1
            if not self.num_in_flight:
                self._is_idle.set()

    async def drain(self, timeout_s: float) -> int:
        """Let nobody in any more and wait for who is in; the number that the time was too short for."""
        self.phase = Phase.DRAINING
        try:
            await asyncio.wait_for(self._is_idle.wait(), timeout_s)
        except (TimeoutError, asyncio.TimeoutError):
            pass
        return self.num_in_flight
