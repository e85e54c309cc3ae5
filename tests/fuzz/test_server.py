"""HTTP bodies and paths: an answer, or OpenAI's error object with a 4xx status; then the next is served.

The engine is the true one, on the tiny T5 with one adapter, behind a server in a thread.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flan_lora.serving.openai.router_model import RouterModel
from tests.fuzz.routers import tiny_router
from tests.fuzz.strategies import ODD_TEXTS, changed, fuzz, nested, values
from tests.serving.openai.fake import running_app

ENDPOINTS = ("completions", "chat/completions", "embeddings", "load_lora_adapter", "unload_lora_adapter")
COMPLETION = {
    "model": "emotion",
    "prompt": ["i am so sad", "joy"],
    "max_tokens": 3,
    "n": 1,
    "stream": False,
    "stop": ["x"],
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 1,
    "num_beams": 1,
    "inputs": {"text": "joy"},
    "adapter_mix": {"emotion": 0.5},
    "task": "emotion",
    "abstain": "base",
    "label_probabilities": False,
    "stream_options": {"include_usage": True},
}
CHAT = {
    "model": "mini",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "joy"}]}],
    "max_tokens": 3,
}
OTHERS = {
    "model": "mini",
    "input": ["joy"],
    "encoding_format": "float",
    "lora_name": "emotion",
    "lora_path": "emotion",
}
FIELDS = sorted(
    {*COMPLETION, *CHAT, *OTHERS, "best_of", "top_k", "length_penalty", "min_tokens", "logprobs", "user"}
)


@st.composite
def some_of(draw: st.DrawFn, body: dict[str, Any]) -> dict[str, Any]:
    """A body with the fields that it needs and some of those that it may have."""
    needed = {"model", "messages", "input", "lora_name"}
    return {key: value for key, value in body.items() if key in needed or draw(st.booleans())}


BODIES = st.one_of(
    *(some_of(body).flatmap(changed) for body in (COMPLETION, CHAT, OTHERS)),
    st.dictionaries(st.sampled_from(FIELDS), values(), max_size=4),
    values(),
)
CONTENTS = st.one_of(
    BODIES.map(lambda body: json.dumps(body).encode()),
    BODIES.map(lambda body: json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.binary(max_size=40),
    st.sampled_from(
        [b"[" * 100_000, b'{"a":' * 50_000, b"9" * 5000, b"\xff\xfe{}", b"\xef\xbb\xbf{}", b'{"model": 1e999}']
    ),
    st.integers(30, 60).map(lambda depth: json.dumps({"model": "mini", "prompt": nested(depth)}).encode()),
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    model = RouterModel(tiny_router(tmp_path_factory.mktemp("fuzz"), "emotion"), 3)
    with running_app(model, api_keys=("k",), allows_adapter_changes=True, request_timeout_s=60) as (app, url, _):
        with httpx.Client(base_url=url, headers={"Authorization": "Bearer k"}, timeout=120) as client:
            yield client
            assert not app.lifecycle.num_in_flight
    assert all(not status.num_leases for status in model.router.status())
    model.close(10)


def check(response: httpx.Response) -> None:
    """A whole answer, a whole stream, or an error that says something to its client and nothing of our insides."""
    assert response.status_code == 200 or 400 <= response.status_code < 500, response.text[:500]
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        events = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: ")]
        assert events[-1] == "[DONE]" or "error" in json.loads(events[-1]), response.text[-500:]
        assert not any("internal_error" in event for event in events), response.text[-500:]
    elif response.status_code != 200:
        error = response.json()["error"]
        assert error["message"] and error["code"] and len(error["message"]) < 8_000
        assert "Traceback" not in error["message"] and "site-packages" not in error["message"]


@fuzz
@given(
    endpoint=st.sampled_from(ENDPOINTS), content=CONTENTS, kind=st.sampled_from(["application/json", "text/x", ""])
)
def test_any_body(client: httpx.Client, endpoint: str, content: bytes, kind: str) -> None:
    check(client.post(f"/v1/{endpoint}", content=content, headers={"Content-Type": kind}))
    assert client.get("/health").status_code == 200


@fuzz
@given(name=st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=20)), card=st.booleans())
def test_any_model_in_a_path(client: httpx.Client, name: str, card: bool) -> None:
    path = "".join(f"%{byte:02X}" for byte in name.encode("utf-8", "surrogatepass"))
    response = client.get(f"/v1/models/{path}{'/card' if card else ''}")
    assert response.status_code == 200 or 300 <= response.status_code < 500, response.text[:500]
