"""What the HTTP server asks of a model, and what it gets: texts, never a tensor or a token's meaning.

The server knows this protocol only, so that its tests run on a model of ten lines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from flan_lora.serving.completion import Choice, Text


@dataclass(frozen=True, slots=True)
class Query:
    """One text to be answered."""

    text: Text
    choice: Choice
    """An adapter's name, ``"auto"``, a weighted mix, or None: the bare base."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Those that differ from the adapter's own (`GenerationParams`); not ``stop``."""
    ranks_candidates: bool = False
    """Whether the best of them come first, where they were drawn."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these."""
    task: str | None = None
    """Whose prompt, limits and parser to use, in place of the adapter's own."""
    abstain: Literal["error", "base"] = "error"
    """What ``"auto"`` does with a text that is like those of no adapter."""
    label_probabilities: bool = False
    is_streamed: bool = False
    """Whether pieces are wanted before the end."""
    num_log_probs: int | None = None
    """Of each token the log-probability, and so many likelier or other tokens' beside it; None: none."""

    @property
    def num_candidates(self) -> int:
        """Answers to be generated."""
        return int(self.params.get("num_return_sequences", 1))


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """One token of an answer."""

    text: str
    """With the space before it; joined, they are what the base wrote."""
    log_prob: float
    """nats"""
    top: Sequence[tuple[str, float]] = ()
    """The likeliest tokens in its place, best first."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the answers to a text."""

    text: str
    finish_reason: Literal["stop", "length"]
    mean_log_prob: float
    """Per token (nats)."""
    tokens: Sequence[ScoredToken] | None = None
    """Where `Query.num_log_probs` asks for them; without eos."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a query."""

    candidates: Sequence[Candidate]
    """Best first; as they were drawn where they were sampled."""
    num_completion_tokens: int
    """Generated for all candidates, in all windows of a long text."""
    label_probabilities: Mapping[str, float] | None = None
    queued_s: float = 0.0
    """Waited for a place in the batch."""
    first_token_s: float = 0.0
    """From submission to the first token."""
    total_s: float = 0.0
    """From submission to the last token."""


class Answering(Protocol):
    """A query under way."""

    adapter: str | None
    """Who answers: an adapter's name, None = the bare base."""
    digest: str
    """Of its weights as they are used here; empty for the base and for mixes."""
    num_prompt_tokens: int
    """Read by the base."""
    route: Mapping[str, Any] | None
    """How ``"auto"`` chose."""

    def pieces(self) -> AsyncIterator[str]:
        """The first candidate's text as it comes; joined, they are its text. Raises what `answered` raises."""

    async def answered(self) -> Answered:
        """The whole. Raises FlanLoraError."""

    def cancel(self) -> None:
        """Let its rows leave the batch before the next step; harmless after the end."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One line of `/v1/models`."""

    name: str
    created: int
    """Unix time (s)."""
    digest: str
    """Of the weights; sha256, hexadecimal."""
    task: str | None = None
    inputs: tuple[str, ...] = ("text",)
    labels: tuple[str, ...] = ()
    summary: str = ""
    is_routable: bool = False
    """Whether ``auto`` may choose it."""


@dataclass(frozen=True, slots=True)
class ModelStats:
    """Counters and gauges for `/metrics`."""

    num_running: int = 0
    num_waiting: int = 0
    num_steps: int = 0
    num_loads: int = 0
    num_evictions: int = 0
    num_cache_hits: int = 0
    max_loras: int = 0
    """Adapters that fit into memory."""
    num_resident: int = 0
    running_adapters: frozenset[str] = frozenset()
    """With a request that has its first token."""
    waiting_adapters: frozenset[str] = frozenset()
    """With a request that has not."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Texts as vectors."""

    vectors: Sequence[Sequence[float]]
    """One for each text, d_model numbers, of length 1."""
    num_tokens: int = 0


class ServedModel(Protocol):
    """One base and its adapters. Methods may block: the server calls them in threads, several at once.

    But for `stats` and `describe`, which only read, and which it calls in its event loop.
    """

    base: ModelInfo
    slug: str
    """The base's folder under the adapter root."""
    aliases: frozenset[str]
    """Other names of the base."""

    def adapters(self) -> list[ModelInfo]:
        """The published adapters that fit this base, and those that were loaded."""

    def adapter(self, name: str) -> ModelInfo:
        """One of them. Raises UnknownAdapterError."""

    def card(self, name: str) -> dict[str, Any]:
        """What an adapter's folder says: recipe, scores, training log, card. Raises UnknownAdapterError."""

    def start(self, query: Query, loop: asyncio.AbstractEventLoop) -> Answering:
        """Put a query into the queue; ``loop`` is where the answer will be read.

        Raises FlanLoraError before anything runs, QueueFullError among them.
        """

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Pooled encoder states of the bare base."""

    def load(self, name: str) -> ModelInfo:
        """Serve the weights that are published under a name now, in place of any that were loaded before."""

    def unload(self, name: str) -> None:
        """Free an adapter once nobody uses it."""

    def stats(self) -> ModelStats:
        """Counters so far."""

    def describe(self) -> str:
        """Memory and slots in a line, for the operator."""

    def close(self, timeout_s: float) -> None:
        """End, with what still runs."""
