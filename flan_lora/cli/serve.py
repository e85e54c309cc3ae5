"""``flan-lora serve``: every adapter of a base behind one URL, and a page to try them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flan_lora.cli.options import adapters_dir_option
from flan_lora.cli.serving import ServingCommand, serving_base_option
from flan_lora.system.ray_cluster import check_ray

if TYPE_CHECKING:
    from flan_lora.engine.model_runner import ServePrecision
    from flan_lora.serving.openai.served import ServedModel

_REPLICAS = "With --ray: processes with an engine each; MIN-MAX scales with the queue."


@click.command(cls=ServingCommand)
@serving_base_option
@adapters_dir_option
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0: every address of this machine.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free port.")
@click.option(
    "--api-key",
    "api_keys",
    multiple=True,
    metavar="KEY",
    help="A key that opens /v1. Repeatable. [default: FLAN_LORA_API_KEY, several with commas between]",
)
@click.option(
    "--max-loras", type=click.IntRange(min=1), default=8, show_default=True, help="Adapters that stay in memory."
)
@click.option(
    "--max-running", type=click.IntRange(min=1), default=32, show_default=True, help="Sequences decoded at once."
)
@click.option(
    "--max-waiting",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Texts in the queue; beyond that, 429.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Default: the GPU when there is one.")
@click.option(
    "--serve-precision",
    type=click.Choice(["exact", "int8"]),
    default="exact",
    show_default=True,
    help="int8: the head and the feed-forwards' way back in int8, too; faster on a CPU, some answers differ.",
)
@click.option(
    "--allow-adapter-changes", is_flag=True, help="Load and unload adapters over HTTP; needs an API key."
)
@click.option(
    "--allowed-origin", "origins", multiple=True, metavar="URL", help="A page that may ask (CORS). Repeatable."
)
@click.option(
    "--max-body-kb", type=click.IntRange(min=1), default=1024, show_default=True, help="Beyond that, 413."
)
@click.option(
    "--request-timeout", type=click.FloatRange(min=0.1), default=300.0, show_default=True, metavar="SECONDS"
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="What running requests get after SIGTERM.",
)
@click.option("--no-access-log", is_flag=True, help="No JSON line for each request on standard error.")
@click.option("--log-texts", is_flag=True, help="Prompts and answers in the log.")
@click.option("--ray", "on_ray", is_flag=True, help="On Ray Serve: the cluster that RAY_ADDRESS names, or here.")
@click.option("--replicas", "replicas", default="1", show_default=True, metavar="N|MIN-MAX", help=_REPLICAS)
@click.option("--replica-cpus", type=click.FloatRange(min=0), default=1.0, show_default=True, help="With --ray.")
@click.option("--replica-gpus", type=click.FloatRange(min=0), default=0.0, show_default=True, help="With --ray.")
def serve(
    base: str | None,
    adapters_dir: Path,
    host: str,
    port: int,
    api_keys: tuple[str, ...],
    max_loras: int,
    max_running: int,
    max_waiting: int,
    device: str | None,
    serve_precision: ServePrecision,
    allow_adapter_changes: bool,
    origins: tuple[str, ...],
    max_body_kb: int,
    request_timeout: float,
    drain_timeout: float,
    no_access_log: bool,
    log_texts: bool,
    on_ray: bool,
    replicas: str,
    replica_cpus: float,
    replica_gpus: float,
) -> None:
    """Serve a base's adapters over OpenAI's HTTP API.

    \b
      curl http://127.0.0.1:8000/v1/completions -H 'Content-Type: application/json' \\
        -d '{"model": "emotion", "prompt": "i feel so happy today"}'

    `model` is an adapter's name, the base's, or `auto`. The page at / tries them. SIGTERM and Ctrl-C let running
    requests end. Needs: pip install 'flan-lora[server]', with --ray 'flan-lora[ray]'.
    """
    _check_installed()
    if on_ray:
        check_ray()
    from flan_lora import __version__
    from flan_lora.serving.openai import server
    from flan_lora.serving.openai.access_log import json_lines
    from flan_lora.serving.openai.app import LOOPBACK, App
    from flan_lora.serving.openai.settings import ServerSettings

    keys = _keys(api_keys)
    if allow_adapter_changes and not keys:
        raise click.UsageError("--allow-adapter-changes needs --api-key or FLAN_LORA_API_KEY.")
    settings = ServerSettings(
        host=host,
        port=port,
        api_keys=keys,
        allows_adapter_changes=allow_adapter_changes,
        allowed_origins=origins,
        max_body_bytes=max_body_kb * 1024,
        request_timeout_s=request_timeout,
        drain_timeout_s=drain_timeout,
        logs_requests=not no_access_log,
        logs_texts=log_texts,
    )
    if host not in LOOPBACK and not keys:
        click.echo(f"No API key: whoever reaches {host} port {port} can ask. Set FLAN_LORA_API_KEY.", err=True)

    if on_ray:
        from flan_lora.adapters.remote_store import place_of
        from flan_lora.serving import ray_server
        from flan_lora.serving.ray_options import parse_options

        min_replicas, max_replicas = _replicas(replicas)
        arguments = {
            "base": base,
            "adapters_dir": place_of(adapters_dir),
            "device": device,
            "serve_precision": serve_precision,
            "max_loras": max_loras,
            "max_running": max_running,
            "max_waiting": max_waiting,
            "min_replicas": min_replicas,
            "max_replicas": max_replicas,
            "num_cpus": replica_cpus,
            "num_gpus": replica_gpus,
            "host": host,
            "server": settings,
        }
        ray_server.serve(parse_options(arguments), port, _say_ready)
        return

    def open_model() -> ServedModel:
        from flan_lora.serving.openai.router_model import open_router_model

        return open_router_model(
            adapters_dir,
            base,
            device=device,
            max_loras=max_loras,
            max_running=max_running,
            max_waiting=max_waiting,
            serve_precision=serve_precision,
        )

    def say_ready(url: str, model: ServedModel) -> None:
        _say_ready(url, model.base.name, [info.name for info in model.adapters()], model.describe())

    app = App(settings, __version__, None if no_access_log else json_lines())
    server.serve(app, open_model, say_ready)


def _say_ready(url: str, base: str, adapters: Sequence[str], what: str) -> None:
    served = f"{base} and {len(adapters)} adapters: {', '.join(adapters) or 'none'}"
    click.echo(f"Ready: {url} serves {served} ({what}).")


def _replicas(text: str) -> tuple[int, int]:
    """``2`` or ``1-4``. Raises UsageError."""
    least, dash, most = text.partition("-")
    if least.isdecimal() and (most.isdecimal() or not dash) and 1 <= int(least) <= int(most or least):
        return int(least), int(most or least)
    raise click.UsageError(f"--replicas: expected a number or MIN-MAX, from 1 (got {text!r}).")


def _keys(given: tuple[str, ...]) -> tuple[str, ...]:
    """Keys of the command line, else of the environment, where other users of the machine do not see them."""
    import os

    keys = given or tuple(os.environ.get("FLAN_LORA_API_KEY", "").split(","))
    keys = tuple(key.strip() for key in keys)
    if given and not all(keys):
        raise click.UsageError("--api-key is empty.")
    return tuple(key for key in keys if key)


def _check_installed() -> None:
    from importlib.util import find_spec

    from flan_lora.errors import FlanLoraError

    missing = [
        name for name in ("starlette", "uvicorn", "sse_starlette", "prometheus_client") if find_spec(name) is None
    ]
    if missing:
        raise FlanLoraError(
            f"the server needs {', '.join(missing)}, not installed here.\nInstall: pip install 'flan-lora[server]'"
        )
