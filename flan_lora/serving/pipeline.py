"""Prepared texts -> completions: through the engine's batch, the surest window, and the labels where asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from flan_lora.adapters.store import Store
from flan_lora.adapters.weights import base_linears
from flan_lora.base.load import Base
from flan_lora.base.quantised import weight_of
from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.engine import Engine
from flan_lora.engine.generation import Generation, LabelScores
from flan_lora.engine.model_runner import ServePrecision
from flan_lora.engine.request import Request
from flan_lora.engine.scheduler import EngineLimits
from flan_lora.errors import UnknownAdapterError
from flan_lora.serving.completion import Completion
from flan_lora.serving.pending import PendingCompletion
from flan_lora.serving.prompts import ChosenWindow, PreparedRequest, PromptEncoder
from flan_lora.serving.registry import AdapterRegistry

Prepare = Callable[[], Sequence[PreparedRequest]]
AnyHandle = TypeVar("AnyHandle", Generation, LabelScores)


class Pipeline:
    """One engine and the adapters that it serves. Any number of threads may use it."""

    def __init__(
        self,
        base: Base,
        store: Store,
        limits: EngineLimits,
        *,
        num_slots: int,
        deterministic: bool = False,
        serve_precision: ServePrecision = "exact",
    ) -> None:
        self.prompts = PromptEncoder(base.tokenizer)
        cache = AdapterCache(
            base_linears(base.model),
            fingerprint=base.fingerprint,
            num_slots=num_slots,
            device=base.device,
            weight_of=weight_of(base.model),
        )
        self.registry = AdapterRegistry(base, store, cache)
        self.engine = Engine(
            base.model, cache, limits=limits, deterministic=deterministic, serve_precision=serve_precision
        )

    def submit_texts(
        self, prepare: Prepare, *, start: float | None = None, label_probabilities: bool = False
    ) -> list[PendingCompletion]:
        """Have texts answered, each as it would be alone: all of them enter the queue, or none.

        Args:
            prepare: makes the requests; called again when an adapter is published anew or unloaded before they
                are in the queue, so that no text meets weights that its prompt was not made for.
            start: when the caller was asked (``time.perf_counter``): latencies count from there; None is now.
            label_probabilities: also read every label; costs one more pass.

        Raises:
            QueueFullError: too many wait already.
            AdapterError: more adapters for one text than there are slots.
        """
        start = time.perf_counter() if start is None else start
        while True:
            prepared = prepare()
            try:
                pending = self._submit(prepared, start, label_probabilities)
            except UnknownAdapterError:
                continue  # unloaded since `prepare` made it ready
            if all(each.is_consistent for each in pending):
                return pending
            for each in pending:
                each.cancel()

    def generate(
        self, prepared: Sequence[PreparedRequest], *, start: float | None = None, label_probabilities: bool = False
    ) -> list[Completion]:
        """`submit_texts`, and wait for all, in the order given."""
        return wait(self.submit_texts(lambda: prepared, start=start, label_probabilities=label_probabilities))

    def submit(
        self, prepared: PreparedRequest, *, on_token: Callable[[int], None] | None = None
    ) -> list[Generation]:
        """A handle for each window, for callers that wait in a way of their own; `complete` is for what they get.

        Args:
            on_token: as of `Engine.submit`; for a text of one window.

        Raises what `Engine.submit` raises.
        """
        if on_token is None:
            return self.engine.submit_many(prepared.windows)
        (window,) = prepared.windows
        return [self.engine.submit(window, on_token=on_token)]

    def complete(
        self,
        prepared: Sequence[PreparedRequest],
        chosen: Sequence[ChosenWindow],
        *,
        start: float,
        label_probabilities: bool = False,
    ) -> list[Completion]:
        """The completions of texts whose windows have been answered; arguments as of `submit_texts`."""
        orders = [
            [request for request in (window.request, item.swapped) if request is not None and request.constraint]
            for item, window in zip(prepared, chosen, strict=True)
        ]
        found = iter(self.engine.score_labels([r for own in orders for r in own]) if label_probabilities else ())
        return [
            self.prompts.complete(
                item,
                window,
                window.finished_s - start,
                [next(found) for _ in own] if label_probabilities else (),
            )
            for item, window, own in zip(prepared, chosen, orders, strict=True)
        ]

    def _submit(
        self, prepared: Sequence[PreparedRequest], start: float, label_probabilities: bool
    ) -> list[PendingCompletion]:
        generations = self._by_text([item.windows for item in prepared], self.engine.submit_many)
        asked = [item.label_requests if label_probabilities else () for item in prepared]
        try:
            scores = self._by_text(asked, self.engine.submit_scores)
        except BaseException:
            for own in generations:
                for generation in own:
                    generation.cancel()
            raise
        return [
            PendingCompletion(self.prompts, *parts, start)
            for parts in zip(prepared, generations, scores, strict=True)
        ]

    def _by_text(
        self, requests: Sequence[Sequence[Request]], submit: Callable[[Sequence[Request]], list[AnyHandle]]
    ) -> list[list[AnyHandle]]:
        """Handles in the shape of ``requests``. Long sources go first: those that join together are alike."""
        places = [(text, place) for text, own in enumerate(requests) for place in range(len(own))]
        places.sort(key=lambda at: -len(requests[at[0]][at[1]].input_ids))
        handles = dict(zip(places, submit([requests[text][place] for text, place in places]), strict=True))
        return [[handles[text, place] for place in range(len(own))] for text, own in enumerate(requests)]


def wait(pending: Sequence[PendingCompletion]) -> list[Completion]:
    """The answers in the order given. If one fails, or the caller is interrupted, the others are given up."""
    try:
        return [each.result() for each in pending]
    except BaseException:
        for each in pending:
            if not each.done:
                each.cancel()
        raise
