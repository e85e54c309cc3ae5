"""What goes wrong with servers: many clients, slow ones, ones that leave, adapters that change, a full queue.

The engine is the true one, on the tiny T5 and five random adapters; the server runs in a thread.
"""

from __future__ import annotations

import gc
import json
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from flan_lora.base.load import Base, open_base
from flan_lora.serving.openai.app import App
from flan_lora.serving.openai.router_model import RouterModel
from flan_lora.serving.router import Router
from flan_lora.system.malloc import return_freed_memory
from tests.checkpoint import save_checkpoint, spec_of
from tests.serving.openai.fake import TLS, running_app
from tests.serving.stores import NAMES, OPEN, TEXTS, publish
from tests.waiting import wait_until

KEY = {"Authorization": "Bearer k"}
LONG = {"model": "base", "prompt": "joy to the question", "max_tokens": 300}


@dataclass
class TinyServer:
    """A server of the tiny T5 in a thread."""

    app: App
    model: RouterModel
    url: str
    client: httpx.Client
    log: list[dict[str, Any]]

    def post(self, body: dict[str, Any], path: str = "/v1/completions") -> httpx.Response:
        return self.client.post(path, json=body)

    def gauge(self, name: str) -> float:
        text = self.client.get("/metrics").text
        (value,) = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"flan_lora_{name}"
        ]
        return value

    def is_idle(self) -> bool:
        """No row, no lease, no request."""
        is_free = not self.gauge("num_requests_running") and not self.gauge("num_requests_waiting")
        is_released = all(not status.num_leases for status in self.model.router.status())
        return is_free and is_released and not self.app.lifecycle.num_in_flight


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return open_base(spec_of(save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "base")))


@contextmanager
def tiny_server(root: Path, base: Base, *, num_slots: int = 4, **limits: Any) -> Iterator[TinyServer]:
    model = RouterModel(Router.open(root, base, num_slots=num_slots, **limits), num_slots - 1)
    with (
        running_app(model, api_keys=("k",), allows_adapter_changes=True) as (app, url, log),
        httpx.Client(base_url=url, headers=KEY, timeout=120, verify=TLS) as client,
    ):
        yield TinyServer(app, model, url, client, log)
    model.close(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, base: Base) -> Iterator[TinyServer]:
    root = tmp_path_factory.mktemp("adapters") / "store"
    for seed, name in enumerate(NAMES):
        publish(root, name, seed + 3, OPEN if name == "hearts" else None)
    with tiny_server(root, base) as running:
        yield running


def bodies(number: int) -> list[dict[str, Any]]:
    """Mixed: adapters, the base, mixes, sampling, beams, several answers, labels."""
    draw = random.Random(5)
    kinds: list[dict[str, Any]] = [
        *({"model": name} for name in NAMES),
        {"model": "base", "max_tokens": 12},
        {"model": "base", "adapter_mix": {"emotion": 0.5, "moods": 0.25}},
        {"model": "hearts", "temperature": 1.0, "seed": 3, "n": 2},
        {"model": "base", "num_beams": 3, "n": 2, "max_tokens": 9},
        {"model": "nerves", "label_probabilities": True},
    ]
    return [
        {**draw.choice(kinds), "prompt": draw.choice(TEXTS), "stream": place % 2 == 1} for place in range(number)
    ]


def texts_of(response: httpx.Response) -> list[str]:
    """Choice by choice, streamed or not."""
    assert response.status_code == 200, response.text
    if not response.headers["content-type"].startswith("text/event-stream"):
        return [choice["text"] for choice in response.json()["choices"]]
    found: dict[int, str] = {}
    lines = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    for line in lines[:-1]:
        for choice in json.loads(line)["choices"]:
            found[choice["index"]] = found.get(choice["index"], "") + choice["text"]
    return [found[index] for index in sorted(found)]


def open_stream(server: TinyServer, body: dict[str, Any]) -> socket.socket:
    """A stream of which nothing has been read."""
    address = urlsplit(server.url)
    raw = json.dumps({**body, "stream": True}).encode()
    client = socket.create_connection((address.hostname, address.port), timeout=120)
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer k\r\n"
    kind = f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\nConnection: close\r\n\r\n"
    client.sendall(f"{head}{kind}".encode() + raw)
    return client


