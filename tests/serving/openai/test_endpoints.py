"""OpenAI's surface over a model of words: what a client sends, what it gets, and what it is refused."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from flan_lora.engine.generation_params import GenerationParams
from flan_lora.errors import QueueFullError
from tests.serving.openai.fake import Served
from tests.serving.openai.responses import error_of

# Completions


def test_a_completion_has_openais_shape(server: Served) -> None:
    body = server.complete().json()
    assert body["object"] == "text_completion" and body["id"].startswith("cmpl-")
    assert body["model"] == "mini" and body["system_fingerprint"].startswith("fp_")
    [choice] = body["choices"]
    assert choice["text"] == "three two one" and choice["finish_reason"] == "stop" and choice["index"] == 0
    assert body["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}


def test_several_prompts_and_answers_are_numbered_prompt_by_prompt(server: Served) -> None:
    body = server.complete(prompt=["a b", "c d"], n=2, temperature=1.0, seed=7).json()
    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == [
        (0, "b a"), (1, "b a"), (2, "d c"), (3, "d c"),
    ]  # fmt: skip
    assert server.model.asked[-1].params["do_sample"] and server.model.asked[-1].params["seed"] == 7


def test_best_of_generates_more_than_it_returns(server: Served) -> None:
    body = server.complete(best_of=3).json()
    assert len(body["choices"]) == 1
    query = server.model.asked[-1]
    assert query.params == {"num_return_sequences": 3, "num_beams": 3} and query.ranks_candidates


@pytest.mark.parametrize(
    ("fields", "temperature"),
    [
        ({}, None),
        ({"temperature": 0}, None),
        ({"temperature": 0.0, "top_p": 0.5}, None),
        ({"seed": 3}, None),
        ({"temperature": 0.7}, 0.7),
        ({"top_p": 0.9}, 1.0),
        ({"temperature": None, "n": None, "stop": None, "logit_bias": None}, None),
    ],
)
def test_only_who_asks_for_sampling_gets_it(
    server: Served, fields: dict[str, Any], temperature: float | None
) -> None:
    assert server.complete(**fields).status_code == 200
    params = server.model.asked[-1].params
    assert params.get("temperature") == temperature and params.get("do_sample", False) == (temperature is not None)
    assert ("seed" in params) == (temperature is not None)


def test_parameters_beside_openais_reach_the_engine_under_transformers_names(server: Served) -> None:
    given = {"num_beams": 4, "length_penalty": 0.5, "early_stopping": True, "no_repeat_ngram_size": 2,
             "repetition_penalty": 1.5}  # fmt: skip
    assert server.complete(**given, min_tokens=3, max_tokens=9).status_code == 200
    assert server.model.asked[-1].params == {**given, "min_new_tokens": 3, "max_new_tokens": 9}
    GenerationParams(**server.model.asked[-1].params)
    server.complete(top_k=5, seed=-1)
    assert server.model.asked[-1].params == {
        "do_sample": True, "temperature": 1.0, "top_k": 5, "seed": 2**32 - 1,
    }  # fmt: skip


def test_what_changes_no_answer_is_let_through(server: Served) -> None:
    idle = {"user": "me", "metadata": {"a": "b"}, "presence_penalty": 0, "frequency_penalty": 0.0, "echo": False,
            "suffix": None, "tools": [], "tool_choice": "none", "response_format": {"type": "text"}}  # fmt: skip
    assert server.complete(**idle).status_code == 200


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"echo": True}, "echo", "nothing to echo"),
        ({"suffix": "x"}, "suffix", "middle of a text"),
        ({"logit_bias": {"1": 2}}, "logit_bias", "not implemented"),
        ({"presence_penalty": 0.5}, "presence_penalty", "0 only"),
        ({"logprobs": 6}, "logprobs", "less than or equal to 5 (got 6)"),
        ({"logprobs": True}, "logprobs", "valid integer"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1 (got 0)"),
        ({"max_tokens": "8"}, "max_tokens", "valid integer (got '8')"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"n": 2, "best_of": 1}, "best_of", "at least n = 2"),
        ({"stop": ["a"] * 5}, "stop", "at most 4"),
        ({"stop": ""}, "stop", "at least 1 character"),
        ({"temprature": 1}, "temprature", "did you mean 'temperature'"),
        ({"nonsense": 1}, "nonsense", "unknown field"),
        ({"prompt": [1, 2, 3]}, "prompt", "token ids"),
        ({"prompt": [[1, 2], [3]]}, "prompt", "token ids"),
        ({"prompt": []}, "prompt", "one text or more"),
        ({"prompt": ["a"] * 5}, "prompt", "at most 4 texts"),
        ({"prompt": None}, "prompt", "missing"),
        ({"prompt": 7}, "prompt", "valid string"),
        ({"model": None}, "model", "valid string"),
        ({"inputs": {"question": "q"}}, "inputs", "name all its texts"),
        ({"adapter_mix": {}}, "adapter_mix", "at least 1"),
        ({"adapter_mix": {"emotion": "half"}}, "adapter_mix", "valid number"),
        ({"model": "emotion", "adapter_mix": {"emotion": 1}}, "adapter_mix", "model is the base: 'mini'"),
        ({"task": "nonsense"}, None, ""),
        ({"seed": 2**70}, "seed", "less than"),
        ({"stream_options": {"usage": True}}, "stream_options", "not permitted"),
    ],
)
def test_what_cannot_be_honoured_is_said(server: Served, fields: dict[str, Any], param: str, says: str) -> None:
    if "task" in fields:
        fields = {**fields, "inputs": {"a": "b"}}
        param, says = "task", "unknown task 'nonsense'"
    num_asked = len(server.model.asked)
    error = error_of(server.complete(**fields), 400)
    assert error["param"] == param and says in error["message"] and error["type"] == "invalid_request_error"
    assert len(server.model.asked) == num_asked


def test_all_problems_of_a_body_are_in_one_message(server: Served) -> None:
    message = error_of(server.complete(temperature=9, n=0, seed="x"), 400)["message"]
    assert len(message.splitlines()) == 3


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"nonsense", b'{"model": "mini", "prompt": "\xff\xfe"}', b'{"prompt": "\\ud800"}', b"[1]", b"7",
        b'{"a":' * 300 + b"1" + b"}" * 300, b'{"model": "mini", "prompt": "x", "temperature": NaN}',
    ],
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused(server: Served, raw: bytes) -> None:
    response = server.client.post("/v1/completions", content=raw, headers={"content-type": "application/json"})
    assert error_of(response, 400)["type"] == "invalid_request_error"


# Who is asked


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("mini", None), ("google/mini", None), ("emotion", "emotion"), ("mini:emotion", "emotion"),
        ("auto", "auto"),
        ("google/mini:qa", "qa"), ("mini:auto", "auto"),
    ],
)  # fmt: skip
def test_a_model_is_a_base_an_adapter_or_auto(server: Served, name: str, choice: str | None) -> None:
    inputs = {"inputs": {"context": "c", "question": "q"}, "prompt": None} if choice == "qa" else {}
    assert server.complete(model=name, **inputs).status_code == 200
    assert server.model.asked[-1].choice == choice


@pytest.mark.parametrize("name", ["emotoin", "other:emotion", "mini:", ":", "../emotion", "mini:../qa", "base"])
def test_an_unknown_model_is_404_and_never_the_base(server: Served, name: str) -> None:
    num_asked = len(server.model.asked)
    error = error_of(server.complete(model=name), 404)
    assert error["code"] == "model_not_found" and "mini, auto, emotion, qa" in error["message"]
    assert len(server.model.asked) == num_asked


def test_auto_answers_under_the_name_of_the_adapter_that_it_chose(server: Served) -> None:
    body = server.complete(model="auto").json()
    assert body["model"] == "emotion" and body["choices"][0]["route"]["reason"] == "most like emotion"


def test_a_mix_is_asked_of_the_base(server: Served) -> None:
    body = server.complete(adapter_mix={"emotion": 0.75, "mini:qa": 0.25}).json()
    assert server.model.asked[-1].choice == {"emotion": 0.75, "qa": 0.25}
    assert body["model"] == "emotion"
    error_of(server.complete(adapter_mix={"emotoin": 1.0}), 404)


def test_the_prompt_is_the_input_that_is_missing(server: Served) -> None:
    server.complete(model="qa", prompt="Who?", inputs={"context": "Ann came."})
    assert server.model.asked[-1].text == {"context": "Ann came.", "question": "Who?"}
    server.chat("Who?", model="qa", inputs={"context": "Ann came."})
    assert server.model.asked[-1].text == {"context": "Ann came.", "question": "Who?"}
    server.complete(model="mini", task="qa", prompt="Who?", inputs={"context": "Ann came."})
    assert server.model.asked[-1].text == {"context": "Ann came.", "question": "Who?"}
    message = error_of(server.complete(model="qa", prompt="Who?", inputs={"text": "x"}), 400)["message"]
    assert "context, question" in message


def test_label_probabilities_stand_beside_the_choice(server: Served) -> None:
    choice = server.complete(label_probabilities=True).json()["choices"][0]
    assert choice["label_probabilities"] == {"joy": 0.75, "fear": 0.25}
    assert "label_probabilities" not in server.complete().json()["choices"][0]


# Chat


def test_a_chat_is_one_user_message(server: Served) -> None:
    body = server.chat("one two", max_completion_tokens=5).json()
    assert body["object"] == "chat.completion" and body["id"].startswith("chatcmpl-")
    [choice] = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "two one", "refusal": None}
    assert server.model.asked[-1].params["max_new_tokens"] == 5
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert server.chat({"role": "user", "content": parts}).json()["choices"][0]["message"]["content"] == "two one"


def test_the_base_reads_a_system_message_first(server: Served) -> None:
    server.chat({"role": "system", "content": "Translate:"}, "good morning")
    assert server.model.asked[-1].text == "Translate: good morning"


def test_log_probabilities_come_in_the_form_of_each_endpoint(server: Served) -> None:
    found = server.complete(prompt="b aa", logprobs=2).json()["choices"][0]["logprobs"]
    assert found == {
        "tokens": ["aa", " b"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"aa": -0.5, "AA": -1.5}, {" b": -0.5, " B": -1.5}],
        "text_offset": [0, 2],
    }
    assert server.complete(logprobs=0).json()["choices"][0]["logprobs"]["top_logprobs"] is None
    assert server.complete().json()["choices"][0]["logprobs"] is None
    said = server.chat("b aa", logprobs=True, top_logprobs=1).json()["choices"][0]["logprobs"]
    first = {"token": "aa", "logprob": -0.5, "bytes": [97, 97]}
    assert said["content"][0] == {**first, "top_logprobs": [first]}
    assert server.chat("b aa", logprobs=True).json()["choices"][0]["logprobs"]["content"][1]["top_logprobs"] == []
    events = server.complete(prompt="b aa", logprobs=1, stream=True).text.split("\n\n")
    scored = [json.loads(event[6:])["choices"][0] for event in events if '"token_logprobs"' in event]
    assert [each["finish_reason"] for each in scored] == ["stop"] and scored[0]["logprobs"]["tokens"] == [
        "aa",
        " b",
    ]


@pytest.mark.parametrize(
    ("messages", "fields", "says"),
    [
        ([{"role": "system", "content": "x"}, "y"], {"model": "emotion"}, "takes no system message"),
        (["x", {"role": "assistant", "content": "y"}, "z"], {}, "no earlier turns"),
        (["x", "y"], {}, "one user message (got 2)"),
        ([{"role": "system", "content": "x"}], {}, "one user message (got 0)"),
        ([], {}, "at least 1 item"),
        ([{"role": "user", "content": [{"type": "image_url", "text": None}]}], {}, "only text is read"),
        ([{"role": "robot", "content": "x"}], {}, "messages"),
        (["x"], {"tools": [{"type": "function"}]}, "calls no tools"),
        (["x"], {"response_format": {"type": "json_object"}}, "text only"),
        (["x"], {"logprobs": True, "top_logprobs": 21}, "less than or equal to 20 (got 21)"),
        (["x"], {"top_logprobs": 3}, "only with `logprobs: true`"),
    ],
)
def test_what_a_chat_cannot_be_is_said(
    server: Served, messages: list[Any], fields: dict[str, Any], says: str
) -> None:
    assert says in error_of(server.chat(*messages, **fields), 400)["message"]


# Embeddings and models


def test_embeddings_are_the_bases(server: Served) -> None:
    body = server.post("/v1/embeddings", {"model": "mini", "input": ["abc", "d"]}).json()
    assert [item["embedding"] for item in body["data"]] == [[3.0, 0.5], [1.0, 0.5]]
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    packed = server.post("/v1/embeddings", {"model": "mini", "input": "abc", "encoding_format": "base64"}).json()
    assert struct.unpack("<2f", base64.b64decode(packed["data"][0]["embedding"])) == (3.0, 0.5)
    error_of(server.post("/v1/embeddings", {"model": "emotion", "input": "abc"}), 400)
    assert (
        "token ids" in error_of(server.post("/v1/embeddings", {"model": "mini", "input": [[1]]}), 400)["message"]
    )


def test_models_are_the_base_and_its_adapters(server: Served) -> None:
    base, emotion, qa = server.client.get("/v1/models").json()["data"]
    assert (base["id"], base["parent"], base["root"]) == ("mini", None, "mini")
    assert (emotion["id"], emotion["parent"], emotion["root"]) == ("emotion", "mini", "mini/emotion")
    assert qa["inputs"] == ["context", "question"]
    assert server.client.get("/v1/models/mini:qa").json() == qa
    assert server.client.get("/v1/models/mini").json() == base
    assert error_of(server.client.get("/v1/models/nothing"), 404)["code"] == "model_not_found"
    assert server.client.get("/v1/models/qa/card").json()["manifest"]["name"] == "qa"


def test_a_full_queue_error_has_a_kind_of_its_own() -> None:
    from flan_lora.serving.openai.errors import as_api_error

    assert as_api_error(QueueFullError("full")).status == 429
