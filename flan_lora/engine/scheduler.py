"""Continuous batching: requests of any number of threads share one running batch, and join and leave it mid-way.

One worker thread owns the batch. A caller takes its lease itself, hands its rows over and waits for them, so the
worker never waits for anything but rows: whoever holds a slot is being served, and nobody waits in a circle. The
worker begins with the first row and ends when none has come for a while. Knows rows and threads; never a tensor.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from flan_lora.engine.adapter_cache import Lease
from flan_lora.engine.decode_group import RunningRequest, StepOutput
from flan_lora.engine.request import Request, SequenceOutput
from flan_lora.engine.runner import ModelRunner, OnToken, RunningBatch
from flan_lora.system.openmp import release_threads

_IDLE_S = 2.0
"""How long a worker without work waits before it ends. A new one costs a tenth of a millisecond."""
_PATIENCE_S = 30.0
"""How long an interrupted caller waits for its rows to leave the batch, and the interpreter's exit for the workers
to end: one step, on any sane machine."""


@dataclass(frozen=True, slots=True)
class GenerationOutput:
    """The answers to one request."""

    answers: list[SequenceOutput]
    """``num_return_sequences``, best first."""
    finished_s: float
    """When the last token came, on the clock of ``time.perf_counter``."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a scheduler has done so far."""

    num_rows: int = 0
    """Rows that have been let in."""
    num_joined: int = 0
    """Of these, rows that came into a batch with others under way."""
    num_steps: int = 0
    most_rows: int = 0
    """In one step."""


class _Call:
    """One call of `Scheduler.run`: its rows, and what has become of them."""

    def __init__(self, requests: Sequence[Request], lease: Lease, on_token: OnToken | None) -> None:
        self.rows = [RunningRequest(request, lease) for request in requests]
        self.served: dict[RunningRequest, GenerationOutput] = {}
        self.error: BaseException | None = None
        self.is_given_up = False
        self.is_over = threading.Event()
        self._places = {row: place for place, row in enumerate(self.rows)}
        self._on_token = on_token
        self._num_made: dict[RunningRequest, int] = dict.fromkeys(self.rows, 0)
        self._num_told = self._num_made.copy()

    def serve(self, row: RunningRequest, served: GenerationOutput) -> None:
        """Take the answers of a row."""
        self.served[row] = served
        if len(self.served) == len(self.rows):
            self.is_over.set()

    def tell(self, row: RunningRequest, token: int) -> None:
        """Pass a token on, unless it has been told before a second try."""
        self._num_made[row] += 1
        if self._on_token is not None and self._num_made[row] > self._num_told[row]:
            self._num_told[row] += 1
            self._on_token(self._places[row], token)

    def begin_again(self, rows: Sequence[RunningRequest]) -> None:
        """Expect the tokens of these rows from the first one on."""
        self._num_made.update(dict.fromkeys(rows, 0))

    def give_up(self, error: BaseException | None) -> None:
        """Let its rows leave before the next step; the caller is told when they have."""
        self.error, self.is_given_up = error, True


_schedulers: weakref.WeakSet[Scheduler] = weakref.WeakSet()
_workers: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """A thread that the interpreter's exit kills within torch takes the process down with it (SIGABRT)."""
    for scheduler in list(_schedulers):
        scheduler.end()
    for worker in list(_workers):
        worker.join(_PATIENCE_S)


