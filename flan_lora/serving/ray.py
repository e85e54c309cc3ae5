"""The HTTP API on Ray Serve: one ingress, any number of engines, each request where its adapter is.

    client -> Serve's proxy -> Ingress (keys, sizes, log, retries) -> EngineReplica (the `App` of one machine)

A replica answers with the same ASGI application as `flan-lora serve`; the ingress carries its messages. It has
read the body, so it knows the adapter, and Serve's multiplexing prefers a replica that has it, until that one is
full; and it can ask another replica where one dies. Serve's proxy knows only headers, and asks once.

    serve run flan_lora.serving.ray:app base=mini adapters_dir=/srv/adapters max_replicas=4
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import anyio
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flan_lora.adapters.remote_store import adapter_root
from flan_lora.errors import FlanLoraError, QueueFullError
from flan_lora.serving.completion import AUTO
from flan_lora.serving.openai.access_log import json_lines
from flan_lora.serving.openai.app import App
from flan_lora.serving.openai.errors import ClientGone, error_body, unavailable
from flan_lora.serving.openai.metrics import by_replica
from flan_lora.serving.openai.router_model import open_router_model
from flan_lora.serving.openai.served import ServedModel
from flan_lora.serving.openai.server import SWITCH_INTERVAL_S
from flan_lora.serving.openai.texts import resolve
from flan_lora.serving.ray_options import RayServeOptions, parse_options

INGRESS, ENGINE = "ingress", "engine"
_MAX_TRIES = 4
"""Replicas that one request is given to: each but the last died on it."""
_GRACE_S = 5.0
"""For a replica to say itself that the time is over."""
_METRICS_S = 5.0
_MAX_ONGOING = 10_000
"""Requests of one ingress: it only waits, and counts those itself that may."""
_FOR_ALL = frozenset(("/v1/load_lora_adapter", "/v1/unload_lora_adapter"))
_LOG = "flan_lora.log"
"""The type of a replica's last message: what its application adds to the line of the log."""
_CARRIED = (
    "type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers",
    "root_path", "client", "server",
)  # fmt: skip
"""Of ASGI's scope, where the server gives them."""


@dataclass(frozen=True, slots=True)
class CarriedRequest:
    """An HTTP request on its way from the ingress to a replica."""

    scope: Mapping[str, Any]
    """ASGI's, of plain values."""
    body: bytes

    @property
    def adapter(self) -> str:
        """What its body names as model; empty where it names none."""
        if self.scope["method"] != "POST":
            return ""
        with suppress(ValueError, RecursionError):
            body = json.loads(self.body)
            if isinstance(body, dict) and isinstance(body.get("model"), str):
                return str(body["model"])
        return ""


