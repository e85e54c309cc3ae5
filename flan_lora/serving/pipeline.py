"""Prepared texts -> completions: through the engine's batch, the surest window, and the labels where asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from flan_lora.adapters.store import Store
from flan_lora.adapters.weights import base_linears
from flan_lora.base.decode import decode
from flan_lora.base.load import Base
from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.engine import Engine
from flan_lora.engine.generation import Generation, results
from flan_lora.engine.request import GenerationOutput, Request
from flan_lora.engine.scheduler import EngineLimits
from flan_lora.errors import UnknownAdapterError
from flan_lora.serving.completion import Completion
from flan_lora.serving.prompts import ChosenWindow, PreparedRequest, PromptEncoder, choose_window
from flan_lora.serving.registry import AdapterRegistry

Submitted = TypeVar("Submitted")


class Pipeline:
    """One engine and the adapters that it serves. Any number of threads may use it."""

    def __init__(
        self, base: Base, store: Store, *, num_slots: int, batch_size: int, max_waiting: int | None = None
    ) -> None:
        self.prompts = PromptEncoder(base.tokenizer)
        cache = AdapterCache(
            base_linears(base.model), fingerprint=base.fingerprint, num_slots=num_slots, device=base.device
        )
        self.registry = AdapterRegistry(base, store, cache)
        limits = EngineLimits(max_running=batch_size, max_waiting=max_waiting)
        self.engine = Engine(base.model, cache, limits=limits)
        self._tokenizer = base.tokenizer

    def generate(
        self, prepared: Sequence[PreparedRequest], *, start: float, label_probabilities: bool = False
    ) -> list[Completion]:
        """One completion for each text, in the order given; each as its text would get it alone.

        Args:
            start: when the caller was asked (``time.perf_counter``): latencies count from there.
            label_probabilities: also read every label of the chosen window; costs one more pass.
        """
        outputs = iter(self._run([request for item in prepared for request in item.windows]))
        chosen = [choose_window(item, [next(outputs) for _ in item.windows]) for item in prepared]
        return self.complete(prepared, chosen, start=start, label_probabilities=label_probabilities)

    def submit(
        self, prepared: PreparedRequest, *, on_token: Callable[[int], None] | None = None
    ) -> list[Generation]:
        """One handle for each window, for callers that wait in a way of their own; `complete` is for the outputs.

        Args:
            on_token: as of `Engine.submit`; for a text of one window.

        Raises what `Engine.submit` raises.
        """
        if on_token is None:
            return self._known(prepared.windows, lambda: self.engine.submit_many(prepared.windows))
        (window,) = prepared.windows
        return [self._known([window], lambda: self.engine.submit(window, on_token=on_token))]

    def complete(
        self,
        prepared: Sequence[PreparedRequest],
        chosen: Sequence[ChosenWindow],
        *,
        start: float,
        label_probabilities: bool = False,
    ) -> list[Completion]:
        """The completions of texts whose windows have been answered; arguments as of `generate`."""
        labels = self._labels(prepared, chosen) if label_probabilities else [[] for _ in prepared]
        return [
            self.prompts.complete(item, window, window.finished_s - start, scores)
            for item, window, scores in zip(prepared, chosen, labels, strict=True)
        ]

    def stream(self, prepared: PreparedRequest) -> Iterator[str]:
        """What the base writes, in pieces; of a text in windows, in one piece when all have ended."""
        if len(prepared.windows) > 1:
            return self._one_piece(prepared)
        self._make_known(prepared.windows)
        return self._pieces(prepared.windows[0])

    def _labels(
        self, prepared: Sequence[PreparedRequest], chosen: Sequence[ChosenWindow]
    ) -> list[list[Mapping[str, float]]]:
        """Probabilities of the labels of each text, in each order that is read; none for a text without labels."""
        orders = [
            [request for request in (window.request, item.swapped) if request is not None and request.constraint]
            for item, window in zip(prepared, chosen, strict=True)
        ]
        requests = [request for own in orders for request in own]
        found = iter(self._known(requests, lambda: self.engine.score_labels(requests)))
        return [[next(found) for _ in own] for own in orders]

    def _run(self, requests: Sequence[Request]) -> list[GenerationOutput]:
        """The answers in the order given. Long sources go first: those that join together are alike in length."""
        order = sorted(range(len(requests)), key=lambda place: -len(requests[place].input_ids))
        sorted_requests = [requests[place] for place in order]
        outputs = results(self._known(requests, lambda: self.engine.submit_many(sorted_requests)))
        by_place = dict(zip(order, outputs, strict=True))
        return [by_place[place] for place in range(len(requests))]

    def _known(self, requests: Sequence[Request], submit: Callable[[], Submitted]) -> Submitted:
        """What ``submit`` gives, once the engine knows the adapters of all requests."""
        while True:
            self._make_known(requests)
            try:
                return submit()
            except UnknownAdapterError:
                continue  # unloaded between the two lines above

    def _make_known(self, requests: Sequence[Request]) -> None:
        for name in {name for request in requests for name in request.mix}:
            self.registry.make_known(name)

    def _one_piece(self, prepared: PreparedRequest) -> Iterator[str]:
        chosen = choose_window(prepared, self._run(prepared.windows))
        yield decode(self._tokenizer, chosen.answers[0].ids)

    def _pieces(self, request: Request) -> Iterator[str]:
        generation = self._known([request], lambda: self.engine.submit(request))
        ids: list[int] = []
        sent = ""
        for token in generation.tokens():
            ids.append(token)
            text = decode(self._tokenizer, ids)
            yield text[len(sent) :]
            sent = text