class Scheduler:
    """The running batch of one engine."""

    def __init__(self, engine: ModelRunner, *, max_rows: int = 32) -> None:
        """
        Args:
            max_rows: decoded at once; the others wait in the order in which they came.
        """
        assert max_rows >= 1, "a batch has a row at least"
        self._engine, self._max_rows = engine, max_rows
        self._changed = threading.Condition()
        self._waiting: deque[RunningRequest] = deque()
        self._calls: dict[RunningRequest, _Call] = {}  # of every row that waits or runs
        self._worker: threading.Thread | None = None
        self._is_ending = False
        self._traffic = Traffic()
        _schedulers.add(self)

    @property
    def traffic(self) -> Traffic:
        """What has been done so far."""
        return self._traffic

    def run(
        self, requests: Sequence[Request], lease: Lease, *, on_token: OnToken | None = None
    ) -> list[GenerationOutput]:
        """Answer requests, in the order given; each as it would be answered alone. The lease must last till then.

        An error reaches the caller whose rows caused it; an interrupted caller's rows leave, and nobody else
        notices.

        Args:
            on_token: called by the worker, for rows with one sequence: (place, token id), eos included. It must
                not wait for anything.
        """
        if not requests:
            return []
        call = _Call(requests, lease, on_token)
        with self._changed:
            self._calls.update(dict.fromkeys(call.rows, call))
            self._waiting.extend(call.rows)
            if self._worker is None and not self._is_ending:
                self._worker = threading.Thread(target=self._work, name="flan-lora-batch", daemon=True)
                _workers.add(self._worker)
                self._worker.start()
            self._changed.notify_all()
        release_threads()
        try:
            call.is_over.wait()
        except BaseException:  # Ctrl-C; the slots are read until the rows have left
            call.give_up(None)
            call.is_over.wait(_PATIENCE_S)
            raise
        if call.error is not None:
            raise call.error
        return [call.served[row] for row in call.rows]

    def end(self) -> None:
        """Let the worker stop after its step. Who still waits then waits for ever: for the interpreter's exit."""
        self._is_ending = True
        if (
            self._worker is not None and self._worker.is_alive()
        ):  # not in a forked child, where the lock may be stuck
            with self._changed:
                self._changed.notify_all()

    # The worker

    def _work(self) -> None:
        try:
            batch: RunningBatch | None = RunningBatch(self._engine)
            while batch is not None:
                batch = self._advance(batch)
        except BaseException as error:  # a bug of ours: nobody may wait for a worker that is gone
            with self._changed:
                for call in set(self._calls.values()):
                    call.give_up(error)
                self._waiting.clear()
                self._let_go(None)
                self._worker = None
            raise

    def _advance(self, batch: RunningBatch) -> RunningBatch | None:
        """One step; the batch to go on with, None when it is time to end."""
        joining = self._next(batch)
        if joining is None:
            return None
        num_before = batch.num_rows
        try:
            batch.join(joining)
            num_rows = batch.num_rows
            outcome = batch.step()
        except BaseException:  # whose fault it is shows when each call runs by itself
            self._run_apart()
            return RunningBatch(self._engine)
        self._traffic = Traffic(
            self._traffic.num_rows + len(joining),
            self._traffic.num_joined + (len(joining) if num_before else 0),
            self._traffic.num_steps + 1,
            max(self._traffic.most_rows, num_rows),
        )
        self._deliver(outcome)
        return batch

    def _next(self, batch: RunningBatch) -> list[RunningRequest] | None:
        """Rows to let in before the next step; waits while there are none at all, None when none has come."""
        with self._changed:
            self._let_go(batch)
            while not self._is_ending and not self._waiting and not batch.num_rows:
                release_threads()
                if not self._changed.wait(_IDLE_S) and not self._waiting:
                    self._worker = None
                    return None
                self._let_go(batch)
            if self._is_ending:
                return None
            num_free = max(self._max_rows - batch.num_rows, 0)
            return [self._waiting.popleft() for _ in range(min(num_free, len(self._waiting)))]

    def _let_go(self, batch: RunningBatch | None) -> None:
        """Drop the rows of calls that were given up. Under the lock."""
        gone = {row for row, call in self._calls.items() if call.is_given_up}
        if not gone:
            return
        if batch is not None:
            batch.drop(gone)
        self._waiting = deque(row for row in self._waiting if row not in gone)
        for row in gone:
            self._calls.pop(row).is_over.set()

    def _deliver(self, outcome: StepOutput) -> None:
        """Tokens and answers to their callers. A listener that raises ends its own call."""
        now = time.perf_counter()
        for row, token in outcome.tokens:
            call = self._calls[row]
            try:
                if not call.is_given_up:
                    call.tell(row, token)
            except BaseException as error:  # the caller's to see, whatever it is
                call.give_up(error)
        for row, answers in outcome.finished:
            with self._changed:
                call = self._calls.pop(row)
            call.serve(row, GenerationOutput(answers, now))

    def _run_apart(self) -> None:
        """Every call under way once more from the start, without the others; errors are now its own."""
        with self._changed:
            waiting = set(self._waiting)
            under_way: dict[_Call, list[RunningRequest]] = {}
            for row, call in self._calls.items():
                if row not in waiting and not call.is_given_up:
                    under_way.setdefault(call, []).append(row)
        for call, rows in under_way.items():
            call.begin_again(rows)
            batch = RunningBatch(self._engine)
            try:
                batch.join(rows)
                while batch.num_rows and not call.is_given_up:
                    self._deliver(batch.step())
            except BaseException as error:  # the caller's to see, whatever it is
                call.give_up(error)
