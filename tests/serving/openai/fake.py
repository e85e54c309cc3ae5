"""A model without weights, and a server around it in a thread: what the HTTP layer does, without an engine.

It answers a text with its words in reverse order, one word a step, and steps only when a test lets it where the
test wants to look in between.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp

from flan_lora.errors import DataError, FlanLoraError, QueueFullError, UnknownAdapterError
from flan_lora.serving.openai.app import App
from flan_lora.serving.openai.errors import unavailable
from flan_lora.serving.openai.served import (
    Answered,
    Candidate,
    Embedded,
    ModelInfo,
    ModelStats,
    Query,
    ScoredToken,
    ServedModel,
)
from flan_lora.serving.openai.settings import ServerSettings
from flan_lora.serving.openai.text_stream import first_stop
from tests.published import manifest_values
from tests.waiting import wait_until

TLS = ssl.create_default_context()
"""Made once: httpx would read the machine's certificates for every client, though nothing here is encrypted."""
ADAPTERS = {
    "emotion": ModelInfo(
        "emotion", 1_700_000_000, "ab" * 32, "emotion", ("text",), ("joy", "fear"), "Emotions", True
    ),
    "qa": ModelInfo("qa", 1_700_000_001, "cd" * 32, "qa", ("context", "question"), (), "Answers"),
}


@dataclass
class FakeModel:
    """`ServedModel` of the words themselves."""

    base: ModelInfo = field(default_factory=lambda: ModelInfo("mini", 1_600_000_000, "ef" * 32))
    slug: str = "mini"
    aliases: frozenset[str] = frozenset({"google/mini"})
    max_running: int = 1000
    step_s: float = 0.0
    blocks: bool = False
    """Whether answers wait for `release`."""
    asked: list[Query] = field(default_factory=list)
    running: set[FakeAnswering] = field(default_factory=set)
    loaded: list[str] = field(default_factory=list)
    is_closed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    error: FlanLoraError | None = None
    """Raised after the first piece of the next answer."""

    def adapters(self) -> list[ModelInfo]:
        return [*ADAPTERS.values()]

    def adapter(self, name: str) -> ModelInfo:
        if name not in ADAPTERS:
            raise UnknownAdapterError(f"no adapter {name!r}")
        return ADAPTERS[name]

    def card(self, name: str) -> dict[str, Any]:
        return {"manifest": manifest_values(name), "metrics": None, "curves": {}, "readme": ""}

    def start(self, query: Query, loop: asyncio.AbstractEventLoop) -> FakeAnswering:
        if query.text == "unreadable":
            raise DataError("the text cannot be read.")
        if query.text == "bug":
            raise ZeroDivisionError("a secret of the server")
        answering = FakeAnswering(self, query)
        with self.lock:
            if len(self.running) >= self.max_running:
                raise QueueFullError("1 request waits, and no more may.")
            self.asked.append(query)
            self.running.add(answering)
        return answering

    def embed(self, texts: Sequence[str]) -> Embedded:
        return Embedded([[float(len(text)), 0.5] for text in texts], sum(map(len, texts)))

    def load(self, name: str) -> ModelInfo:
        info = self.adapter(name)
        self.loaded.append(name)
        return info

    def unload(self, name: str) -> None:
        self.loaded.remove(self.adapter(name).name)

    def stats(self) -> ModelStats:
        waiting = frozenset(each.adapter for each in self.running if each.adapter)
        return ModelStats(num_running=len(self.running), max_loras=8, waiting_adapters=waiting)

    def describe(self) -> str:
        return "no memory"

    def close(self, timeout_s: float) -> None:
        self.is_closed = True

    def release(self) -> None:
        """Let answers go on."""
        self.blocks = False


@dataclass(eq=False)
class FakeAnswering:
    """A query under way."""

    model: FakeModel
    query: Query
    is_cancelled: bool = False
    route: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        choice = self.query.choice
        if choice == "auto":
            choice, self.route = "emotion", {"adapter": "emotion", "reason": "most like emotion"}
        self.adapter = max(choice, key=lambda name: choice[name]) if isinstance(choice, Mapping) else choice
        self.digest = ADAPTERS[self.adapter].digest if self.adapter else ""
        text = self.query.text if isinstance(self.query.text, str) else " ".join(self.query.text.values())
        self.words = text.split()[::-1]
        self.num_prompt_tokens = len(self.words) + 1
        self.whole = " ".join(self.words[: self.query.params.get("max_new_tokens")])
        self.whole = self.whole[: first_stop(self.whole, self.query.stop)]

    async def pieces(self) -> AsyncIterator[str]:
        for place, word in enumerate(self.whole.split()):
            await self._step()
            yield word if place == 0 else f" {word}"
            if self.model.error is not None:
                error, self.model.error = self.model.error, None
                raise error

    async def answered(self) -> Answered:
        await self._step()
        self.model.running.discard(self)
        candidates = [
            Candidate(self.whole, "stop", -0.5, self._tokens()) for _ in range(self.query.num_candidates)
        ]
        labels = {"joy": 0.75, "fear": 0.25} if self.query.label_probabilities else None
        return Answered(candidates, len(self.whole.split()) + 1, labels, 0.01, 0.02, 0.05)

    def _tokens(self) -> list[ScoredToken] | None:
        """Each word with a space before it, likelier than the same word in capitals."""
        if (number := self.query.num_log_probs) is None:
            return None
        texts = [word if place == 0 else f" {word}" for place, word in enumerate(self.whole.split())]
        return [ScoredToken(text, -0.5, [(text, -0.5), (text.upper(), -1.5)][:number]) for text in texts]

    def cancel(self) -> None:
        self.is_cancelled = True
        self.model.running.discard(self)

    async def _step(self) -> None:
        await asyncio.sleep(self.model.step_s)
        while self.model.blocks and not self.model.is_closed:
            await asyncio.sleep(0.005)
        if self.model.is_closed:
            raise unavailable("the server stopped before the answer was whole.", "draining")


@dataclass
class Served:
    """A server in a thread, a model to look into, and a client."""

    app: App
    model: FakeModel
    url: str
    client: httpx.Client
    log: list[dict[str, Any]]

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.client.post(path, json=body, **options)

    def complete(self, **body: Any) -> httpx.Response:
        return self.post("/v1/completions", {"model": "mini", "prompt": "one two three", **body})

    def chat(self, *messages: Mapping[str, Any] | str, **body: Any) -> httpx.Response:
        said = [{"role": "user", "content": each} if isinstance(each, str) else each for each in messages]
        return self.post("/v1/chat/completions", {"model": "mini", "messages": said, **body})


@contextmanager
def running_app(model: ServedModel, **settings: Any) -> Iterator[tuple[App, str, list[dict[str, Any]]]]:
    """The application, its URL on a free port of the loopback, and its log; stopped at the end."""
    log: list[dict[str, Any]] = []
    app = App(ServerSettings(**settings), "1.2.3", log.append)
    app.serve(model)
    with listening(app) as url:
        yield app, url, log


@contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """An application's URL on a free port of the loopback; stopped at the end."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


@contextmanager
def served(model: FakeModel | None = None, **settings: Any) -> Iterator[Served]:
    """A server of a model of words, and a client."""
    model = model or FakeModel()
    with (
        running_app(model, **settings) as (app, url, log),
        httpx.Client(base_url=url, timeout=60, verify=TLS) as client,
    ):
        try:
            yield Served(app, model, url, client, log)
        finally:
            model.release()
