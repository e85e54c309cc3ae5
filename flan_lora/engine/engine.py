"""Continuous batching: what any number of threads submit joins one running batch, and leaves it, mid-way.

One worker thread touches torch. It begins with the first request and ends when none has come for a while.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.batch import RunningBatch
from flan_lora.engine.decode_group import RunningRequest, StepOutput
from flan_lora.engine.generation import AnyWork, Encoding, Generation, LabelScores, TargetScore, results
from flan_lora.engine.lease import BARE_LEASE, CacheStats, Reservation
from flan_lora.engine.model_runner import ModelRunner, ServePrecision
from flan_lora.engine.request import Request
from flan_lora.engine.scheduler import DEFAULT_LIMITS, EngineLimits, WaitingQueue, admit
from flan_lora.errors import RequestError
from flan_lora.system.malloc import return_freed_memory
from flan_lora.system.openmp import release_threads

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

SomeWork = TypeVar("SomeWork", bound=AnyWork)

_IDLE_S = 2.0
"""How long a worker without work waits before it ends. A new one costs a tenth of a millisecond."""
_EXIT_S = 30.0
"""How long the interpreter's exit waits for a worker: one step, on any sane machine."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What an engine is doing, and what it has done so far."""

    num_running: int = 0
    num_waiting: int = 0
    num_finished: int = 0
    """Generations that were answered."""
    num_cancelled: int = 0
    num_failed: int = 0
    num_admitted: int = 0
    num_joined: int = 0
    """Of the admitted, those that came into a batch with others under way."""
    num_steps: int = 0
    most_running: int = 0
    """In one step."""
    num_prompt_tokens: int = 0
    """Of the sources that were read."""
    num_generated_tokens: int = 0
    """Of the answers, eos included."""
    cache: CacheStats = field(default_factory=CacheStats)


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_workers: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """A thread that the interpreter's exit kills within torch takes the process down with it (SIGABRT)."""
    for engine in list(_engines):
        engine.stop()
    for worker in list(_workers):
        worker.join(_EXIT_S)


