"""A text under way in the engine: tokens from its worker to the event loop, and the answer at the end."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from flan_lora.base.decode import decode
from flan_lora.base.load import Base
from flan_lora.engine.generation import Generation
from flan_lora.engine.request import Request, SequenceOutput
from flan_lora.serving.completion import Route, heaviest
from flan_lora.serving.openai.errors import unavailable
from flan_lora.serving.openai.served import Answered, Candidate, Query, ScoredToken
from flan_lora.serving.openai.text_stream import TextStream, TokenTexts, first_stop
from flan_lora.serving.pipeline import Pipeline
from flan_lora.serving.prompts import ChosenWindow, PreparedRequest, check_has_numbers, choose_window, digest_of
from flan_lora.tasks.task import Inputs


class LoopCalls:
    """Calls of other threads into an event loop, which is woken once for all that have gathered.

    A step of the engine has news for every row; to wake the loop costs a write to a socket, each time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[Callable[[], None]] = deque()
        self._is_woken = False

    def add(self, call: Callable[[], None]) -> None:
        """Have the loop call this soon, after those that were added before."""
        self._calls.append(call)
        if not self._is_woken:
            self._is_woken = True
            with suppress(RuntimeError):  # the server's loop has ended before the engine
                self._loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        self._is_woken = False  # before the calls are taken: who adds one after that wakes the loop again
        while self._calls:
            self._calls.popleft()()


@dataclass(frozen=True, slots=True)
class Backend:
    """What all answers of a server come from."""

    pipeline: Pipeline
    base: Base
    calls: LoopCalls
    token_texts: TokenTexts


