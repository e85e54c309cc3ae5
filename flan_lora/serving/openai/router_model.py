"""A router and its engine as the model that the HTTP server serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Any

import torch

from flan_lora.adapters.manifest import load_metrics
from flan_lora.adapters.training_log import curve, read_training_log
from flan_lora.adapters.validation import CARD, METRICS, WEIGHTS, StoredAdapter
from flan_lora.base.encode import encode_sources
from flan_lora.base.load import base_slug
from flan_lora.serving.completion import Route, heaviest
from flan_lora.serving.openai.published import PublishedAdapters
from flan_lora.serving.openai.served import (
    Answered,
    Candidate,
    Embedded,
    ModelInfo,
    ModelStats,
    Query,
)
from flan_lora.serving.openai.text_stream import first_stop
from flan_lora.serving.pipeline import Pipeline
from flan_lora.serving.prompts import DecodingOptions, PreparedRequest
from flan_lora.serving.router import Router
from flan_lora.tasks import Prompt

_MAX_EMBEDDED_TOKENS = 512
"""T5's own length; a longer text is cut."""


class RouterModel:
    """`ServedModel` on a `Router`."""

    def __init__(self, router: Router) -> None:
        self._router = router
        spec = router.base.spec
        self.slug = base_slug(spec)
        self.base = ModelInfo(self.slug, int(time.time()), router.base.fingerprint)
        self.aliases = frozenset({spec.model} - {self.slug})
        self._published = PublishedAdapters(router._registry.store, router.base)

    # Models

    def adapters(self) -> list[ModelInfo]:
        routable = set(self._router.routable())
        return [_info(stored, routable) for stored in self._published.all()]

    def adapter(self, name: str) -> ModelInfo:
        return _info(self._published.get(name), set(self._router.routable()))

    def card(self, name: str) -> dict[str, Any]:
        stored = self._published.get(name)
        manifest = stored.manifest
        journal = read_training_log(stored)
        select_on = manifest.training.select_on
        curves = {"loss": "loss", **({select_on: f"eval_{select_on}"} if select_on else {})}
        points = {title: curve(journal, field) for title, field in curves.items()}
        metrics = load_metrics(stored.path / METRICS) if METRICS in manifest.files else None
        return {
            "manifest": manifest.model_dump(mode="json"),
            "metrics": metrics.model_dump(mode="json") if metrics else None,
            "curves": {title: list(zip(c.steps, c.values, strict=True)) for title, c in points.items() if c.steps},
            "readme": (stored.path / CARD).read_text(encoding="utf-8") if CARD in manifest.files else "",
        }

    # Adapters into and out of service

    def load(self, name: str) -> ModelInfo:
        self._published.get(name)
        self._router.unload(name)  # weights of before stay with who is being answered with them
        self._router.load(name)
        return self.adapter(name)

    def unload(self, name: str) -> None:
        self._published.get(name)
        self._router.unload(name)

    # Texts

    async def start(self, query: Query) -> Running:
        options = DecodingOptions(query.num_beams, query.max_new_tokens, query.num_candidates, query.sampling)
        prepared = await asyncio.to_thread(
            partial(
                self._router.prepare, query.text, query.choice, options, task=query.task, abstain=query.abstain
            )
        )
        return Running(self._router.pipeline, prepared, query)

    async def embed(self, texts: Sequence[str]) -> Embedded:
        return await asyncio.to_thread(self._embed, texts)

    def _embed(self, texts: Sequence[str]) -> Embedded:
        base = self._router.base
        sources = encode_sources(base.tokenizer, [Prompt("", text) for text in texts], _MAX_EMBEDDED_TOKENS)
        states = self._router.pipeline.engine.encode([source.input_ids for source in sources])
        vectors = torch.nn.functional.normalize(states.float(), dim=-1).tolist()
        return Embedded(vectors, sum(len(source.input_ids) for source in sources))

    # The server

    def stats(self) -> ModelStats:
        traffic = self._router.traffic
        return ModelStats(num_steps=traffic.num_steps)

    def describe(self) -> str:
        return ""

    def close(self, timeout_s: float) -> None:
        pass


class Running:
    """`Answering` of a prepared request."""

    digest = ""

    def __init__(self, pipeline: Pipeline, prepared: PreparedRequest, query: Query) -> None:
        self._start, self._stop = time.perf_counter(), query.stop
        self.adapter: str | None = heaviest(prepared.mix) if prepared.mix else None
        self.route: Mapping[str, Any] | None = None if prepared.route is None else _route(prepared.route)
        self.num_prompt_tokens = sum(len(window.input_ids) for window in prepared.windows)
        self._task = asyncio.ensure_future(
            asyncio.to_thread(
                partial(
                    pipeline.generate,
                    [prepared],
                    start=self._start,
                    label_probabilities=query.label_probabilities,
                )
            )
        )

    async def pieces(self) -> AsyncIterator[str]:
        yield (await self.answered()).candidates[0].text

    async def answered(self) -> Answered:
        (done,) = await self._task
        texts = [done.text, *done.alternatives]
        candidates = [
            Candidate(text[: first_stop(text, self._stop)], "stop", done.mean_log_prob) for text in texts
        ]
        return Answered(candidates, done.num_tokens, done.label_probabilities, total_s=done.latency_s)

    def cancel(self) -> None:
        pass


def _route(route: Route) -> dict[str, Any]:
    return {"adapter": route.adapter, "score": route.score, "threshold": route.threshold, "reason": route.reason}


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