class Engine:
    """One base and the adapters that it serves. Any number of threads may use it."""

    def __init__(
        self,
        base_model: T5ForConditionalGeneration,
        adapters: AdapterCache,
        *,
        limits: EngineLimits = DEFAULT_LIMITS,
        graphs: bool | None = None,
        deterministic: bool = False,
        serve_precision: ServePrecision = "exact",
    ) -> None:
        """
        Args:
            graphs, deterministic, serve_precision: as of `ModelRunner`.

        Raises:
            AdapterError: PEFT has put an adapter into the base.
        """
        self._model = ModelRunner(
            base_model, graphs=graphs, deterministic=deterministic, serve_precision=serve_precision
        )
        self._adapters, self._limits = adapters, limits
        self._changed = threading.Condition()
        self._queue = WaitingQueue(limits)
        self._running: dict[RunningRequest, Generation] = {}
        self._worker: threading.Thread | None = None
        self._has_news = False  # since the worker last looked: somebody came, gave up, or gave back a slot
        self._is_closed = self._is_stopping = False
        self._stats = EngineStats()
        adapters.subscribe(self._wake)
        _engines.add(self)

    # For callers

    def submit(self, request: Request, *, on_token: Callable[[int], None] | None = None) -> Generation:
        """Have a request answered, as it would be alone. Its adapters are those that their names stand for now.

        Args:
            on_token: called by the worker with each token id of a request with one sequence, eos included. It must
                not wait for anything; if it raises, the generation fails with that.

        Raises:
            QueueFullError: too many wait already (`EngineLimits.max_waiting`).
            UnknownAdapterError: an adapter is not in the cache.
            AdapterError: it asks for more adapters than there are slots.
            RequestError: the engine is closed.
        """
        make = partial(Generation, wake=self._wake, on_token=on_token)
        (generation,) = self._enqueue([request], make)
        return generation

    def submit_many(self, requests: Sequence[Request]) -> list[Generation]:
        """`submit` for several: all of them enter the queue, or none."""
        return self._enqueue(requests, partial(Generation, wake=self._wake))

    def submit_scores(self, requests: Sequence[Request]) -> list[LabelScores]:
        """`score_labels` without waiting."""
        return self._enqueue(requests, partial(LabelScores, wake=self._wake))

    def score_labels(self, requests: Sequence[Request]) -> list[dict[str, float]]:
        """The model's probabilities of each request's labels (`Request.constraint`); they add up to 1.

        Every label is read to its eos, so this can rank another label first than greedy decoding, which decides
        token by token. Raises what `submit` raises.
        """
        return results(self.submit_scores(requests))

    def score_targets(self, requests: Sequence[Request]) -> list[float]:
        """The model's log-probability of each `Request.target` (nats), its tokens fed as in training.

        Raises RequestError for a request without a target, and what `submit` raises.
        """
        if not all(request.target for request in requests):
            raise RequestError("a target cannot be scored:\n  target: expected token ids (got none)")
        return results(self._enqueue(requests, partial(TargetScore, wake=self._wake)))

    def encode(self, sources: Sequence[Sequence[int]]) -> Tensor:
        """Mean of the bare base's encoder states over each source's tokens, (N, d_model) fp32 on the CPU."""
        requests = [Request(source) for source in sources]
        return torch.stack(results(self._enqueue(requests, partial(Encoding, wake=self._wake))))

    @property
    def device(self) -> torch.device:
        """Where the base is."""
        return self._model.device

    @property
    def stats(self) -> EngineStats:
        """What it is doing, and what it has done so far."""
        with self._changed:
            return replace(
                self._stats,
                num_running=len(self._running),
                num_waiting=len(self._queue),
                cache=self._adapters.stats,
            )

    def close(self, timeout_s: float | None = None) -> None:
        """Take nothing new, answer what is under way for at most ``timeout_s`` seconds, and give up the rest."""
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: not len(self._queue) and not self._running, timeout_s)
            for work in (*self._queue.items, *self._running.values()):
                work.is_cancelled = True
            self._wake()
            self._changed.wait_for(lambda: not len(self._queue) and not self._running, _EXIT_S)
            worker = self._worker
        self.stop()
        if worker is not None:
            worker.join(_EXIT_S)

    def stop(self) -> None:
        """Let the worker end after its step. Who still waits then waits for ever: for the interpreter's exit."""
        self._is_closed = self._is_stopping = True
        if self._worker is not None and self._worker.is_alive():  # not in a forked child: the lock may be stuck
            self._wake()

    def _enqueue(
        self, requests: Sequence[Request], make: Callable[[Request, Reservation | None], SomeWork]
    ) -> list[SomeWork]:
        with self._changed:
            if self._is_closed:
                raise RequestError("this engine is closed: open another one.")
            self._queue.check_room(len(requests))
        work: list[SomeWork] = []
        try:
            for request in requests:
                work.append(make(request, self._adapters.reserve(request.mix) if request.mix else None))
            with self._changed:
                self._queue.check_room(len(requests))
                self._queue.add(work)
                if work and (self._worker is None or not self._worker.is_alive()):
                    self._worker = threading.Thread(target=self._work, name="flan-lora-engine", daemon=True)
                    _workers.add(self._worker)
                    self._worker.start()
                self._wake()
        except BaseException:
            for each in work:
                self._give_back(each)
            raise
        return work

    def _wake(self) -> None:
        with self._changed:
            self._has_news = True
            self._changed.notify_all()

    # The worker

    def _work(self) -> None:
        try:
            batch: RunningBatch | None = RunningBatch(self._model)
            while batch is not None:
                batch = self._advance(batch)
        except BaseException as error:  # a bug of ours: nobody may wait for a worker that is gone
            with self._changed:
                self._worker = None
                left = [*self._running.values(), *self._queue.items]
            for work in left:
                self._fail(work, error)
            raise

    def _advance(self, batch: RunningBatch) -> RunningBatch | None:
        """What comes before a step, and the step; the batch to go on with, None when it is time to end."""
        self._has_news = False
        self._drop_cancelled(batch)
        if self._is_stopping:
            return None
        try:
            has_admitted = self._admit(batch)
            if not self._running:
                # what was done at once leaves room for the next in the queue, of whom no news will come
                return batch if has_admitted or self._wait() else None
            output = batch.step()
        except Exception:  # whose fault it is shows when each runs by itself
            self._run_apart()
            return RunningBatch(self._model)
        most = max(self._stats.most_running, len(self._running))
        self._count(num_steps=1, most_running=most - self._stats.most_running)
        self._deliver(output)
        return batch

    def _wait(self) -> bool:
        """Until there is news; whether there is any sense in going on."""
        release_threads()
        with self._changed:
            if self._changed.wait_for(lambda: self._has_news, _IDLE_S) or len(self._queue):
                return True
            self._worker = None
        # malloc keeps what the batches used: 112 of 749 MB after 4,000 requests of eight threads (docs/log.md)
        return_freed_memory()
        return False

    def _drop_cancelled(self, batch: RunningBatch) -> None:
        gone = [work for work in (*self._running.values(), *self._queue.items) if work.is_cancelled]
        if not gone:
            return
        batch.drop({running for running, each in self._running.items() if each.is_cancelled})
        for work in gone:
            if work.error is not None:
                self._fail(work, work.error)
                continue
            self._leave(work)
            self._count(num_cancelled=1)
            work.end_cancelled()

    def _admit(self, batch: RunningBatch) -> bool:
        """Let in what fits: generations join the batch, all else is done at once. Whether any was let in."""
        admitted = admit(self._queue.items, len(self._running), self._limits, self._try_lease)
        if not admitted:
            return False
        now = time.perf_counter()
        for work in admitted:
            work.admitted_s = now
        with self._changed:
            self._queue.remove(admitted)
            generations = [work for work in admitted if isinstance(work, Generation)]
            has_others = bool(self._running)
            joining = {work.running: work for work in generations}
            self._running.update(joining)
        self._count(
            num_admitted=len(generations),
            num_joined=len(generations) if has_others else 0,
            num_prompt_tokens=sum(work.num_tokens for work in admitted),
        )
        self._run_jobs([work for work in admitted if isinstance(work, LabelScores)], self._score)
        self._run_jobs([work for work in admitted if isinstance(work, TargetScore)], self._score_targets)
        self._run_jobs([work for work in admitted if isinstance(work, Encoding)], self._encode)
        if joining:
            batch.add(list(joining))
        return True

    def _try_lease(self, work: AnyWork) -> bool:
        """Whether ``work`` has its adapters now; if they cannot be loaded it has failed."""
        if work.reservation is None:
            return True
        try:
            return work.take(self._adapters.try_lease(work.reservation))
        except Exception as error:
            work.reservation = None
            self._fail(work, error)
            return False

    def _deliver(self, output: StepOutput) -> None:
        """Tokens and answers to their callers."""
        now = time.perf_counter()
        for generation in self._running.values():
            generation.first_token_s = generation.first_token_s or now
        for running, token in output.tokens:
            self._running[running].emit(token)
        for running, sequences in output.finished:
            generation = self._running[running]
            if generation.is_cancelled:
                continue  # it is about to be dropped
            self._leave(generation)
            self._count(num_finished=1, num_generated_tokens=sum(len(each.ids) for each in sequences))
            generation.end(sequences, now)

    def _run_apart(self) -> None:
        """All that were under way once more from the start, one by one: an error is now its own."""
        for running, generation in list(self._running.items()):
            generation.restart()
            batch = RunningBatch(self._model)
            try:
                batch.add([running])
                while batch.num_running and not generation.is_cancelled:
                    self._deliver(batch.step())
            except Exception as error:  # the caller's to see, whatever it is
                self._fail(generation, error)

    def _run_jobs(self, jobs: Sequence[SomeWork], run: Callable[[Sequence[SomeWork]], Iterable[Any]]) -> None:
        """All in one pass; if that fails, one by one."""
        if not jobs:
            return
        try:
            found = run(jobs)
        except Exception as error:
            if len(jobs) == 1:
                self._fail(jobs[0], error)
            for job in jobs if len(jobs) > 1 else ():
                self._run_jobs([job], run)
            return
        for job, result in zip(jobs, found, strict=True):
            self._leave(job)
            job.finish(result)

    def _score(self, jobs: Sequence[LabelScores]) -> Iterable[dict[str, float]]:
        return self._model.label_probabilities([job.running for job in jobs])

    def _score_targets(self, jobs: Sequence[TargetScore]) -> Iterable[float]:
        return self._model.target_log_probs([job.running for job in jobs])

    def _encode(self, jobs: Sequence[Encoding]) -> Iterable[Tensor]:
        return self._model.pooled_states([job.request.input_ids for job in jobs])

    def _fail(self, work: AnyWork, error: BaseException) -> None:
        self._leave(work)
        self._count(num_failed=1)
        work.fail(error)

    def _leave(self, work: AnyWork) -> None:
        """Out of the queue and the batch; its adapters may leave their slots."""
        with self._changed:
            self._queue.remove([work])
            self._running.pop(work.running, None)
            self._changed.notify_all()
        self._give_back(work)

    def _give_back(self, work: AnyWork) -> None:
        reservation, work.reservation = work.reservation, None
        if (lease := work.drop_lease()) is not BARE_LEASE:
            self._adapters.release(lease)
        elif reservation is not None:
            self._adapters.cancel(reservation)

    def _count(self, **added: int) -> None:
        self._stats = replace(
            self._stats, **{name: getattr(self._stats, name) + number for name, number in added.items()}
        )
