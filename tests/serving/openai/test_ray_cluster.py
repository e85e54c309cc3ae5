"""`flan-lora serve --ray` on a real cluster: answers, killed replicas, the end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("ray", reason="Ray is not installed here")

from ray.cluster_utils import Cluster

from tests.serving.openai.fake import TLS
from tests.serving.openai.process import REPO, Process, serving
from tests.serving.ray_cluster import engines_of, running_cluster
from tests.waiting import wait_until

pytestmark = pytest.mark.xdist_group("server")

DIALOGUE = "Ann: are you coming on Friday? | Bob: yes, at eight. | Ann: great, please bring some cake!"
ASKED: list[Mapping[str, Any]] = [
    {"model": model, "prompt": f"{DIALOGUE} | Bob: number {number}, ok", "max_tokens": 24}
    for number in range(12)
    for model in ("summarization", "emotion", "paraphrase", "mini")
]


def answers(server: Process, bodies: list[Mapping[str, Any]], num_clients: int = 12) -> list[str]:
    """Of requests that are under way together. Every one has to be answered."""

    def ask(body: Mapping[str, Any]) -> str:
        response = httpx.post(f"{server.url}/v1/completions", json=body, timeout=120, verify=TLS)
        assert response.status_code == 200, response.text
        text: str = response.json()["choices"][0]["text"]
        return text

    with ThreadPoolExecutor(num_clients) as pool:
        return list(pool.map(ask, bodies))


def test_two_replicas_answer_as_one_machine_does(mini: Process, mini_on_ray: Process) -> None:
    assert answers(mini_on_ray, ASKED) == answers(mini, ASKED)
    with mini_on_ray.client as client:
        page = client.get("/metrics").text
    counted = [line for line in page.splitlines() if line.startswith("flan_lora_engine_steps_total")]
    assert len(counted) == 2 and all(float(line.split()[-1]) > 0 for line in counted)  # both had work
    assert "<html" in httpx.get(mini_on_ray.url, verify=TLS).text  # the playground


def test_a_replica_that_is_killed_under_load_costs_no_request(
    mini: Process, mini_on_ray: Process, cluster: Cluster
) -> None:
    expected = answers(mini, ASKED)
    before = {process.pid for process in engines_of(cluster)}
    assert len(before) == 2
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(answers, mini_on_ray, ASKED)
        with mini_on_ray.client as client:
            wait_until(lambda: num_running(client) >= 6, 60)
        victim = max(engines_of(cluster), key=lambda process: process.cpu_times().user)
        victim.kill()
        assert not asked.done()
        assert asked.result(240) == expected
    lines = [line for line in mini_on_ray.lines() if '"status": 5' in line]
    assert lines == []


def num_running(client: httpx.Client) -> float:
    """Requests in the running batches of all replicas."""
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("flan_lora_num_requests_running{"))


@pytest.mark.slow
def test_a_cluster_that_serves_already_is_left_alone(mini_on_ray: Process, cluster: Cluster) -> None:
    command = [sys.executable, "-m", "flan_lora", "serve", "--ray", "--base", "mini", "--port", "0"]
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "serves the application 'flan-lora' already" in done.stderr
    assert "Traceback" not in done.stderr and answers(mini_on_ray, ASKED[:2])


@pytest.mark.slow
def test_sigterm_under_load_loses_no_request_that_was_let_in(tmp_path: Path) -> None:
    with (
        running_cluster() as cluster,
        serving(tmp_path, "--ray", RAY_ADDRESS=cluster.address, FLAN_LORA_API_KEY="one") as server,
    ):
        header = {"Authorization": "Bearer one"}
        assert httpx.get(f"{server.url}/v1/models", verify=TLS).status_code == 401

        def ask(body: Mapping[str, Any]) -> int:
            return httpx.post(
                f"{server.url}/v1/completions", json=body, headers=header, timeout=120, verify=TLS
            ).status_code

        with ThreadPoolExecutor(24) as pool:
            asked = [pool.submit(ask, body) for body in ASKED]
            wait_until(lambda: any(each.done() for each in asked), 60)
            assert server.terminate() == 0
            statuses = [each.result(60) for each in asked]
    # 404: the route is gone; after that nobody listens for us, though Serve's proxy may
    assert set(statuses) <= {200, 503, 404} and statuses.count(200) > 0
