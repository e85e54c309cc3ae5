"""The clients that people have, unchanged, against a real server: openai, LangChain, curl."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_openai import OpenAI as LangChainOpenAI
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI, UnprocessableEntityError

from flan_lora.tasks import TASKS
from tests.serving.openai.conftest import needs_ray
from tests.serving.openai.process import Process

pytestmark = pytest.mark.xdist_group("server")

HAPPY = "i feel so happy that the whole family came to visit"
DIALOGUE = "Ann: are you coming on Friday? | Bob: yes, at eight. | Ann: great, please bring some cake! | Bob: ok"


@pytest.fixture(scope="module", params=["mini", pytest.param("mini_on_ray", marks=[needs_ray, pytest.mark.slow])])
def served_mini(request: pytest.FixtureRequest) -> Process:
    """The same adapters served by one process, and by two replicas on Ray."""
    served: Process = request.getfixturevalue(request.param)
    return served


@pytest.fixture(scope="module")
def client(served_mini: Process) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{served_mini.url}/v1", api_key="none", max_retries=0, timeout=60) as made:
        yield made


def test_the_ready_line_says_what_is_served(served_mini: Process) -> None:
    assert "serves mini and 6 adapters: emotion, paraphrase, qa" in served_mini.ready_line


def test_openai_completes_chats_and_lists(client: OpenAI) -> None:
    assert {model.id for model in client.models.list()} >= {"mini", "emotion", "qa"}
    assert client.models.retrieve("emotion").model_dump()["parent"] == "mini"
    completion = client.completions.create(model="emotion", prompt=[HAPPY, "my hands shake before the exam"])
    assert [choice.text for choice in completion.choices] == ["joy", "fear"]
    assert completion.usage is not None and completion.usage.completion_tokens >= 4
    assert completion.usage.prompt_tokens > 20 and completion.choices[0].finish_reason == "stop"
    chat = client.chat.completions.create(model="emotion", messages=[{"role": "user", "content": HAPPY}])
    assert chat.choices[0].message.content == "joy" and chat.model == "emotion"


def test_log_probabilities_are_those_of_the_tokens_that_the_answer_is_written_in(client: OpenAI) -> None:
    greedy = {"num_beams": 1}
    choice = client.completions.create(
        model="summarization", prompt=DIALOGUE, logprobs=3, extra_body=greedy
    ).choices[0]
    found = choice.logprobs
    assert found is not None and found.tokens and found.token_logprobs and found.top_logprobs
    assert "".join(found.tokens).split() == choice.text.split()
    assert all(
        top[token] == pytest.approx(own, abs=1e-5)
        for token, own, top in zip(found.tokens, found.token_logprobs, found.top_logprobs, strict=True)
        if token in top
    )
    assert found.text_offset == [len("".join(found.tokens[:place])) for place in range(len(found.tokens))]
    chat = client.chat.completions.create(
        model="emotion", messages=[{"role": "user", "content": HAPPY}], logprobs=True, top_logprobs=5
    ).choices[0]
    assert chat.logprobs is not None and chat.logprobs.content is not None
    assert "".join(each.token for each in chat.logprobs.content) == "joy"
    assert all(len(each.top_logprobs) == 5 and each.logprob <= 0 for each in chat.logprobs.content)
    with pytest.raises(BadRequestError, match="not in beam search"):
        client.completions.create(model="summarization", prompt=DIALOGUE, logprobs=1)


def test_openai_streams_what_it_completes(client: OpenAI) -> None:
    whole = client.completions.create(model="summarization", prompt=DIALOGUE).choices[0].text
    pieces = [
        chunk.choices[0].text
        for chunk in client.completions.create(model="summarization", prompt=DIALOGUE, stream=True)
    ]
    assert "".join(pieces) == whole
    with client.chat.completions.create(
        model="summarization",
        messages=[{"role": "user", "content": DIALOGUE}],
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens > 5


def test_openais_extras_reach_the_adapters(client: OpenAI) -> None:
    inputs = {"context": "Ann came to Paris on Monday.", "question": "Where did Ann come to?"}
    assert client.completions.create(model="qa", prompt="", extra_body={"inputs": inputs}).choices[0].text
    extra = {"adapter_mix": {"emotion": 0.5}, "label_probabilities": True}
    choice = client.completions.create(model="mini", prompt=HAPPY, extra_body=extra).choices[0]
    shares = choice.model_dump()["label_probabilities"]
    assert set(shares) == set(TASKS["emotion"].labels) and abs(sum(shares.values()) - 1) < 1e-4
    auto = client.completions.create(model="auto", prompt=HAPPY)
    assert auto.model == "emotion" and auto.choices[0].text == "joy"
    first, second = (
        client.completions.create(model="summarization", prompt=DIALOGUE, temperature=1.0, seed=11, n=2).choices
        for _ in range(2)
    )
    assert [choice.text for choice in first] == [choice.text for choice in second] and len(first) == 2


def test_openais_errors_are_its_own_classes(client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="no model 'emotoin'"):
        client.completions.create(model="emotoin", prompt="x")
    with pytest.raises((UnprocessableEntityError, Exception), match=r"context|question"):
        client.completions.create(model="qa", prompt="x")


def test_openai_embeds_texts_of_length_one(client: OpenAI) -> None:
    embedded = client.embeddings.create(model="mini", input=["a cat", "a dog", "a cat"])
    first, second, third = (item.embedding for item in embedded.data)
    assert first == third != second and len(first) > 100
    assert abs(sum(value * value for value in first) - 1) < 1e-3


def test_async_openai_answers_side_by_side(served_mini: Process) -> None:
    async def ask() -> list[str]:
        async with AsyncOpenAI(
            base_url=f"{served_mini.url}/v1", api_key="none", max_retries=0, timeout=60
        ) as client:
            names = ["emotion", "summarization", "mini", "paraphrase"] * 2
            whole = [client.completions.create(model=name, prompt=HAPPY, max_tokens=12) for name in names]
            answers = [answer.choices[0].text for answer in await asyncio.gather(*whole)]
            stream = await client.completions.create(model="emotion", prompt=HAPPY, stream=True)
            return [*answers, "".join([chunk.choices[0].text async for chunk in stream])]

    *answers, streamed = asyncio.run(ask())
    assert answers[:4] == answers[4:] and answers[0] == streamed == "joy" and len(set(answers)) > 1


def test_langchain_asks_streams_and_embeds(served_mini: Process) -> None:
    common = {"base_url": f"{served_mini.url}/v1", "api_key": "none", "max_retries": 0}
    chat = ChatOpenAI(model="summarization", **common)
    whole = chat.invoke(DIALOGUE).content
    assert whole and "".join(chunk.content for chunk in chat.stream(DIALOGUE)) == whole
    assert chat.batch([DIALOGUE, DIALOGUE])[1].content == whole
    assert LangChainOpenAI(model="emotion", temperature=0, **common).invoke(HAPPY) == "joy"
    embeddings = OpenAIEmbeddings(model="mini", check_embedding_ctx_length=False, **common)
    assert len(embeddings.embed_query("a cat")) > 100


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl_asks_and_streams(served_mini: Process) -> None:
    def curl(body: dict[str, object]) -> str:
        command = ["curl", "-sN", "--max-time", "60", f"{served_mini.url}/v1/completions"]
        header = ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        return subprocess.run([*command, *header], capture_output=True, text=True, check=True).stdout

    assert json.loads(curl({"model": "emotion", "prompt": HAPPY}))["choices"][0]["text"] == "joy"
    lines = [line for line in curl({"model": "emotion", "prompt": HAPPY, "stream": True}).splitlines() if line]
    assert lines[-1] == "data: [DONE]" and json.loads(lines[0].removeprefix("data: "))["model"] == "emotion"
