"""Keys, sizes, times, hosts, starting and draining: what a request passes before an endpoint."""

from __future__ import annotations

import asyncio
import hmac
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest

from flan_lora.serving.openai import gate
from flan_lora.serving.openai.gate import Keys
from flan_lora.serving.openai.lifecycle import Phase
from tests.serving.openai.fake import FakeModel, served
from tests.waiting import wait_until

BODY = {"model": "mini", "prompt": "x y"}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_without_a_key_of_the_server_v1_is_closed_and_probes_are_open() -> None:
    with served(api_keys=("first", "second")) as server:
        for header in (
            {},
            bearer("third"),
            bearer("firs"),
            {"Authorization": "first"},
            bearer("erst\xff"),
        ):
            encoded = {name: value.encode("latin-1") for name, value in header.items()}
            response = server.post("/v1/completions", BODY, headers=encoded)
            assert response.status_code == 401 and response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"
        assert server.client.get("/v1/models").status_code == 401
        for key in ("first", "second"):
            assert server.post("/v1/completions", BODY, headers=bearer(key)).status_code == 200
        for path in ("/health", "/ready", "/version", "/metrics", "/"):
            assert server.client.get(path).status_code == 200
        assert len(server.model.asked) == 2


def test_every_key_is_compared_in_constant_time_whatever_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    in_constant_time = hmac.compare_digest

    def compare(given: bytes, known: bytes) -> bool:
        compared.append((given, known))
        return in_constant_time(given, known)

    monkeypatch.setattr(gate.hmac, "compare_digest", compare)
    keys = Keys(["a", "long key"])
    assert keys.accept("Bearer a") and not keys.accept("Bearer b") and not keys.accept(None)
    assert len(compared) == 6 and {len(each) for pair in compared for each in pair} == {32}


def test_a_body_over_the_limit_is_413_announced_or_not() -> None:
    with served(max_body_bytes=1000) as server:
        headers = {"content-type": "application/json"}
        big = b'{"model": "mini", "prompt": "' + b"x" * 10_000_000 + b'"}'
        assert server.client.post("/v1/completions", content=big, headers=headers).status_code == 413
        chunks = (big[start : start + 500] for start in range(0, 5000, 500))
        assert server.client.post("/v1/completions", content=chunks, headers=headers).status_code == 413
        assert server.post("/v1/completions", {**BODY, "prompt": "x" * 900}).status_code == 200


def test_only_json_is_read_so_that_a_page_elsewhere_cannot_post_without_asking() -> None:
    with served() as server:
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            response = server.client.post("/v1/completions", content=b"{}", headers={"content-type": kind})
            assert response.status_code == 415
        response = server.post(
            "/v1/completions", BODY, headers={"content-type": "application/json; charset=utf-8"}
        )
        assert response.status_code == 200


def test_a_body_that_does_not_arrive_is_408() -> None:
    with served(body_timeout_s=0.1) as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=10) as client:
            client.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            assert client.recv(1000).startswith(b"HTTP/1.1 408 ")
        wait_until(lambda: not server.app.lifecycle.num_in_flight)


def test_a_loopback_server_answers_only_to_its_own_names() -> None:
    with served() as server:
        assert server.client.get("/health", headers={"host": "evil.example"}).status_code == 400
        assert server.client.get("/health", headers={"host": "localhost:1234"}).status_code == 200


def test_cors_is_off_unless_an_origin_is_allowed() -> None:
    asks = {"origin": "https://page.example", "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type"}  # fmt: skip
    with served() as server:
        response = server.client.options("/v1/completions", headers=asks)
        assert "access-control-allow-origin" not in response.headers and response.status_code == 405
    with served(allowed_origins=("https://page.example",), api_keys=("k",)) as server:
        response = server.client.options("/v1/completions", headers=asks)
        assert response.headers["access-control-allow-origin"] == "https://page.example"
        refused = server.post("/v1/completions", BODY, headers={"origin": "https://page.example"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://page.example"
        other = server.client.options("/v1/completions", headers={**asks, "origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers


def test_starting_and_draining_are_503_but_the_process_is_healthy() -> None:
    with served() as server:
        for phase in (Phase.STARTING, Phase.DRAINING):
            server.app.lifecycle.phase = phase
            response = server.post("/v1/completions", BODY)
            assert response.status_code == 503 and response.json()["error"]["code"] == phase.value
            assert int(response.headers["retry-after"]) >= 1
            assert server.client.get("/ready").status_code == 503
            assert server.client.get("/health").status_code == 200
        server.app.lifecycle.phase = Phase.READY
        assert server.client.get("/ready").json() == {"status": "ready"}
        assert server.client.get("/version").json() == {"version": "1.2.3"}


def test_draining_waits_for_who_is_in_and_lets_nobody_in() -> None:
    with served(FakeModel(blocks=True)) as server:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(server.complete)
            wait_until(lambda: server.model.running)
            lifecycle = server.app.lifecycle
            assert asyncio.run(_drained(lifecycle, 0.01)) == 1
            assert httpx.post(f"{server.url}/v1/completions", json=BODY).status_code == 503
            server.model.release()
            assert running.result(10).status_code == 200
            wait_until(lambda: not lifecycle.num_in_flight)


async def _drained(lifecycle, timeout_s: float) -> int:  # type: ignore[no-untyped-def]
    """`Lifecycle.drain` waits on an event of another loop, so only the phase and the count are looked at here."""
    lifecycle.phase = Phase.DRAINING
    await asyncio.sleep(timeout_s)
    return lifecycle.num_in_flight


def test_every_answer_has_a_number_and_every_request_a_line() -> None:
    with served(logs_texts=True) as server:
        start = time.perf_counter()
        response = server.complete(prompt="one two")
        wait_until(lambda: server.log)
        [line] = server.log
        assert line["id"] == response.headers["x-request-id"] and line["status"] == 200
        assert line["path"] == "/v1/completions" and line["model"] == "mini" and line["completion_tokens"] == 3
        assert line["texts"] == ["one two"] and line["answers"] == ["two one"]
        assert 0 <= line["duration_s"] <= time.perf_counter() - start
        server.client.get("/health")
        server.complete(model="nothing")
        wait_until(lambda: len(server.log) > 1)
        assert server.log[-1]["error"] == "model_not_found" and len(server.log) == 2
    with served() as server:
        server.complete(prompt="one two")
        wait_until(lambda: server.log)
        assert "two" not in str(server.log)


def test_an_error_names_no_folder_of_the_machine() -> None:
    from flan_lora.errors import AdapterCorruptError, DataError
    from flan_lora.serving.openai.errors import as_api_error

    error = AdapterCorruptError("/srv/adapters/mini/emotion/manifest.json is missing (see '/etc/x/y').")
    assert as_api_error(error).message == "manifest.json is missing (see 'y')."
    error = AdapterCorruptError("s3://bucket/prefix/mini/emotion is not whole (at 's3://bucket/a/b').")
    assert as_api_error(error).message == "emotion is not whole (at 'b')."
    kept = "3/4 of adapters/mini/emotion, https://example.org/a/b and and/or"
    assert as_api_error(DataError(kept)).message == kept
