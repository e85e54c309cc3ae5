"""An ingress and its replicas in one process, without a cluster: a handle that calls the replicas themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from flan_lora.serving.ray import EngineReplica, Ingress
from flan_lora.serving.ray_options import RayServeOptions, parse_options
from tests.serving.openai.fake import TLS, FakeModel, Served, listening


@dataclass
class LocalResponse:
    """`DeploymentResponseGenerator` of a replica in this process."""

    messages: AsyncIterator[Any]
    is_cancelled: bool = False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self.messages

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class LocalBroadcast:
    """`DeploymentBroadcastResponse` of replicas in this process."""

    calls: Sequence[Awaitable[Any]]

    async def results_async(self, *, timeout_s: float | None = None) -> list[Any]:
        return [await call for call in self.calls]


@dataclass
class LocalMethod:
    """A method of the deployment."""

    handle: LocalHandle
    name: str

    def remote(self, *arguments: Any) -> Any:
        called = getattr(self.handle.replicas[0], self.name)(*arguments)
        if self.name != "answer":
            return called
        error, self.handle.errors = self.handle.errors[:1], self.handle.errors[1:]
        self.handle.adapters.append(self.handle.adapter)
        self.handle.responses.append(LocalResponse(_dying(called, error[0]) if error else called))
        return self.handle.responses[-1]


async def _dying(messages: AsyncIterator[Any], death: tuple[int, Exception]) -> AsyncIterator[Any]:
    """So many parts of an answer, then an error."""
    num_parts, error = death
    async for part in messages:
        if not num_parts:
            break
        num_parts -= 1
        yield part
    raise error


@dataclass
class LocalHandle:
    """`DeploymentHandle` of replicas in this process."""

    replicas: list[EngineReplica]
    errors: list[tuple[int, Exception]] = field(default_factory=list)
    """Of the next requests: after so many parts of the answer, this."""
    adapters: list[str] = field(default_factory=list)
    """Model ids that requests were sent with."""
    responses: list[LocalResponse] = field(default_factory=list)
    adapter: str = ""

    def options(self, *, stream: bool, multiplexed_model_id: str) -> LocalHandle:
        assert stream
        self.adapter = multiplexed_model_id
        return self

    def __getattr__(self, name: str) -> LocalMethod:
        return LocalMethod(self, name)

    def broadcast(self, name: str, *arguments: Any) -> LocalBroadcast:
        return LocalBroadcast([getattr(replica, name)(*arguments) for replica in self.replicas])


@dataclass
class Carried:
    """An ingress, its handle, and a client of the HTTP API."""

    ingress: Ingress
    handle: LocalHandle
    served: Served


@contextmanager
def carried(model: FakeModel | None = None, num_replicas: int = 1, **settings: Any) -> Iterator[Carried]:
    """A server as on Ray, of a model of words."""
    model = model or FakeModel()
    options: RayServeOptions = parse_options({"host": "127.0.0.1", "server": settings})
    log: list[dict[str, Any]] = []
    replicas = [EngineReplica(options, lambda _: model) for _ in range(num_replicas)]
    handle = LocalHandle(replicas)
    ingress = Ingress(options, handle, log.append)
    app = ingress.__serve_build_asgi_app__()
    with listening(app) as url, httpx.Client(base_url=url, timeout=60, verify=TLS) as client:
        try:
            yield Carried(ingress, handle, Served(ingress._app, model, url, client, log))
        finally:
            model.release()