class EngineReplica:
    """One base, its adapters and their engine. Answers whole HTTP requests, as `flan-lora serve` does."""

    def __init__(
        self, options: RayServeOptions, open_model: Callable[[RayServeOptions], ServedModel] | None = None
    ) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._model = (open_model or _open_model)(options)
        # host names and origins are the ingress's to check
        self._app = App(replace(options.settings, host="", allowed_origins=()), _version())
        self._app.serve(self._model)

        async def use(name: str) -> str:
            """Nothing to do: the engine loads what a request needs. Serve's LRU list only says what is here."""
            return name

        self._use = serve.multiplexed(use, max_num_models_per_replica=options.max_loras)

    async def bases(self) -> frozenset[str]:
        """Names that mean the bare base."""
        return frozenset({self._model.base.name, *self._model.aliases})

    async def served(self) -> tuple[str, list[str]]:
        """The base's name, and the adapters'."""
        adapters = await asyncio.to_thread(self._model.adapters)
        return self._model.base.name, [info.name for info in adapters]

    async def metrics(self) -> tuple[str, bytes]:
        """This replica's name and exposition."""
        return _name(), self._app.exposition()

    async def answer_whole(self, request: CarriedRequest) -> list[Message]:
        """All messages of `answer`."""
        return [message async for part in self.answer(request) for message in part]

    async def answer(self, request: CarriedRequest) -> AsyncGenerator[list[Message]]:
        """ASGI messages: all of them at once, but of an event stream as they come."""
        await self._prefer_me(serve.get_multiplexed_model_id())
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        scope = {**request.scope, "state": dict(request.scope["state"])}
        answering = asyncio.ensure_future(self._call_app(scope, request.body, messages))
        held: list[Message] = []
        is_stream = False
        try:
            while (message := await messages.get()) is not None:
                held.append(message)
                is_stream = is_stream or _begins_stream(message)
                if is_stream and messages.empty():
                    yield held
                    held = []
            await answering  # raises what the application raised
            yield [*held, {"type": _LOG, **scope["state"]["log"]}]
        finally:  # Serve cancels this when nobody reads any more
            answering.cancel()

    async def _call_app(self, scope: Scope, body: bytes, messages: asyncio.Queue[Message | None]) -> None:
        is_read = False

        async def receive() -> Message:
            nonlocal is_read
            if is_read:
                await asyncio.Event().wait()  # who hangs up ends this task
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        try:
            await self._app(scope, receive, messages.put)
        finally:
            messages.put_nowait(None)

    async def _prefer_me(self, name: str) -> None:
        """Have Serve send this adapter's next requests here; nothing that is no adapter."""
        if not name:
            return
        with suppress(FlanLoraError):
            if await asyncio.to_thread(_is_adapter, self._model, name):
                await self._use(name)