def test_sixty_four_clients_get_the_answers_that_one_gets(server: TinyServer) -> None:
    asked = bodies(64)
    alone = [texts_of(server.post({**body, "stream": False})) for body in asked]
    assert len({text for texts in alone for text in texts}) > 10
    with ThreadPoolExecutor(64) as pool:
        together = list(pool.map(lambda body: texts_of(server.post(body)), asked))
    assert together == alone
    assert server.model.router.traffic.most_running > 8
    wait_until(server.is_idle)


def test_a_slow_reader_holds_up_nobody_and_gets_the_whole(server: TinyServer) -> None:
    whole = texts_of(server.post(LONG))
    slow = [open_stream(server, LONG) for _ in range(8)]
    assert texts_of(server.post({"model": "emotion", "prompt": TEXTS[0]}))
    wait_until(lambda: not server.gauge("num_requests_running"))  # the batch does not wait for readers
    for client in slow:
        received = b""
        while part := client.recv(512):
            received += part
        client.close()
        data = [line[6:] for line in received.decode().split("\n") if line.startswith("data: {")]
        assert "".join(json.loads(line)["choices"][0]["text"] for line in data) == whole[0]
    wait_until(server.is_idle)


def test_two_hundred_that_hang_up_leave_no_row_lease_or_thread(server: TinyServer) -> None:
    server.post(LONG)
    process = psutil.Process()
    num_threads = process.num_threads()
    num_cancelled = server.model.router.traffic.num_cancelled
    body = {"model": "hearts", "prompt": TEXTS[4], "max_tokens": 400, "temperature": 2.0}
    for _ in range(10):
        clients = [open_stream(server, body) for _ in range(20)]
        for place, client in enumerate(clients):
            if place % 2:
                client.recv(1)
            client.close()
    wait_until(server.is_idle, 60)
    assert server.model.router.traffic.num_cancelled > num_cancelled
    assert process.num_threads() <= num_threads + 33  # threads of the pool that makes prompts stay, and are few
    server.post({"lora_name": "hearts"}, "/v1/unload_lora_adapter").raise_for_status()
    assert texts_of(server.post({"model": "hearts", "prompt": TEXTS[4]}))


def test_adapters_come_and_go_under_traffic(server: TinyServer) -> None:
    expected = {name: texts_of(server.post({"model": name, "prompt": TEXTS[4]})) for name in NAMES}
    is_over = threading.Event()

    def ask(name: str) -> int:
        count = 0
        while not is_over.is_set():
            assert texts_of(server.post({"model": name, "prompt": TEXTS[4]})) == expected[name]
            count += 1
        return count

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, NAMES[place % len(NAMES)]) for place in range(8)]
        try:
            for turn in range(20):
                name = NAMES[turn % len(NAMES)]
                verb = "load" if turn % 3 else "unload"
                response = server.post({"lora_name": name}, f"/v1/{verb}_lora_adapter")
                assert response.status_code == 200 or (verb == "unload" and response.status_code == 404)
        finally:
            is_over.set()
        assert all(each.result(120) for each in asking)
    wait_until(server.is_idle)


def test_a_reload_serves_the_new_weights_and_says_which(tmp_path: Path, base: Base) -> None:
    root = tmp_path / "store"
    publish(root, "hearts", 3, OPEN)
    with tiny_server(root, base) as server:
        body = {"model": "hearts", "prompt": TEXTS[4]}
        before = texts_of(server.post(body))
        digest = server.client.get("/v1/models/hearts").json()["digest"]
        publish(root, "hearts", 8, OPEN)
        loaded = server.post({"lora_name": "hearts"}, "/v1/load_lora_adapter").json()
        assert loaded["digest"] != digest
        after = server.post(body)
        assert texts_of(after) != before
        publish(root, "moods", 4)  # without a word to the server
        assert texts_of(server.post({"model": "moods", "prompt": TEXTS[4]}))


