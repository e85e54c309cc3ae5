"""A handle on a text whose answer is on its way: the answer, its pieces as they come, the way to give it up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from flan_lora.engine.generation import AnyWork, Generation, LabelScores, results
from flan_lora.serving.completion import Completion
from flan_lora.serving.params import held_back
from flan_lora.serving.prompts import PreparedRequest, PromptEncoder, choose_window


class PendingCompletion:
    """One text in the engine's hands. Any number of threads may use it."""

    def __init__(
        self,
        prompts: PromptEncoder,
        prepared: PreparedRequest,
        generations: Sequence[Generation],
        scores: Sequence[LabelScores],
        start: float,
    ) -> None:
        """
        Args:
            generations: one for each window.
            scores: of the labels of each window, then of the swapped question; or none.
            start: when the caller was asked (``time.perf_counter``): the latency counts from there.
        """
        self.prepared = prepared
        self._prompts, self._start = prompts, start
        self._generations, self._scores = generations, scores

    @property
    def is_consistent(self) -> bool:
        """Whether the engine took the very adapters that the text was prepared for, for all of its parts."""
        return all(self.prepared.is_for(work.sources) for work in self._work)

    @property
    def done(self) -> bool:
        """Whether `result` returns, or raises, at once."""
        return all(work.done for work in self._work)

    @property
    def first_token_s(self) -> float | None:
        """Seconds from the call to the first token; None before that."""
        known = [each.first_token_s for each in self._generations if each.first_token_s is not None]
        return min(known) - self._start if known else None

    def result(self, timeout: float | None = None) -> Completion:
        """Wait for the answer, at most ``timeout`` seconds.

        Raises:
            TimeoutError: it goes on.
            CancelledError: somebody gave it up.
            AdapterError: an adapter cannot be loaded, or computes no numbers.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        for work in self._work:
            work.result(None if deadline is None else max(deadline - time.monotonic(), 0.0))
        outputs = results(self._generations)
        chosen = choose_window(self.prepared, outputs)
        of_window, of_swapped = self._scores[chosen.place : chosen.place + 1], self._scores[len(outputs) :]
        labels = [score.result() for score in (*of_window, *of_swapped)]
        return self._prompts.complete(self.prepared, chosen, chosen.finished_s - self._start, labels)

    def pieces(self) -> Iterator[str]:
        """What the base writes, in pieces as it is generated, up to a stop; not parsed by the task.

        Joined they are `Completion.raw_text`. Of beams, of several answers and of a text in windows there is one
        piece, at the end. Closing the iterator gives the answer up.
        """
        if len(self._generations) > 1 or self._generations[0].request.params.width > 1:
            yield self._whole()
            return
        (generation,) = self._generations
        stop = generation.request.params.stop
        ids: list[int] = []
        sent = ""
        for token in generation.tokens():
            ids.append(token)
            text = self._prompts.text_of(ids, stop)
            text = text[: len(text) - held_back(text, stop)]
            if len(text) > len(sent):
                yield text[len(sent) :]
                sent = text
        rest = self._prompts.text_of(ids, stop)[len(sent) :]
        if rest:
            yield rest

    def cancel(self) -> None:
        """Give it up: it leaves the batch before the next step."""
        for work in self._work:
            work.cancel()

    def add_done_callback(self, callback: Callable[[PendingCompletion], None]) -> None:
        """Call with this handle when it is done, in the engine's thread, or at once if it is; it must not wait."""
        lock, left = threading.Lock(), [len(self._work)]

        def count(_: AnyWork) -> None:
            with lock:
                left[0] -= 1
                is_last = left[0] == 0
            if is_last:
                callback(self)

        for work in self._work:
            work.add_done_callback(count)

    @property
    def _work(self) -> list[AnyWork]:
        return [*self._generations, *self._scores]

    def _whole(self) -> str:
        try:
            return self.result().raw_text
        finally:
            if not self.done:
                self.cancel()