class Ingress:
    """Takes HTTP requests and has replicas answer them. Several may run side by side."""

    def __init__(
        self, options: RayServeOptions, engines: Any, write_log: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        """
        Args:
            engines: handle of the `EngineReplica` deployment.
            write_log: takes each record of the log; None: JSON lines on standard error.
        """
        write_log = (write_log or json_lines()) if options.settings.logs_requests else None
        self._settings, self._engines = options.settings, engines
        self._bases: frozenset[str] | None = None
        self._app = App(self._settings, _version(), write_log)
        self._app.forward(self._forward, self._gathered)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """For Serve, once this object is made."""
        return _numbered(self._app)

    async def served(self) -> tuple[str, list[str]]:
        """What a replica says that it serves."""
        found: tuple[str, list[str]] = await self._engines.served.remote()
        return found

    async def drain(self, timeout_s: float) -> int:
        """Let nobody in any more and wait for who is in; the number that the time was too short for."""
        return await self._app.lifecycle.drain(timeout_s)

    async def _gathered(self, own: bytes) -> bytes:
        found = await self._engines.broadcast("metrics").results_async(timeout_s=_METRICS_S)
        return by_replica({f"{INGRESS}-{_name()}": own, **dict(found)})

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = CarriedRequest(_carried(scope), await _body(receive))
        relay = _Relay(scope, send)
        with anyio.fail_after(self._settings.request_timeout_s + _GRACE_S):
            if scope["path"] in _FOR_ALL:
                for message in await self._asked_everywhere(request):
                    await relay(message)
                return
            for num_left in reversed(range(_MAX_TRIES)):
                try:
                    return await self._ask(request, relay)
                except RayActorError as error:
                    lost = unavailable("the replica that answered has died; ask again.", "replica_died")
                    if relay.has_begun:
                        return await relay.end_stream(error_body(lost))
                    if not num_left:
                        raise lost from error

    async def _ask(self, request: CarriedRequest, relay: _Relay) -> None:
        """Have one replica answer. Raises RayActorError where it dies."""
        adapter = await self._adapter_of(request)
        response = self._engines.options(stream=True, multiplexed_model_id=adapter).answer.remote(request)
        try:
            async for messages in response:
                for message in messages:
                    await relay(message)
        except BackPressureError as error:
            raise QueueFullError("too many requests wait for a replica.") from error
        except DeploymentUnavailableError as error:
            raise unavailable("no replica is there to answer.", "no_replica") from error
        except BaseException:
            response.cancel()
            raise

    async def _adapter_of(self, request: CarriedRequest) -> str:
        """The name that replicas are chosen by; empty for the base and for ``auto``, which any of them answers."""
        if (name := request.adapter) in ("", AUTO):
            return ""
        if self._bases is None:
            self._bases = await self._engines.bases.remote()
        base, colon, rest = name.partition(":")
        name = rest if colon and base in self._bases else name
        return "" if name in self._bases or name == AUTO else name

    async def _asked_everywhere(self, request: CarriedRequest) -> list[Message]:
        """The first answer that is an error, else any: what changes adapters is for every replica."""
        found: list[list[Message]] = await self._engines.broadcast("answer_whole", request).results_async()
        return max(found, key=lambda messages: int(messages[0]["status"]) >= 400)


class _Relay:
    """Sends a replica's messages to the client."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._log, self._send = scope["state"]["log"], send
        self.has_begun = False
        """Only an event stream can have begun without being whole."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == _LOG:
            self._log.update({key: value for key, value in message.items() if key != "type"})
            return
        self.has_begun = True
        await self._send(message)

    async def end_stream(self, error: Mapping[str, Any]) -> None:
        """An error that comes late is an event, as on one machine."""
        events = f"data: {json.dumps(error)}\n\ndata: [DONE]\n\n"
        self._log["error"] = error["error"]["code"]
        await self._send({"type": "http.response.body", "body": events.encode("utf-8"), "more_body": False})


def app(arguments: Mapping[str, Any]) -> Any:
    """The Serve application, of the arguments in `RayServeOptions`.

    Raises:
        RayOptionsError: they are not valid.
    """
    options = parse_options(arguments)
    drain_s = options.settings.drain_timeout_s
    engines = serve.deployment(EngineReplica).options(
        name=ENGINE,
        max_ongoing_requests=options.max_running,
        max_queued_requests=options.max_waiting,
        ray_actor_options={"num_cpus": options.num_cpus, "num_gpus": options.num_gpus},
        graceful_shutdown_timeout_s=drain_s,
        **options.scaling,
    )
    ingress = serve.deployment(serve.ingress()(Ingress)).options(
        name=INGRESS,
        num_replicas=options.num_ingress_replicas,
        max_ongoing_requests=_MAX_ONGOING,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=drain_s + _GRACE_S,
    )
    # the keys of the environment where this runs: a replica's node need not have them
    told = options.model_copy(update={"server": options.settings})
    return ingress.bind(told, engines.bind(told))


def _numbered(app: ASGIApp) -> ASGIApp:
    """Serve's proxy numbers requests and says so to the client; the log has the same number."""

    async def numbered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (given := Headers(scope=scope).get("x-request-id")):
            scope.setdefault("state", {})["request_id"] = given

        async def unnumbered(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [pair for pair in message["headers"] if pair[0] != b"x-request-id"]
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, unnumbered)

    return numbered


def _is_adapter(model: ServedModel, name: str) -> bool:
    """Raises UnknownAdapterError where it is neither that nor the base."""
    return resolve(model, name) is not None


def _version() -> str:
    """Of this package; a node that got it as bare modules (Ray's ``py_modules``) does not know."""
    try:
        return version("flan-lora")
    except PackageNotFoundError:
        return "unknown"


def _name() -> str:
    """Of this process, as Serve calls it."""
    return str(serve.get_replica_context().replica_id.unique_id)


def _open_model(options: RayServeOptions) -> ServedModel:
    return open_router_model(
        adapter_root(options.adapters_dir),
        options.base,
        device=options.device,
        max_loras=options.max_loras,
        max_running=options.max_running,
        max_waiting=options.max_waiting,
        serve_precision=options.serve_precision,
    )


def _carried(scope: Scope) -> dict[str, Any]:
    carried = {key: scope[key] for key in _CARRIED if key in scope}
    return {**carried, "state": {"request_id": scope["state"]["request_id"]}}


def _begins_stream(message: Message) -> bool:
    return message["type"] == "http.response.start" and any(
        name == b"content-type" and value.startswith(b"text/event-stream") for name, value in message["headers"]
    )


async def _body(receive: Receive) -> bytes:
    """Of a request; the gate before this limits its size and time. Raises ClientGone."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
