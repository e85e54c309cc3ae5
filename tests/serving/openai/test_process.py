"""The process: what it says, how it starts, how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from flan_lora.base.load import base_slug
from flan_lora.cli import main
from flan_lora.serving.openai.app import App
from flan_lora.serving.openai.server import serve
from flan_lora.serving.openai.settings import ServerSettings
from tests.checkpoint import save_checkpoint, spec_of
from tests.serving.openai.fake import TLS, FakeModel
from tests.serving.openai.process import REPO, Process, serving
from tests.serving.stores import publish
from tests.waiting import wait_until

pytestmark = pytest.mark.xdist_group("server")

BODY = {"model": "base", "prompt": "joy to the question", "max_tokens": 300}


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, Any]:
    """What `serving` takes for the tiny T5 and an adapter of it."""
    base = save_checkpoint(tmp_path / "base")
    publish(tmp_path / "adapters" / base_slug(spec_of(base)), "emotion", 3)
    return {"folder": tmp_path, "base": str(base), "adapters_dir": tmp_path / "adapters"}


def test_sigterm_under_load_loses_no_request_and_exits_with_0(tiny: dict[str, Any]) -> None:
    with serving(**tiny, FLAN_LORA_API_KEY="one,two") as server:
        header = {"Authorization": "Bearer two"}
        assert httpx.post(f"{server.url}/v1/completions", json=BODY, verify=TLS).status_code == 401

        def ask(place: int) -> int:
            with httpx.Client(base_url=server.url, headers=header, timeout=60, verify=TLS) as client:
                if place % 2:
                    response = client.post("/v1/completions", json={**BODY, "stream": True})
                    whole = response.text.endswith("data: [DONE]\n\n") and "error" not in response.text
                    return response.status_code if response.status_code != 200 or whole else -1
                return client.post("/v1/completions", json=BODY).status_code

        with ThreadPoolExecutor(24) as pool:
            asked = [pool.submit(ask, place) for place in range(24)]
            wait_until(lambda: any(each.done() for each in asked), 60)
            assert server.terminate() == 0
            statuses = [each.result(60) for each in asked]
        assert set(statuses) <= {200, 503} and statuses.count(200) > 0
        lines = [json.loads(line) for line in server.lines() if line.startswith("{")]
        assert sum(line["status"] == 200 for line in lines) == statuses.count(200)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/health", verify=TLS)


BLOCKED = """
from flan_lora.serving.openai.app import App
from flan_lora.serving.openai.server import serve
from flan_lora.serving.openai.settings import ServerSettings
from tests.serving.openai.fake import FakeModel

serve(App(ServerSettings(port=0), "1"), lambda: FakeModel(blocks=True), lambda url, _: print(url, flush=True))
"""


def test_a_second_signal_does_not_wait_for_who_is_in() -> None:
    """A model without weights that never answers: the process starts in a second."""
    command = [sys.executable, "-c", BLOCKED]
    with subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            with httpx.Client(base_url=url, timeout=60, verify=TLS) as client, ThreadPoolExecutor(1) as pool:
                asked = pool.submit(client.post, "/v1/completions", json={"model": "mini", "prompt": "a b"})
                wait_until(lambda: "num_requests_running 1.0" in client.get("/metrics").text)
                process.send_signal(signal.SIGTERM)
                wait_until(lambda: client.get("/ready").status_code == 503)
                assert process.poll() is None and not asked.done()
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0  # of 30 s that a drain may take
                assert asked.result(20).status_code == 503
        finally:
            process.kill()


def test_the_engine_gets_python_back_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """And who calls `serve` from a program of their own gets their interval back."""
    before, seen = sys.getswitchinterval(), list[float]()

    def run(coroutine: Coroutine[Any, Any, None]) -> None:
        seen.append(sys.getswitchinterval())
        coroutine.close()

    monkeypatch.setattr(asyncio, "run", run)
    serve(App(ServerSettings(port=0), "1"), lambda: FakeModel(), lambda url, _: None)
    assert seen[0] == pytest.approx(0.0005) and sys.getswitchinterval() == before


@pytest.mark.slow
def test_ctrl_c_is_a_graceful_end_too(tiny: dict[str, Any]) -> None:
    with serving(tiny.pop("folder"), "--no-access-log", **tiny) as server:
        assert httpx.post(f"{server.url}/v1/completions", json=BODY, timeout=60, verify=TLS).status_code == 200
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0
        assert server.lines() == []


def test_a_port_that_is_taken_is_one_message(mini: Process) -> None:
    port = mini.url.rpartition(":")[2]
    result = CliRunner().invoke(main, ["serve", "--base", "mini", "--port", port])
    assert result.exit_code == 1 and f"cannot listen on 127.0.0.1 port {port}" in result.stderr


def test_no_adapters_is_one_message(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["serve", "--base", "mini", "--port", "0", "--adapters-dir", str(tmp_path)])
    assert result.exit_code == 1 and "no adapters for base mini" in result.stderr
    assert "Traceback" not in result.output


def test_changes_without_a_key_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLAN_LORA_API_KEY", raising=False)
    result = CliRunner().invoke(main, ["serve", "--allow-adapter-changes"])
    assert result.exit_code == 2 and "needs --api-key" in result.stderr
    assert CliRunner().invoke(main, ["serve", "--api-key", ""]).exit_code == 2


def test_the_server_listens_on_the_loopback_only(mini: Process) -> None:
    port = int(mini.url.rpartition(":")[2])
    with socket.socket() as probe:  # nobody else holds the port on another address
        probe.bind(("127.0.0.2", port))
