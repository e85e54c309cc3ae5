"""Streams and errors of OpenAI's surface over a model of words; who hangs up leaves nothing behind."""

from __future__ import annotations

import httpx
import pytest

from flan_lora.errors import DataError
from tests.serving.openai.fake import FakeModel, Served, served
from tests.serving.openai.responses import error_of, events_of
from tests.waiting import wait_until

# Streams


def test_a_stream_ends_in_done_and_joins_to_the_answer(server: Served) -> None:
    *chunks, done = events_of(server.complete(stream=True))
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "three two one"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert len({chunk["id"] for chunk in chunks}) == 1 and all("usage" not in chunk for chunk in chunks)


def test_a_chat_stream_begins_with_the_role_and_ends_with_counts(server: Served) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage, done = events_of(server.chat("one two", **options))
    assert done == "[DONE]" and usage["choices"] == [] and usage["usage"]["completion_tokens"] == 3
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas == [{"role": "assistant", "content": "two"}, {"content": " one"}, {}]
    assert all(chunk["object"] == "chat.completion.chunk" and chunk["usage"] is None for chunk in chunks)


def test_the_streams_of_several_prompts_keep_apart(server: Served) -> None:
    *chunks, _ = events_of(server.complete(prompt=["a b c", "d e", ""], n=2, stream=True))
    texts = {index: "" for index in range(6)}
    reasons = {}
    for chunk in chunks:
        [choice] = chunk["choices"]
        texts[choice["index"]] += choice["text"]
        if choice["finish_reason"]:
            reasons[choice["index"]] = choice["finish_reason"]
    assert texts == {0: "c b a", 1: "c b a", 2: "e d", 3: "e d", 4: "", 5: ""}
    assert set(reasons) == set(range(6))


def test_an_error_after_the_first_byte_is_an_event(server: Served) -> None:
    server.model.error = DataError("it broke on the way.")
    first, error, done = events_of(server.complete(stream=True))
    assert first["choices"][0]["text"] == "three" and done == "[DONE]"
    assert error["error"]["message"] == "it broke on the way." and error["error"]["code"] == "unprocessable_text"
    assert not server.model.running


def test_an_error_before_the_first_byte_has_its_status(server: Served) -> None:
    assert error_of(server.complete(prompt="unreadable", stream=True), 422)["code"] == "unprocessable_text"


# Errors


def test_a_text_that_the_task_cannot_take_is_422(server: Served) -> None:
    assert error_of(server.complete(prompt="unreadable"), 422)["message"] == "the text cannot be read."


def test_of_several_prompts_all_or_none_are_run(server: Served) -> None:
    error_of(server.complete(prompt=["a", "b", "unreadable"]), 422)
    assert not server.model.running


def test_a_bug_of_ours_is_500_and_says_nothing_of_our_insides(
    server: Served, caplog: pytest.LogCaptureFixture
) -> None:
    error = error_of(server.complete(prompt="bug"), 500)
    assert error["type"] == "server_error" and "secret" not in error["message"]
    assert "ZeroDivisionError" in caplog.text


def test_a_full_queue_is_429_with_a_time_to_come_back() -> None:
    with served(FakeModel(max_running=0)) as server:
        response = server.complete()
        assert error_of(response, 429)["type"] == "rate_limit_error"
        assert int(response.headers["retry-after"]) >= 1
        assert server.complete(stream=True).status_code == 429


def test_unknown_paths_and_methods_are_errors_of_the_same_shape(server: Served) -> None:
    assert error_of(server.client.get("/v1/nothing"), 404)["code"] == "not_found"
    response = server.client.get("/v1/completions")
    assert error_of(response, 405)["code"] == "method_not_allowed"


def test_an_answer_that_takes_too_long_is_504_and_leaves_no_row() -> None:
    with served(FakeModel(blocks=True), request_timeout_s=0.1) as server:
        assert error_of(server.complete(), 504)["code"] == "timeout"
        assert not server.model.running
        error, _ = events_of(server.complete(stream=True))
        assert error["error"]["code"] == "timeout"
        assert not server.model.running


@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_leaves_no_row(stream: bool) -> None:
    with served(FakeModel(blocks=True)) as server:
        with pytest.raises(httpx.ReadTimeout):
            body = {"model": "mini", "prompt": "x", "stream": stream}
            with httpx.Client(base_url=server.url, timeout=0.2) as client:
                client.post("/v1/completions", json=body).read()
        wait_until(lambda: server.model.asked)
        wait_until(lambda: not server.model.running)
        wait_until(lambda: not server.app.lifecycle.num_in_flight)
