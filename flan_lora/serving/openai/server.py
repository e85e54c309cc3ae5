"""A process that serves: its socket, its signals, and an end that loses no request.

SIGTERM or Ctrl-C   /ready says no, new requests get 503, running ones end within the drain time; exit code 0
again               stop at once
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from flan_lora.errors import FlanLoraError
from flan_lora.serving.openai.app import App
from flan_lora.serving.openai.served import ServedModel

_LINGER_S = 0.3
"""The socket stays open so long after the last answer: who had just connected gets a 503 and not a reset."""
_CLOSE_S = 5.0
"""For connections to close, and the engine to end, once nothing runs any more."""
SWITCH_INTERVAL_S = 0.0005
"""How long one thread keeps Python from another. The engine waits for the loop after its products, and in Python's
own 5 ms it could have done two steps of a small base (docs/log.md: 12 to 14 % of its throughput went that way)."""


class ServerError(FlanLoraError):
    """The server cannot listen where it shall."""


class _Uvicorn(uvicorn.Server):
    """Uvicorn that drains before it closes its socket, and then exits with 0."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_stop, self._is_stopping = on_stop, False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Uvicorn's own would close the socket at once and raise the signal again at the end."""
        if self._is_stopping:
            self.should_exit = self.force_exit = True
        self._is_stopping = True
        self._on_stop()


def serve(app: App, open_model: Callable[[], ServedModel], on_ready: Callable[[str, ServedModel], None]) -> None:
    """Serve until a signal ends it.

    The port answers from the start; the model is opened meanwhile, in a thread.

    Args:
        on_ready: called once with the URL, when requests are let in.

    Raises:
        ServerError: the address cannot be used.
        What ``open_model`` raises.
    """
    before = sys.getswitchinterval()
    with _listen(app.settings.host, app.settings.port) as listener:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        try:
            asyncio.run(_run(app, listener, open_model, on_ready))
        finally:
            sys.setswitchinterval(before)


async def _run(
    app: App,
    listener: socket.socket,
    open_model: Callable[[], ServedModel],
    on_ready: Callable[[str, ServedModel], None],
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    config = uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=int(_CLOSE_S),
        timeout_keep_alive=30,
    )
    server = _Uvicorn(config, lambda: loop.call_soon_threadsafe(stop.set))
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    opening = _in_daemon_thread(open_model)
    stopping = asyncio.ensure_future(stop.wait())
    everything: set[asyncio.Future[Any]] = {serving, opening, stopping}
    try:
        await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            app.serve(opening.result())
            assert app.model is not None
            on_ready(url_of(listener), app.model)
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            await _drain(app, serving)
    finally:
        stopping.cancel()
        is_forced = serving.done()
        server.should_exit = True
        if app.model is not None:
            await asyncio.to_thread(app.model.close, 0.0 if is_forced else _CLOSE_S)
            await app.lifecycle.drain(_LINGER_S)  # who was given up is told so
        await serving


async def _drain(app: App, serving: asyncio.Future[None]) -> None:
    """Let who is in end, unless a second signal ends ``serving`` first."""
    draining = asyncio.ensure_future(app.lifecycle.drain(app.settings.drain_timeout_s))
    either: set[asyncio.Future[Any]] = {serving, draining}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    draining.cancel()
    if not serving.done():
        await asyncio.sleep(_LINGER_S)


def _in_daemon_thread(function: Callable[[], ServedModel]) -> asyncio.Future[ServedModel]:
    """Run a function that cannot be interrupted, and that the end of the process need not wait for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[ServedModel] = loop.create_future()

    def settle(value: ServedModel | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            assert value is not None
            future.set_result(value)

    def run() -> None:
        try:
            value, error = function(), None
        except BaseException as caught:
            value, error = None, caught
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:  # the loop has ended meanwhile
            pass

    threading.Thread(target=run, name="flan-lora-open", daemon=True).start()
    return future


def url_of(listener: socket.socket) -> str:
    """Where a listening socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ServerError(
            f"cannot listen on {host} port {port}: {error.strerror or error}.\n"
            "Give another port (--port; 0 takes a free one), or stop what uses it."
        ) from error
    return listener
