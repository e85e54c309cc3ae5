"""Prepared texts -> completions: through the engine's batch, the surest window, and the labels where asked for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence

from flan_lora.adapters.store import Store
from flan_lora.adapters.weights import base_linears
from flan_lora.base.decode import decode
from flan_lora.base.load import Base
from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.request import Request
from flan_lora.engine.runner import ModelRunner
from flan_lora.engine.scheduler import GenerationOutput, Scheduler, Traffic
from flan_lora.serving.completion import Completion
from flan_lora.serving.prompts import ChosenWindow, PreparedRequest, PromptEncoder, choose_window
from flan_lora.serving.registry import AdapterRegistry
from flan_lora.system.openmp import release_threads


class Pipeline:
    """One engine and the adapters that it serves. Any number of threads may use it."""

    def __init__(self, base: Base, store: Store, *, num_slots: int, batch_size: int) -> None:
        self.prompts = PromptEncoder(base.tokenizer)
        cache = AdapterCache(
            base_linears(base.model), fingerprint=base.fingerprint, num_slots=num_slots, device=base.device
        )
        self.registry = AdapterRegistry(base, store, cache)
        self._tokenizer, self._batch_size = base.tokenizer, batch_size
        self.engine = ModelRunner(base.model)
        self._scheduler = Scheduler(self.engine, max_rows=batch_size)

    @property
    def traffic(self) -> Traffic:
        """Rows, joins and steps so far."""
        return self._scheduler.traffic

    def generate(
        self, prepared: Sequence[PreparedRequest], *, start: float, label_probabilities: bool = False
    ) -> list[Completion]:
        """One completion for each text, in the order given; each as its text would get it alone.

        Args:
            start: when the caller was asked (``time.perf_counter``): latencies count from there.
            label_probabilities: also read every label of the chosen window; costs one more pass.
        """
        served = iter(self._run([request for item in prepared for request in item.windows]))
        chosen = [choose_window(item, [next(served) for _ in item.windows]) for item in prepared]
        labels = self._labels(prepared, chosen) if label_probabilities else [[] for _ in prepared]
        return [
            self.prompts.complete(item, window, window.finished_s - start, scores)
            for item, window, scores in zip(prepared, chosen, labels, strict=True)
        ]

    def stream(self, prepared: PreparedRequest) -> Iterator[str]:
        """What the base writes, in pieces; of a text in windows, in one piece when all have ended."""
        for name in prepared.mix:
            self.registry.make_known(name)
        return self._pieces(prepared.windows[0]) if len(prepared.windows) == 1 else self._one_piece(prepared)

    def _labels(
        self, prepared: Sequence[PreparedRequest], chosen: Sequence[ChosenWindow]
    ) -> list[list[Mapping[str, float]]]:
        """Probabilities of the labels of each text, in each order that is read; none for a text without labels."""
        orders = [
            [request for request in (window.request, item.swapped) if request is not None and request.constraint]
            for item, window in zip(prepared, chosen, strict=True)
        ]
        found = iter(self._score([request for own in orders for request in own]))
        return [[next(found) for _ in own] for own in orders]

    # Batches

    def _run(self, requests: Sequence[Request]) -> list[GenerationOutput]:
        found: dict[int, GenerationOutput] = {}
        for places in self._portions(requests):
            batch = [requests[place] for place in places]
            with self.registry.lease([name for request in batch for name in request.mix]) as lease:
                found.update(zip(places, self._scheduler.run(batch, lease), strict=True))
        return [found[place] for place in range(len(requests))]

    def _score(self, requests: Sequence[Request]) -> list[Mapping[str, float]]:
        found: dict[int, Mapping[str, float]] = {}
        for portion in self._portions(requests):
            for start in range(0, len(portion), self._batch_size):
                places = portion[start : start + self._batch_size]
                batch = [requests[place] for place in places]
                with self.registry.lease([name for request in batch for name in request.mix]) as lease:
                    found.update(zip(places, self.engine.label_probabilities(batch, lease), strict=True))
        return [found[place] for place in range(len(requests))]

    def _portions(self, requests: Sequence[Request]) -> list[list[int]]:
        """Places of requests that may be leased together: one portion, unless they ask for more than the slots.

        Long sources first: rows that join a batch together are alike in length.
        """
        order = sorted(range(len(requests)), key=lambda place: -len(requests[place].input_ids))
        names = {name for request in requests for name in request.mix}
        if self.registry.has_room(names):
            return [order] if order else []
        order.sort(key=lambda place: sorted(requests[place].mix))
        portions: list[list[int]] = []
        for place in order:
            wanted = names | requests[place].mix.keys()
            if not portions or not self.registry.has_room(wanted):
                portions.append([])
                wanted = set(requests[place].mix)
            portions[-1].append(place)
            names = wanted
        return portions

    # Streams

    def _one_piece(self, prepared: PreparedRequest) -> Iterator[str]:
        chosen = choose_window(prepared, self._run(prepared.windows))
        yield decode(self._tokenizer, chosen.answers[0].ids)

    def _pieces(self, request: Request) -> Iterator[str]:
        """Decode in a thread of its own, so that no lease waits for a slow reader."""
        heard: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()

        def run() -> None:
            try:
                with self.registry.lease(list(request.mix)) as lease:
                    self._scheduler.run([request], lease, on_token=lambda _, token: heard.put(token))
                heard.put(None)
            except BaseException as error:  # the reader's to see, whatever it is
                heard.put(error)

        release_threads()
        threading.Thread(target=run, daemon=True).start()
        ids: list[int] = []
        told = ""
        while (item := heard.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            ids.append(item)
            text = decode(self._tokenizer, ids)
            yield text[len(told) :]
            told = text