def test_a_damaged_adapter_is_409_and_says_no_path_of_the_machine(tmp_path: Path, base: Base) -> None:
    root = tmp_path / "store"
    for name in ("emotion", "moods"):
        publish(root, name, 3)
    weights = root / "moods" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with tiny_server(root, base) as server:
        for path, body in {
            "/v1/completions": {"model": "moods", "prompt": "x"},
            "/v1/load_lora_adapter": {"lora_name": "moods"},
        }.items():
            response = server.post(body, path)
            assert response.status_code == 409 and response.json()["error"]["code"] == "adapter_corrupt"
            assert "adapter_model.safetensors: truncated" in response.text and str(tmp_path) not in response.text
        listed = server.client.get("/v1/models").json()["data"]
        assert [model["id"] for model in listed] == ["base", "emotion"]
        assert texts_of(server.post({"model": "emotion", "prompt": "x"}))


def test_more_than_may_wait_are_429_and_the_others_are_answered(tmp_path: Path, base: Base) -> None:
    root = tmp_path / "store"
    publish(root, "emotion", 3)
    with tiny_server(root, base, batch_size=2, max_waiting=3) as server:
        with ThreadPoolExecutor(24) as pool:
            responses = list(pool.map(lambda _: server.post(LONG), range(24)))
        statuses = [response.status_code for response in responses]
        assert set(statuses) == {200, 429}
        assert all("retry-after" in response.headers for response in responses if response.status_code == 429)
        assert len({response.json()["choices"][0]["text"] for response in responses if response.is_success}) == 1
        assert server.post({**LONG, "prompt": ["x"] * 6}).status_code == 429
        wait_until(server.is_idle)


def test_counts_are_those_of_the_tokenizer(server: TinyServer, base: Base) -> None:
    for body in ({"max_tokens": 7}, {"max_tokens": 7, "stream": True, "stream_options": {"include_usage": True}}):
        response = server.post({"model": "base", "prompt": "joy and sadness", **body})
        lines = [line for line in response.text.split("\n") if '"usage":{' in line]
        usage = json.loads(lines[-1].removeprefix("data: "))["usage"]
        assert usage["prompt_tokens"] == len(base.tokenizer("joy and sadness").input_ids)
        assert usage["completion_tokens"] == 7
    last = server.post({"model": "base", "prompt": "joy and sadness", "max_tokens": 7}).json()["choices"][0]
    assert last["finish_reason"] == "length"
    two = server.post({"model": "base", "prompt": "joy", "max_tokens": 7, "n": 2, "best_of": 3}).json()
    assert len(two["choices"]) == 2 and two["usage"]["completion_tokens"] <= 21


def test_a_stop_string_ends_the_answer_and_the_generation(server: TinyServer) -> None:
    whole = texts_of(server.post(LONG))[0]
    stop = whole[len(whole) // 3 : len(whole) // 3 + 3]
    expected = whole[: whole.index(stop)]
    for stream in (False, True):
        response = server.post({**LONG, "stop": ["never there", stop], "stream": stream})
        assert texts_of(response) == [expected]
    counts = server.post({**LONG, "stop": stop}).json()
    assert counts["choices"][0]["finish_reason"] == "stop"
    assert counts["usage"]["completion_tokens"] < 300


@pytest.mark.slow
def test_twenty_thousand_requests_in_flat_memory(server: TinyServer) -> None:
    asked = [{**body, "max_tokens": 6} for body in bodies(200)]
    process = psutil.Process()

    def run(number: int) -> int:
        """Memory after so many more requests (bytes), without what malloc keeps for the next ones."""
        places = iter(range(number))

        def client() -> None:
            for place in places:
                server.post(asked[place % len(asked)]).raise_for_status()

        with ThreadPoolExecutor(16) as pool:
            for each in [pool.submit(client) for _ in range(16)]:
                each.result()
        wait_until(server.is_idle)
        server.log.clear()  # the test's, a record for each request
        gc.collect()
        return_freed_memory()
        return process.memory_info().rss

    first = run(4_000)
    last = run(16_000)
    assert last - first < 24 << 20, f"{(last - first) / 2**20:.0f} MB more after 16,000 requests"
