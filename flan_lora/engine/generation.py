"""A handle on what was submitted to the engine: its tokens as they come, its answers, the way to give it up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Generic, TypeVar

from flan_lora.adapters.weights import Source
from flan_lora.engine.decode_group import RunningRequest
from flan_lora.engine.lease import BARE_LEASE, Lease, Reservation
from flan_lora.engine.request import GenerationOutput, Request, SequenceOutput
from flan_lora.system.openmp import release_threads

Result = TypeVar("Result")


class Work(Generic[Result]):
    """Something that the engine's worker is to do for a caller. The caller reads it; the engine writes it."""

    def __init__(self, request: Request, reservation: Reservation | None, wake: Callable[[], None]) -> None:
        """
        Args:
            reservation: of its adapters; None for the bare base.
            wake: tells the engine that it has been cancelled.
        """
        self.request, self.reservation = request, reservation
        self.running = RunningRequest(request, BARE_LEASE)
        """As the model takes it, with the lease on its adapters once there is one."""
        versions = () if reservation is None else reservation.versions
        self.sources: Mapping[str, Source] = {version.name: version.source for version in versions}
        """Adapter -> what its name stood for when this was submitted."""
        self.queued_s = time.perf_counter()
        self.admitted_s: float | None = None
        """When it was let into the batch; None before that."""
        self.num_overtaken = 0
        self.is_cancelled = False
        self.error: BaseException | None = None
        """Why it is given up; None if its caller wants nothing more."""
        self._future: Future[Result] = Future()
        self._wake = wake

    @property
    def num_tokens(self) -> int:
        """Of its source."""
        return len(self.request.input_ids)

    @property
    def done(self) -> bool:
        """Whether `result` returns, or raises, at once."""
        return self._future.done()

    def result(self, timeout: float | None = None) -> Result:
        """Wait for it, at most ``timeout`` seconds. A caller that is interrupted (Ctrl-C) gives it up.

        Raises:
            TimeoutError: it goes on.
            CancelledError: somebody gave it up.
            Whatever went wrong with this request alone.
        """
        release_threads()
        try:
            return self._future.result(timeout)
        except (CancelledError, FutureTimeoutError):
            raise
        except BaseException:
            if not self.done:
                self.cancel()
            raise

    def cancel(self) -> None:
        """Give it up: it leaves the batch before the next step. Does nothing to what is done."""
        self.is_cancelled = True
        self._wake()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call with this handle when it is done, in the engine's thread, or at once if it is; it must not wait."""
        self._future.add_done_callback(lambda _: callback(self))

    # For the engine

    def take(self, lease: Lease | None) -> bool:
        """The lease on its adapters; whether there is one."""
        if lease is not None:
            self.running = RunningRequest(self.request, lease)
        return lease is not None

    def drop_lease(self) -> Lease:
        """The lease that it had, for its cache: whoever keeps this handle keeps no slots."""
        lease = self.running.lease
        self.running = RunningRequest(self.request, BARE_LEASE)
        return lease

    def finish(self, result: Result) -> None:
        """Answer whoever waits."""
        self._future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Tell whoever waits."""
        self._future.set_exception(error)

    def end_cancelled(self) -> None:
        """It has left the batch."""
        self._future.cancel()
        self._future.set_running_or_notify_cancel()


AnyWork = Work[Any]


class LabelScores(Work[dict[str, float]]):
    """The probabilities of a request's labels."""


class TargetScore(Work[float]):
    """The log-probability of a request's target."""


class Encoding(Work[Any]):
    """The pooled encoder states of a source, (d_model,)."""


class Generation(Work[GenerationOutput]):
    """The answers to one request, on their way."""

    def __init__(
        self,
        request: Request,
        reservation: Reservation | None,
        wake: Callable[[], None],
        on_token: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(request, reservation, wake)
        self.first_token_s: float | None = None
        """When its first token was known (``time.perf_counter``); None before that."""
        self.finished_s: float | None = None
        self._on_token = on_token
        self._tokens: list[int] = []
        self._num_made = 0
        self._news = threading.Condition()
        self._future.add_done_callback(self._tell_done)

    def tokens(self) -> Iterator[int]:
        """Token ids of the first answer as they come, eos included; of beams and of several draws all at the end.

        Closing the iterator before that gives the generation up.

        Raises what `result` raises.
        """
        release_threads()
        num_read = 0
        try:
            while new := self._wait_for_tokens(num_read):
                num_read += len(new)
                yield from new
            self._future.result()
        finally:
            if not self.done:
                self.cancel()

    def _wait_for_tokens(self, num_read: int) -> list[int]:
        """Those after the first so many; none when it is done."""
        with self._news:
            self._news.wait_for(lambda: num_read < len(self._tokens) or self.done)
            return self._tokens[num_read:]

    # For the engine

    def emit(self, token: int) -> None:
        """A new token of its only sequence, unless it was there before a second try.

        A listener that raises gives it up.
        """
        self._num_made += 1
        if self._num_made <= len(self._tokens) or self.is_cancelled:
            return
        with self._news:
            self._tokens.append(token)
            self._news.notify_all()
        try:
            if self._on_token is not None:
                self._on_token(token)
        except BaseException as error:  # the caller's to see, whatever it is
            self.error, self.is_cancelled = error, True

    def restart(self) -> None:
        """Expect its tokens from the first one on."""
        self._num_made = 0

    def end(self, sequences: Sequence[SequenceOutput], now: float) -> None:
        """All answers are there."""
        self.finished_s = now
        with self._news:
            self._tokens += sequences[0].ids[len(self._tokens) :]
        first_token_s = now if self.first_token_s is None else self.first_token_s
        self.finish(GenerationOutput(tuple(sequences), self.queued_s, first_token_s, now))

    def _tell_done(self, _: Future[GenerationOutput]) -> None:
        with self._news:
            self._news.notify_all()


def results(work: Sequence[Work[Result]]) -> list[Result]:
    """Wait for all of them. If one fails, or the caller is interrupted, the others are given up."""
    try:
        return [each.result() for each in work]
    except BaseException:
        for each in work:
            if not each.done:
                each.cancel()
        raise
