"""The ASGI application: routes, and the layers around them in their order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from flan_lora.serving.openai.access_log import AccessLog
from flan_lora.serving.openai.adapters import Adapters
from flan_lora.serving.openai.endpoints import Endpoints
from flan_lora.serving.openai.gate import Gate
from flan_lora.serving.openai.lifecycle import Lifecycle, Phase
from flan_lora.serving.openai.metrics import Metrics
from flan_lora.serving.openai.served import ServedModel
from flan_lora.serving.openai.settings import ServerSettings
from flan_lora.serving.playground import page_routes

LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))


@dataclass
class App:
    """The application of one server. It answers before its model is there: /health, and 503 for the rest."""

    settings: ServerSettings
    version: str
    write_log: Callable[[dict[str, Any]], None] | None = None
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    model: ServedModel | None = None

    def __post_init__(self) -> None:
        self._metrics: Metrics | None = None
        self._routes: ASGIApp = Router(self._probes(), redirect_slashes=False)
        gate = Gate(self._route, self.settings, self.lifecycle)
        app: ASGIApp = gate
        if self.settings.host in LOOPBACK:  # a page elsewhere whose name is made to point here (DNS rebinding)
            app = TrustedHostMiddleware(app, [*LOOPBACK, "[::1]"])
        app = AccessLog(app, self.write_log, self._count_error)
        if self.settings.allowed_origins:  # outermost: a browser asks without a key, and must read errors too
            app = CORSMiddleware(
                app, self.settings.allowed_origins, allow_methods=["GET", "POST"], allow_headers=["*"]
            )
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def serve(self, model: ServedModel) -> None:
        """Answer with this model from now on."""
        self._metrics = metrics = Metrics(model.stats)
        endpoints = Endpoints(model, self.settings, metrics)
        changes = self.settings.allows_adapter_changes and bool(self.settings.api_keys)
        adapters = Adapters(model, changes)

        async def exposition() -> bytes:
            return metrics.text()

        self.model = model
        self._routes = Router(
            [
                Route("/v1/completions", endpoints.completions, methods=["POST"]),
                Route("/v1/chat/completions", endpoints.chat, methods=["POST"]),
                Route("/v1/embeddings", endpoints.embeddings, methods=["POST"]),
                Route("/v1/models", adapters.models),
                Route("/v1/models/{id}", adapters.one),
                Route("/v1/models/{id}/card", adapters.card),
                Route("/v1/load_lora_adapter", adapters.load, methods=["POST"]),
                Route("/v1/unload_lora_adapter", adapters.unload, methods=["POST"]),
                _metrics_route(exposition),
                *self._probes(),
            ],
            redirect_slashes=False,
        )
        self.lifecycle.phase = Phase.READY

    def forward(self, to: ASGIApp, gathered: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Have other processes answer from now on, behind the same keys, limits and log.

        Args:
            to: takes every request but those for probes, pages and metrics.
            gathered: what `/metrics` shows, of this process's own exposition.
        """
        self._metrics = metrics = Metrics(None)

        async def exposition() -> bytes:
            return await gathered(metrics.text())

        routes = [_metrics_route(exposition), *self._probes()]
        self._routes = Router(routes, redirect_slashes=False, default=to)
        self.lifecycle.phase = Phase.READY

    def exposition(self) -> bytes:
        """What `/metrics` shows of this process; nothing before there is a model."""
        return b"" if self._metrics is None else self._metrics.text()

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Through a method, because the routes change when the model is there."""
        await self._routes(scope, receive, send)

    def _count_error(self, code: str) -> None:
        if self._metrics is not None:
            self._metrics.failed(code)

    def _probes(self) -> list[Route]:
        return [
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/version", self._version),
            *page_routes(),
        ]

    async def _health(self, request: Request) -> Response:
        """The process answers; it may still be starting, or already be draining."""
        return JSONResponse({"status": "ok"})

    async def _ready(self, request: Request) -> Response:
        """Whether new requests are let in."""
        phase = self.lifecycle.phase
        return JSONResponse({"status": phase.value}, 200 if phase is Phase.READY else 503)

    async def _version(self, request: Request) -> Response:
        return JSONResponse({"version": self.version})


def _metrics_route(exposition: Callable[[], Awaitable[bytes]]) -> Route:
    async def metrics(request: Request) -> Response:
        return Response(await exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return Route("/metrics", metrics)