class EngineAnswering:
    """`Answering` of a prepared text. Made and submitted in any thread, read in the event loop's."""

    def __init__(self, backend: Backend, prepared: PreparedRequest, query: Query) -> None:
        self._backend, self._query = backend, query
        self._prepared = _with_stop(_with_log_probs(prepared, query.num_log_probs), query.stop, self._text)
        self.adapter: str | None = heaviest(prepared.mix) if prepared.mix else None
        source = prepared.sources.get(self.adapter or "")
        self.digest = "" if source is None else digest_of(source)
        self.num_prompt_tokens = sum(len(window.input_ids) for window in prepared.windows)
        self.route: Mapping[str, Any] | None = None if prepared.route is None else _route(prepared.route)
        self._start = time.perf_counter()
        self._generations: Sequence[Generation] = ()
        self._tokens: deque[int] = deque()  # from the worker's thread
        self._num_open = len(prepared.windows)
        self._is_called = False
        self._news = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self._num_open > 0

    @property
    def has_begun(self) -> bool:
        """Whether its first token has come."""
        return any(generation.first_token_s is not None for generation in self._generations)

    @property
    def is_consistent(self) -> bool:
        """Whether the engine took the very adapters that the text was prepared for."""
        return all(self._prepared.is_for(generation.sources) for generation in self._generations)

    def submit(self) -> None:
        """Into the engine's queue. Raises what `Engine.submit` raises."""
        on_token = self._on_token if self._comes_in_pieces else None
        self._generations = self._backend.pipeline.submit(self._prepared, on_token=on_token)
        for generation in self._generations:
            generation.add_done_callback(self._on_done)

    @property
    def _comes_in_pieces(self) -> bool:
        """One sequence of one window, which is not a label: all else is known at the end."""
        window = self._prepared.windows[0]
        is_single = len(self._prepared.windows) == window.params.width == 1
        return self._query.is_streamed and is_single and window.constraint is None

    # The worker's thread

    def _on_token(self, token: int) -> None:
        """Calls the loop once for all tokens that it has not seen."""
        self._tokens.append(token)
        if not self._is_called:
            self._is_called = True
            self._backend.calls.add(self._look)

    def _on_done(self, generation: Generation) -> None:
        self._backend.calls.add(self._close_one)

    # The event loop's

    def _look(self) -> None:
        self._is_called = False
        self._news.set()

    def _close_one(self) -> None:
        self._num_open -= 1
        self._news.set()

    async def pieces(self) -> AsyncIterator[str]:
        if not self._comes_in_pieces:
            answered = await self.answered()
            if answered.candidates[0].text:
                yield answered.candidates[0].text
            return
        task, inputs = self._prepared.config.task, self._prepared.inputs
        restore = None if task is None or task.restore is None else partial(_restored, task.restore, inputs)
        parse = str.strip if task is None else task.parse
        stream = TextStream(self._backend.token_texts, parse, restore, self._query.stop)
        while True:
            is_last = not self._num_open  # before the tokens are read: none can come after
            piece = "".join([stream.push(self._tokens.popleft()) for _ in range(len(self._tokens))])
            if piece:
                yield piece
            if is_last:
                break
            await self._wait()
        self._result()  # what went wrong comes before the rest of the text
        if rest := stream.finish():
            yield rest

    async def answered(self) -> Answered:
        while self._num_open:
            await self._wait()
        chosen = self._result()
        check_has_numbers(self._prepared, chosen)
        first_s = min(each.first_token_s or each.finished_s or self._start for each in self._generations)
        admitted_s = min(each.admitted_s or first_s for each in self._generations)
        labels = await self._label_probabilities(chosen)
        candidates = [self._candidate(sequence) for sequence in chosen.answers]
        if self._query.ranks_candidates:
            candidates.sort(key=lambda each: -each.mean_log_prob)
        return Answered(
            candidates=candidates,
            num_completion_tokens=sum(
                len(sequence.ids) for each in self._generations for sequence in each.result().sequences
            ),
            label_probabilities=labels,
            queued_s=admitted_s - self._start,
            first_token_s=first_s - self._start,
            total_s=chosen.finished_s - self._start,
        )

    def cancel(self) -> None:
        for generation in self._generations:
            if not generation.done:
                generation.cancel()

    async def _wait(self) -> None:
        await self._news.wait()
        self._news.clear()

    def _result(self) -> ChosenWindow:
        """Of generations that are done. Raises what became of them."""
        try:
            return choose_window(self._prepared, [generation.result() for generation in self._generations])
        except CancelledError as error:  # not by who reads this: they have stopped reading
            raise unavailable("the server stopped before the answer was whole.", "draining") from error

    async def _label_probabilities(self, chosen: ChosenWindow) -> Mapping[str, float] | None:
        """A further pass of the engine, so in a thread."""
        if not self._query.label_probabilities:
            return None
        (completion,) = await asyncio.to_thread(
            self._backend.pipeline.complete,
            [self._prepared],
            [chosen],
            start=self._start,
            label_probabilities=True,
        )
        return completion.label_probabilities

    def _candidate(self, sequence: SequenceOutput) -> Candidate:
        whole = self._text(sequence.ids)
        end = first_stop(whole, self._query.stop)
        is_stopped = end is not None or sequence.ids[-1] == self._backend.base.tokenizer.eos_token_id
        return Candidate(
            text=whole[:end],
            finish_reason="stop" if is_stopped else "length",
            mean_log_prob=sequence.mean_log_prob,
            tokens=None if self._query.num_log_probs is None else self._scored(sequence),
        )

    def _scored(self, sequence: SequenceOutput) -> list[ScoredToken]:
        """The tokens of what the base wrote, up to a stop string: a task's parser may read it otherwise."""
        texts, before = self._backend.token_texts, list[int]()
        scored, written = list[ScoredToken](), ""
        for token, found in zip(sequence.ids, sequence.token_log_probs, strict=True):
            if token == self._backend.base.tokenizer.eos_token_id:
                break
            top = [(texts.spell(other, before), log_prob) for other, log_prob in found.top]
            scored.append(ScoredToken(texts.spell(token, before), found.log_prob, top))
            if not before and texts.text((), [token]):
                before = [token]
            written += scored[-1].text
            if first_stop(written, self._query.stop) is not None:
                break
        return scored

    def _text(self, ids: Sequence[int]) -> str:
        return self._prepared.config.parse(self._raw(ids), self._prepared.inputs)

    def _raw(self, ids: Sequence[int]) -> str:
        return decode(self._backend.base.tokenizer, ids, self._prepared.windows[0].constraint)


def _restored(restore: Callable[[str, Inputs], str], inputs: Inputs, text: str) -> str:
    return restore(text, inputs)


def _with_log_probs(prepared: PreparedRequest, num_log_probs: int | None) -> PreparedRequest:
    """The same, with each token's log-probability. Raises RequestError for beams."""
    if num_log_probs is None:
        return prepared
    return replace(
        prepared, windows=tuple(replace(window, num_log_probs=num_log_probs) for window in prepared.windows)
    )


def _with_stop(
    prepared: PreparedRequest, stop: tuple[str, ...], text_of: Callable[[Sequence[int]], str]
) -> PreparedRequest:
    """The same, but no further than the first stop string; labels end where they end."""
    if not stop or prepared.windows[0].constraint is not None:
        return prepared

    def stopping(ids: Sequence[int]) -> bool:
        return first_stop(text_of(ids), stop) is not None

    def stopped(request: Request) -> Request:
        return replace(request, stopping=stopping)

    return replace(prepared, windows=tuple(stopped(window) for window in prepared.windows))


def _route(route: Route) -> dict[str, Any]:
    return {"adapter": route.adapter, "score": route.score, "threshold": route.threshold, "reason": route.reason}
