"""Completions, chat and embeddings: a request's fields to queries, their answers to a body or a stream."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from flan_lora.serving.completion import Choice, Text
from flan_lora.serving.openai.bodies import Head, Kind, choice, delta, extras, usage
from flan_lora.serving.openai.errors import ClientGone, as_api_error, error_body, refused
from flan_lora.serving.openai.metrics import Metrics
from flan_lora.serving.openai.schema import ChatBody, CompletionBody, EmbeddingBody, GenerationBody, parse
from flan_lora.serving.openai.served import Answered, Answering, Query, ServedModel
from flan_lora.serving.openai.settings import ServerSettings
from flan_lora.serving.openai.texts import chat_text, chosen, completion_texts, resolve

Result = TypeVar("Result")
_SEPARATOR = "\n"
"""Between the lines of an event, as OpenAI sends them; the library's own is \\r\\n."""
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_DONE = ServerSentEvent(data="[DONE]", sep=_SEPARATOR)
_MAX_PREPARING = 32
"""Requests whose prompts are made at once; those of `auto` wait there for the engine to encode them."""
_PING_S = 15
"""Between comments that keep a proxy from closing a stream that waits in the queue."""


@dataclass(frozen=True)
class Endpoints:
    """The endpoints that ask the model."""

    model: ServedModel
    settings: ServerSettings
    metrics: Metrics
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_MAX_PREPARING, "flan-lora-prepare")
    )
    """For what may block; they end with the process."""

    async def completions(self, request: Request) -> Response:
        """`POST /v1/completions`."""
        body = parse(CompletionBody, await request.body())

        def queries() -> list[Query]:
            choice_ = chosen(self.model, body)
            texts = completion_texts(self.model, body, choice_, self.settings.max_prompts)
            return [_query(body, text, choice_, body.max_tokens, body.logprobs) for text in texts]

        return await self._answer(request, "completion", body, queries)

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        body = parse(ChatBody, await request.body())

        def queries() -> list[Query]:
            choice_ = chosen(self.model, body)
            text = chat_text(self.model, body, choice_)
            max_tokens = body.max_completion_tokens or body.max_tokens
            return [_query(body, text, choice_, max_tokens, body.num_log_probs)]

        return await self._answer(request, "chat", body, queries)

    async def embeddings(self, request: Request) -> Response:
        """`POST /v1/embeddings`: mean-pooled encoder states of the bare base, of length 1."""
        body = parse(EmbeddingBody, await request.body())
        if await self._in_thread(resolve, self.model, body.model) is not None:
            raise refused(
                f"model: embeddings are the base's; ask {self.model.base.name!r} (got {body.model!r}).",
                "model",
            )
        texts = [body.input] if isinstance(body.input, str) else body.input
        if len(texts) > self.settings.max_prompts:
            raise refused(f"input: at most {self.settings.max_prompts} texts (got {len(texts)}).", "input")
        embedded = await self._while_listening(request, self._in_thread(self.model.embed, texts))
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
            for index, vector in enumerate(embedded.vectors)
        ]
        counts = {"prompt_tokens": embedded.num_tokens, "total_tokens": embedded.num_tokens}
        return JSONResponse({"object": "list", "model": self.model.base.name, "data": data, "usage": counts})

    # Answers

    async def _answer(
        self, request: Request, kind: Kind, body: GenerationBody, make_queries: Callable[[], list[Query]]
    ) -> Response:
        # one way to a thread and back for all of it: names are looked up on disk, texts are tokenized, and those
        # of `auto` wait for the engine to encode them
        queries, answerings = await self._in_thread(self._started, make_queries, asyncio.get_running_loop())
        exchange = Exchange(self, kind, body, answerings)
        _log(request, exchange, queries if self.settings.logs_texts else ())
        if body.stream:
            return _EventStream(exchange, request)
        try:
            answers = await self._while_listening(request, exchange.answers())
        finally:
            exchange.end()
        _log_answers(request, exchange, answers, with_texts=self.settings.logs_texts)
        return JSONResponse(exchange.body_of(answers))

    def _started(
        self, make_queries: Callable[[], list[Query]], loop: asyncio.AbstractEventLoop
    ) -> tuple[list[Query], list[Answering]]:
        """All or none: where one cannot be put into the queue, the others leave it."""
        queries, answerings = make_queries(), list[Answering]()
        try:
            for query in queries:
                answerings.append(self.model.start(query, loop))
        except BaseException:
            for answering in answerings:
                answering.cancel()
            raise
        return queries, answerings

    async def _in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)

    async def _while_listening(self, request: Request, work: Awaitable[Result]) -> Result:
        """Wait for work as long as the client and the time limit do. Raises ClientGone, TimeoutError."""
        task = asyncio.ensure_future(work)
        hang_up = asyncio.ensure_future(_hang_up(request))
        try:
            done, _ = await asyncio.wait(
                {task, hang_up}, timeout=self.settings.request_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if task in done:
                return task.result()
            if hang_up in done:
                raise ClientGone
            raise TimeoutError
        finally:
            task.cancel()
            hang_up.cancel()


@dataclass(frozen=True)
class Exchange:
    """One request under way: its texts' answers, as a whole or in events."""

    endpoints: Endpoints
    kind: Kind
    body: GenerationBody
    answerings: Sequence[Answering]

    @property
    def models(self) -> list[str]:
        """Who answers each text."""
        base = self.endpoints.model.base.name
        return [answering.adapter or base for answering in self.answerings]

    @property
    def head(self) -> Head:
        """A fresh one for each call; several texts that ``auto`` sent apart have several models."""
        model = self.endpoints.model
        digests = [model.base.digest[:8], *sorted({item.digest[:8] for item in self.answerings if item.digest})]
        return Head(self.kind, ",".join(dict.fromkeys(self.models)), f"fp_{'_'.join(digests)}")

    async def answers(self) -> list[Answered]:
        """Of all texts, in their order."""
        return [await self._counted(answering) for answering in self.answerings]

    def body_of(self, answers: Sequence[Answered]) -> dict[str, Any]:
        """The answer that is not streamed."""
        choices = [
            choice(self.kind, place * self.body.num_answers + index, candidate, extras(answering, answered))
            for place, (answering, answered) in enumerate(zip(self.answerings, answers, strict=True))
            for index, candidate in enumerate(answered.candidates[: self.body.num_answers])
        ]
        return self.head.body(choices, is_chunk=False, usage=usage(self.answerings, answers))

    def end(self) -> None:
        """Free what still runs."""
        for answering in self.answerings:
            answering.cancel()

    async def events(self, request: Request) -> AsyncGenerator[ServerSentEvent]:
        """Chunks, counts where asked for, and [DONE]; an error that comes late is an event too."""
        head = self.head
        answers: list[Answered] = []
        try:
            with anyio.fail_after(self.endpoints.settings.request_timeout_s):
                async with aclosing(self._deltas(answers)) as deltas:
                    async for item in deltas:
                        no_usage = {"usage": None} if self.body.includes_usage else {}
                        yield _event(head.body([item], is_chunk=True, **no_usage))
            if self.body.includes_usage:
                yield _event(head.body([], is_chunk=True, usage=usage(self.answerings, answers)))
            _log_answers(request, self, answers, with_texts=self.endpoints.settings.logs_texts)
        except Exception as error:
            shown = as_api_error(error)
            self.endpoints.metrics.failed(shown.code)
            request.state.log["error"] = shown.code
            yield _event(error_body(shown))
        finally:
            self.end()
        yield _DONE

    def _deltas(self, answers: list[Answered]) -> AsyncGenerator[dict[str, Any]]:
        """The texts side by side, as their pieces come; ``answers`` is filled on the way."""
        answers.extend(Answered((), 0) for _ in self.answerings)
        each = [self._read(place, answers) for place in range(len(self.answerings))]
        return each[0] if len(each) == 1 else merged(each)

    async def _read(self, place: int, answers: list[Answered]) -> AsyncGenerator[dict[str, Any]]:
        """One text's pieces, then its further candidates whole."""
        answering, first = self.answerings[place], place * self.body.num_answers
        is_first = True
        async for piece in answering.pieces():
            yield delta(self.kind, first, piece, is_first=is_first)
            is_first = False
        answers[place] = answered = await self._counted(answering)
        extra = extras(answering, answered)
        for index, candidate in enumerate(answered.candidates[: self.body.num_answers]):
            if index or is_first:
                yield delta(self.kind, first + index, candidate.text if index else "", is_first=True)
            yield delta(
                self.kind, first + index, "", candidate.finish_reason, tokens=candidate.tokens, extra=extra
            )

    async def _counted(self, answering: Answering) -> Answered:
        answered = await answering.answered()
        model = answering.adapter or self.endpoints.model.base.name
        self.endpoints.metrics.answered(model, answering.num_prompt_tokens, answered)
        return answered


async def merged(generators: Sequence[AsyncGenerator[Result]]) -> AsyncGenerator[Result]:
    """What several generators yield, as it comes. The first that raises ends them all."""
    arrived: asyncio.Queue[Result | BaseException | None] = asyncio.Queue()

    async def read(generator: AsyncGenerator[Result]) -> None:
        try:
            async for item in generator:
                arrived.put_nowait(item)
            arrived.put_nowait(None)
        except Exception as error:
            arrived.put_nowait(error)

    tasks = [asyncio.ensure_future(read(generator)) for generator in generators]
    try:
        num_open = len(tasks)
        while num_open:
            item = await arrived.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                num_open -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()


class _EventStream(EventSourceResponse):
    """A stream that frees its rows however it ends, also where the client is gone before the first event."""

    def __init__(self, exchange: Exchange, request: Request) -> None:
        super().__init__(exchange.events(request), ping=_PING_S, sep=_SEPARATOR)
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._exchange.end()


def _query(
    body: GenerationBody, text: Text, choice_: Choice, max_tokens: int | None, num_log_probs: int | None
) -> Query:
    return Query(
        text=text,
        choice=choice_,
        params=body.params(max_tokens),
        ranks_candidates=body.num_candidates > body.num_answers,
        stop=body.stop_strings,
        task=body.task,
        abstain=body.abstain or "error",
        label_probabilities=bool(body.label_probabilities),
        is_streamed=bool(body.stream),
        num_log_probs=num_log_probs,
    )


async def _hang_up(request: Request) -> None:
    """Return when the client closes the connection; the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _event(body: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(data=_encode(body), sep=_SEPARATOR)


def _encoded(vector: Sequence[float], encoding: str | None) -> list[float] | str:
    """OpenAI's base64: little-endian float32, which their client asks for by default."""
    if encoding == "base64":
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
    return list(vector)


def _log(request: Request, exchange: Exchange, queries: Sequence[Query]) -> None:
    log: dict[str, Any] = request.state.log
    log["model"] = ",".join(dict.fromkeys(exchange.models))
    log["stream"] = bool(exchange.body.stream)
    if queries:
        log["texts"] = [query.text if isinstance(query.text, str) else dict(query.text) for query in queries]


def _log_answers(request: Request, exchange: Exchange, answers: Sequence[Answered], *, with_texts: bool) -> None:
    log: dict[str, Any] = request.state.log
    log.update(usage(exchange.answerings, answers))
    if with_texts:
        log["answers"] = [candidate.text for answered in answers for candidate in answered.candidates]
