"""`flan-lora serve --ray`: the application on a cluster, from here, until a signal ends it.

SIGTERM or Ctrl-C   /ready says no, new requests get 503, running ones end within the drain time; exit code 0
again               end at once; what runs on the cluster is taken down by it
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray import serve as ray_serve
from ray.serve.config import HTTPOptions
from ray.serve.context import _get_global_client

from flan_lora.serving.ray import app
from flan_lora.serving.ray_options import RayServeOptions
from flan_lora.system.ray_cluster import ClusterError, connected

NAME = "flan-lora"
"""Of the application."""
_SLACK_S = 10.0
"""For the way to the ingress and back, beside the drain time."""


def serve(options: RayServeOptions, port: int, on_ready: Callable[[str, str, Sequence[str], str], None]) -> None:
    """Serve until a signal ends it, on the cluster that RAY_ADDRESS names or that runs here, else on an own one.

    Args:
        port: of Serve's proxies; 0 takes a free one. A cluster whose Serve runs already keeps its own, host and
            port, which is what `on_ready` gets.
        on_ready: called once with the URL, the base's name, the adapters' and a line on replicas.

    Raises:
        ClusterError: the cluster cannot be reached or serves the application already, or it does not start.
    """
    port = port or _free_port(options.host)
    with connected(), _until_signal() as stopped:  # after Ray's own handlers, which end the process at once
        ray_serve.start(http_options=HTTPOptions(host=options.host, port=port))
        if NAME in ray_serve.status().applications:
            raise ClusterError(
                f"this cluster serves the application {NAME!r} already.\n"
                f"End the other `flan-lora serve --ray`, or take it down with `serve.delete({NAME!r})`."
            )
        try:
            ingress = _deploy(options)
            base, adapters = ingress.served.remote().result(timeout_s=options.settings.request_timeout_s)
            http = _get_global_client().http_config
            on_ready(f"http://{http.host}:{http.port}", base, adapters, f"Ray Serve, {_scale(options)}")
            stopped.wait()
            drain_s = options.settings.drain_timeout_s
            ingress.broadcast("drain", drain_s).results(timeout_s=drain_s + _SLACK_S)
        finally:
            ray_serve.delete(NAME)


def _scale(options: RayServeOptions) -> str:
    most = f" to {options.max_replicas}" if options.is_scaled else ""
    return f"replicas: {options.min_replicas}{most}"


def _deploy(options: RayServeOptions) -> Any:
    try:
        return ray_serve.run(app(options.model_dump()), name=NAME, route_prefix="/")
    except RuntimeError as error:
        raise ClusterError(
            f"the application did not start: {error}\nThe lines above say why; every node needs the base and "
            f"{options.adapters_dir}."
        ) from error


@contextmanager
def _until_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set; a second one ends the process as it always does."""
    stopped = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, frame: FrameType | None) -> None:
        if stopped.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stopped.set()

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port(host: str) -> int:
    """Free a moment ago: Serve takes no 0."""
    with socket.socket() as found:
        found.bind((host, 0))
        return int(found.getsockname()[1])
