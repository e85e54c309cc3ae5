"""Requests to a server over HTTP, as its users send them: closed loop or open loop, streamed or not.

Closed: so many clients, each with its next question as soon as it has an answer; this finds the throughput. Open:
questions come at a rate whatever became of those before, which is how a crowd behaves; this finds the latency.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flan_lora.tasks import TASKS

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Exchange:
    """What became of one request."""

    status: int
    """0: the connection failed."""
    first_s: float
    """To the first text."""
    total_s: float
    num_tokens: int = 0


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of all."""

    seconds: float
    exchanges: Sequence[Exchange]
    cpu_s: float = float("nan")
    """Of the process that answered, all its threads; NaN where nobody looked."""

    @property
    def answered(self) -> list[Exchange]:
        """Those with status 200."""
        return [each for each in self.exchanges if each.status == 200]

    @property
    def num_errors(self) -> int:
        """All others."""
        return len(self.exchanges) - len(self.answered)

    @property
    def requests_per_s(self) -> float:
        """Answered."""
        return len(self.answered) / self.seconds

    @property
    def tokens_per_s(self) -> float:
        """Generated for those that were answered."""
        return sum(each.num_tokens for each in self.answered) / self.seconds

    @property
    def cpu_s_per_request(self) -> float:
        """Of what was answered."""
        return self.cpu_s / len(self.answered) if self.answered else float("nan")

    def quantile_s(self, share: float, *, first: bool = False) -> float:
        """Of the time to the last token, or to the first text (s); NaN where nothing was answered."""
        times = sorted(each.first_s if first else each.total_s for each in self.answered)
        if not times:
            return float("nan")
        return (
            statistics.quantiles(times, n=1000, method="inclusive")[round(share * 1000) - 1]
            if times[1:]
            else times[0]
        )


def mixed_bodies(
    adapters: Mapping[str, str], number: int, *, streamed_share: float = 0.5, seed: int = 0
) -> list[Body]:
    """Questions for adapters in a random order, each task's own examples.

    Args:
        adapters: name -> task.
    """
    draw = random.Random(seed)
    asked: list[Body] = []
    for _ in range(number):
        name = draw.choice(sorted(adapters))
        inputs = draw.choice(TASKS[adapters[name]].card.examples).inputs
        asked.append({"model": name, "inputs": dict(inputs), "stream": draw.random() < streamed_share})
    return asked


def run_closed(url: str, bodies: Sequence[Body], *, num_clients: int, key: str | None = None) -> LoadReport:
    """Every client sends its next request when the last one has been answered."""

    async def run(send: Callable[[Body], Awaitable[Exchange]]) -> list[Exchange]:
        left = iter(bodies)

        async def client() -> list[Exchange]:
            return [await send(body) for body in left]

        return [each for own in await asyncio.gather(*(client() for _ in range(num_clients))) for each in own]

    return asyncio.run(_measured(url, key, run))


def run_open(
    url: str, bodies: Sequence[Body], *, rate_per_s: float, key: str | None = None, seed: int = 0
) -> LoadReport:
    """Requests come as a Poisson process, however many are under way."""

    async def run(send: Callable[[Body], Awaitable[Exchange]]) -> list[Exchange]:
        draw, tasks = random.Random(seed), []
        for body in bodies:
            await asyncio.sleep(draw.expovariate(rate_per_s))
            tasks.append(asyncio.ensure_future(send(body)))
        return list(await asyncio.gather(*tasks))

    return asyncio.run(_measured(url, key, run))


async def _measured(
    url: str, key: str | None, run: Callable[[Callable[[Body], Awaitable[Exchange]]], Awaitable[list[Exchange]]]
) -> LoadReport:
    import aiohttp

    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    timeout = aiohttp.ClientTimeout(total=600)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, headers=headers, timeout=timeout, connector=connector) as session:

        async def send(body: Body) -> Exchange:
            start = time.perf_counter()
            try:
                return await _exchange(session, body, start)
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
                now = time.perf_counter() - start
                return Exchange(0, now, now)

        start = time.perf_counter()
        exchanges = await run(send)
        return LoadReport(time.perf_counter() - start, exchanges)


async def _exchange(session: Any, body: Body, start: float) -> Exchange:
    asked = {**body, "stream_options": {"include_usage": True}} if body.get("stream") else body
    async with session.post("/v1/completions", json=asked) as response:
        if response.status != 200:
            await response.read()
            now = time.perf_counter() - start
            return Exchange(response.status, now, now)
        if not body.get("stream"):
            answer = json.loads(await response.read())
            now = time.perf_counter() - start
            return Exchange(200, now, now, answer["usage"]["completion_tokens"])
        return await _streamed(response, start)


async def _streamed(response: Any, start: float) -> Exchange:
    first_s, num_tokens, status = 0.0, 0, 200
    async for line in response.content:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            status = 0
        elif event.get("usage"):
            num_tokens = event["usage"]["completion_tokens"]
        elif not first_s and event["choices"][0].get("text"):
            first_s = time.perf_counter() - start
    total_s = time.perf_counter() - start
    return Exchange(status, first_s or total_s, total_s, num_tokens)
