"""Counters and times in Prometheus' format.

Names and buckets follow vLLM's where both count the same thing, with ``flan_lora_`` for ``vllm:``. Only names that
have been resolved to a model become labels, and at most `MAX_MODELS` of them: the rest count as ``other``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from flan_lora.serving.openai.served import Answered, ModelStats

MAX_MODELS = 100
OTHER = "other"
_BY_MODEL = ("model_name",)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_TOKEN_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Metrics:
    """What `/metrics` shows of one server."""

    def __init__(self, stats: Callable[[], ModelStats] | None) -> None:
        """
        Args:
            stats: the engine's counters; read whenever somebody asks. None: this process has no engine.
        """
        self._models: set[str] = set()
        self._registry = CollectorRegistry()
        if stats is not None:
            self._registry.register(_Engine(stats))
        seconds = partial(Histogram, labelnames=_BY_MODEL, registry=self._registry, buckets=_SECONDS)
        tokens = partial(Counter, labelnames=_BY_MODEL, registry=self._registry)
        self._latency = seconds("flan_lora_e2e_request_latency_seconds", "From submission to the last token.")
        self._queue = seconds("flan_lora_request_queue_time_seconds", "Waited for a place in the batch.")
        self._first = seconds("flan_lora_time_to_first_token_seconds", "From submission to the first token.")
        self._per_token = seconds(
            "flan_lora_time_per_output_token_seconds", "Between tokens after the first.", buckets=_TOKEN_SECONDS
        )
        self._prompt = tokens("flan_lora_prompt_tokens", "Tokens read.")
        self._generated = tokens("flan_lora_generation_tokens", "Tokens generated.")
        self._success = Counter(
            "flan_lora_request_success", "Answered.", (*_BY_MODEL, "finished_reason"), registry=self._registry
        )
        self._errors = Counter("flan_lora_request_errors", "Not answered.", ("code",), registry=self._registry)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)

    def answered(self, model: str, num_prompt_tokens: int, answer: Answered) -> None:
        """Count one text that was answered."""
        label = self._label(model)
        self._prompt.labels(label).inc(num_prompt_tokens)
        self._generated.labels(label).inc(answer.num_completion_tokens)
        self._latency.labels(label).observe(answer.total_s)
        self._queue.labels(label).observe(answer.queued_s)
        self._first.labels(label).observe(answer.first_token_s)
        if answer.num_completion_tokens > 1:
            rest_s = max(answer.total_s - answer.first_token_s, 0.0)
            self._per_token.labels(label).observe(rest_s / (answer.num_completion_tokens - 1))
        self._success.labels(label, answer.candidates[0].finish_reason).inc()

    def failed(self, code: str) -> None:
        """Count one request that was not; the code is one of our own table's."""
        self._errors.labels(code).inc()

    def _label(self, model: str) -> str:
        if model not in self._models and len(self._models) >= MAX_MODELS:
            return OTHER
        self._models.add(model)
        return model


def by_replica(expositions: Mapping[str, bytes]) -> bytes:
    """Several processes' expositions as one: each sample says its process in the label ``replica``.

    Not summed: a sum of counters falls when a replica goes, which Prometheus takes for a restart.
    """
    families: dict[str, Metric] = {}
    for replica, text in expositions.items():
        for found in text_string_to_metric_families(text.decode("utf-8")):
            family = families.setdefault(found.name, Metric(found.name, found.documentation, found.type))
            family.samples += [each._replace(labels={**each.labels, "replica": replica}) for each in found.samples]
    registry = CollectorRegistry()
    registry.register(_Fixed(families))
    return generate_latest(registry)


class _Fixed(Collector):
    """Samples that are there already."""

    def __init__(self, families: Mapping[str, Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families.values()


class _Engine(Collector):
    """The engine's own counters, read when asked."""

    def __init__(self, stats: Callable[[], ModelStats]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        for name, what, value in (
            ("num_requests_running", "Sequences in the running batch.", stats.num_running),
            ("num_requests_waiting", "Requests in the queue.", stats.num_waiting),
            ("num_resident_adapters", "Adapters in memory.", stats.num_resident),
        ):
            yield GaugeMetricFamily(f"flan_lora_{name}", what, value)
        for name, what, value in (
            ("engine_steps", "Passes of the base.", stats.num_steps),
            ("adapter_cache_hits", "Adapters that were in memory when asked for.", stats.num_cache_hits),
            ("adapter_loads", "Adapters that were loaded.", stats.num_loads),
            ("adapter_evictions", "Adapters that left memory for others.", stats.num_evictions),
        ):
            yield CounterMetricFamily(f"flan_lora_{name}", what, value)
        yield _lora_requests_info(stats)


def _lora_requests_info(stats: ModelStats) -> Metric:
    """As the Gateway API inference extension reads it: names in labels, the time of the sample as value."""
    family = GaugeMetricFamily(
        "flan_lora_lora_requests_info",
        "Adapters with running and waiting requests.",
        labels=("max_lora", "running_lora_adapters", "waiting_lora_adapters"),
    )
    names = [",".join(sorted(each)[:MAX_MODELS]) for each in (stats.running_adapters, stats.waiting_adapters)]
    family.add_metric([str(stats.max_loras), *names], time.time())
    return family
