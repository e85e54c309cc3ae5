"""A router and its engine as the model that the HTTP server serves."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import torch

from flan_lora.adapters.manifest import load_metrics
from flan_lora.adapters.training_log import curve, read_training_log
from flan_lora.adapters.validation import CARD, METRICS, WEIGHTS, StoredAdapter, is_name
from flan_lora.base.decode import decode
from flan_lora.base.encode import encode_sources
from flan_lora.base.load import base_slug
from flan_lora.engine.lease import AdapterState
from flan_lora.engine.model_runner import ServePrecision
from flan_lora.errors import AdapterError, UnknownAdapterError
from flan_lora.serving.open_router import open_router
from flan_lora.serving.openai.answering import Backend, EngineAnswering, LoopCalls
from flan_lora.serving.openai.served import Answering, Embedded, ModelInfo, ModelStats, Query
from flan_lora.serving.openai.text_stream import TokenTexts
from flan_lora.serving.router import Router
from flan_lora.tasks import Prompt

_MAX_EMBEDDED_TOKENS = 512
"""T5's own length; a longer text is cut."""


class RouterModel:
    """`ServedModel` on a `Router`."""

    def __init__(self, router: Router, max_loras: int) -> None:
        self.router = router
        spec = router.base.spec
        self.slug = base_slug(spec)
        self.base = ModelInfo(self.slug, int(time.time()), router.base.fingerprint)
        self.aliases = frozenset({spec.model} - {self.slug})
        self._engine = router.pipeline.engine
        self._max_loras = max_loras
        self._lock = threading.Lock()
        self._live: weakref.WeakSet[EngineAnswering] = weakref.WeakSet()
        self._backend_of: tuple[asyncio.AbstractEventLoop, Backend] | None = None

    # Models

    def adapters(self) -> list[ModelInfo]:
        routable = set(self.router.routable())
        return [_info(stored, routable) for stored in self._all()]

    def adapter(self, name: str) -> ModelInfo:
        return _info(self._find(name), set(self.router.routable()))

    def card(self, name: str) -> dict[str, Any]:
        stored = self._find(name)
        manifest = stored.manifest
        log = read_training_log(stored)
        select_on = manifest.training.select_on
        curves = {"loss": "loss", **({select_on: f"eval_{select_on}"} if select_on else {})}
        points = {title: curve(log, field) for title, field in curves.items()}
        metrics = load_metrics(stored.path / METRICS) if METRICS in manifest.files else None
        return {
            "manifest": manifest.model_dump(mode="json"),
            "metrics": metrics.model_dump(mode="json") if metrics else None,
            "curves": {title: list(zip(c.steps, c.values, strict=True)) for title, c in points.items() if c.steps},
            "readme": (stored.path / CARD).read_text(encoding="utf-8") if CARD in manifest.files else "",
        }

    def _find(self, name: str) -> StoredAdapter:
        """As it is published now. Raises UnknownAdapterError for all else, which includes what is no name."""
        source = self.router.pipeline.registry.find(name).source if is_name(name) else None
        if not isinstance(source, StoredAdapter):
            raise UnknownAdapterError(f"no adapter {name!r} is published.")
        return source

    def _all(self) -> list[StoredAdapter]:
        """Those that can be served, by name; the others are what `flan-lora adapter list` is for."""
        root, found = self.router.store.root, []
        for entry in sorted(os.scandir(root), key=lambda each: each.name) if root.is_dir() else ():
            with suppress(AdapterError):
                found.append(self._find(entry.name))
        return found

    # Adapters into and out of service

    def load(self, name: str) -> ModelInfo:
        self._find(name)
        self.router.load(name)  # what was published anew takes the place of what was loaded
        return self.adapter(name)

    def unload(self, name: str) -> None:
        self._find(name)
        self.router.unload(name)

    # Texts

    def start(self, query: Query, loop: asyncio.AbstractEventLoop) -> Answering:
        answering = self._submitted(query, self._backend(loop))
        with self._lock:
            self._live.add(answering)
        return answering

    def _backend(self, loop: asyncio.AbstractEventLoop) -> Backend:
        """One for a loop, so that all its answers wake it together; a server has one loop."""
        with self._lock:
            if self._backend_of is None or self._backend_of[0] is not loop:
                base, tokenizer = self.router.base, self.router.base.tokenizer
                token_texts = TokenTexts(
                    partial(decode, tokenizer), lambda token: str(tokenizer.convert_ids_to_tokens([token])[0])
                )
                backend = Backend(self.router.pipeline, base, LoopCalls(loop), token_texts)
                self._backend_of = (loop, backend)
            return self._backend_of[1]

    def _submitted(self, query: Query, backend: Backend) -> EngineAnswering:
        """Prompts are tokenized, and an adapter that is new here is read from disk."""
        while True:
            prepared = self.router.prepare(
                query.text, query.choice, task=query.task, abstain=query.abstain, params=query.params
            )
            answering = EngineAnswering(backend, prepared, query)
            with suppress(UnknownAdapterError):  # unloaded since it was prepared
                answering.submit()
                if answering.is_consistent:
                    return answering
                answering.cancel()  # published anew since

    def embed(self, texts: Sequence[str]) -> Embedded:
        base = self.router.base
        sources = encode_sources(base.tokenizer, [Prompt("", text) for text in texts], _MAX_EMBEDDED_TOKENS)
        states = self._engine.encode([source.input_ids for source in sources])
        vectors = torch.nn.functional.normalize(states, dim=-1).tolist()
        return Embedded(vectors, sum(len(source.input_ids) for source in sources))

    # The server

    def stats(self) -> ModelStats:
        stats = self._engine.stats
        with self._lock:
            live = [each for each in self._live if each.is_open]
        return ModelStats(
            num_running=stats.num_running,
            num_waiting=stats.num_waiting,
            num_steps=stats.num_steps,
            num_loads=stats.cache.num_loads,
            num_evictions=stats.cache.num_evictions,
            num_cache_hits=stats.cache.num_hits,
            max_loras=self._max_loras,
            num_resident=sum(each.state is AdapterState.RESIDENT for each in self.router.status()),
            running_adapters=frozenset(each.adapter for each in live if each.adapter and each.has_begun),
            waiting_adapters=frozenset(each.adapter for each in live if each.adapter and not each.has_begun),
        )

    def describe(self) -> str:
        size = sum(parameter.nbytes for parameter in self.router.base.model.parameters())
        return f"base {size / 1e6:,.0f} MB on {self.router.base.device}, {self._max_loras} adapters in memory"

    def close(self, timeout_s: float) -> None:
        self._engine.close(timeout_s)


def open_router_model(
    adapters_dir: Path,
    base: str | None,
    *,
    device: str | None,
    max_loras: int,
    max_running: int,
    max_waiting: int,
    serve_precision: ServePrecision = "exact",
) -> RouterModel:
    """The adapters of one base, ready to be served. Raises what `open_router` raises."""
    limits = {"num_slots": max_loras + 1, "batch_size": max_running, "max_waiting": max_waiting}
    router = open_router(adapters_dir, base, device=device, serve_precision=serve_precision, **limits)
    return RouterModel(router, max_loras)


def _info(stored: StoredAdapter, routable: set[str]) -> ModelInfo:
    from flan_lora.tasks import get_task

    manifest = stored.manifest
    task = get_task(manifest.task)
    created = datetime.strptime(manifest.created_at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return ModelInfo(
        name=manifest.name,
        created=int(created.timestamp()),
        digest=manifest.files[WEIGHTS].sha256,
        task=task.name,
        inputs=task.inputs,
        labels=task.labels,
        summary=task.summary,
        is_routable=manifest.name in routable,
    )
