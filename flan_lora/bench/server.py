"""The table of ``flan-lora bench server``: ours over HTTP, the engine alone, and what people write instead.

Same machine, same adapters, same questions, in one run, taking turns. Each server is a process of its own. Where
cores are few the client takes its part of them, so that throughput over HTTP is not the server's alone: beside it
stands the processor time of the process that answers, per request, which no client adds to.
"""

from __future__ import annotations

import json
import queue
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

import psutil

from flan_lora.adapters.remote_store import store_at
from flan_lora.adapters.validation import StoredAdapter
from flan_lora.bench.load import Body, LoadReport, mixed_bodies, run_closed, run_open
from flan_lora.errors import FlanLoraError
from flan_lora.serving.router import Router
from flan_lora.system.devices import choose_device, measured_on

_START_S = 300.0


@dataclass(frozen=True)
class ServerOptions:
    """What to measure, and how long."""

    root: Path
    """The adapters of one base."""
    num_clients: int = 16
    num_requests: int = 200
    """Of each turn."""
    num_rounds: int = 3
    rate_share: float = 0.7
    """Open loop: requests per second, as a share of what closed loop found."""
    with_plain: bool = True
    """Whether the PEFT server takes part."""


@dataclass(frozen=True)
class Row:
    """One line of the table; medians over rounds."""

    system: str
    requests_per_s: float
    tokens_per_s: float
    first_p50_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    num_errors: int
    cpu_s_per_request: float
    """Of the process that answers; of the engine alone, with the threads that ask it."""

    @staticmethod
    def of(system: str, reports: Sequence[LoadReport]) -> Row:
        """Of the rounds of one system."""

        def median(values: Iterator[float]) -> float:
            return statistics.median(values)

        return Row(
            system=system,
            requests_per_s=median(report.requests_per_s for report in reports),
            tokens_per_s=median(report.tokens_per_s for report in reports),
            first_p50_s=median(report.quantile_s(0.5, first=True) for report in reports),
            p50_s=median(report.quantile_s(0.5) for report in reports),
            p95_s=median(report.quantile_s(0.95) for report in reports),
            p99_s=median(report.quantile_s(0.99) for report in reports),
            num_errors=sum(report.num_errors for report in reports),
            cpu_s_per_request=median(report.cpu_s_per_request for report in reports),
        )


def run(options: ServerOptions) -> list[Row]:
    """Closed loop for every system in turn, then open loop for ours.

    Raises:
        FlanLoraError: a server does not start.
    """
    stored = [item for item in store_at(options.root).list() if isinstance(item, StoredAdapter)]
    if not stored:
        raise FlanLoraError(f"no adapters in {options.root}. Train one: flan-lora train RECIPE")
    tasks = {item.name: item.manifest.task for item in stored}
    streamed = mixed_bodies(tasks, options.num_requests)
    whole = [{**body, "stream": False} for body in streamed]
    clients = options.num_clients
    found: dict[str, list[LoadReport]] = {}
    with ExitStack() as stack:
        ours = stack.enter_context(_process(["flan_lora", *_serve(options.root, stored[0])]))
        command = ["flan_lora.bench.plain_server", str(options.root)]
        plain = stack.enter_context(_process(command)) if options.with_plain else None
        router = Router.open(options.root, stored[0].open_serving_base())  # as the server opens it
        for server in filter(None, (ours, plain)):
            run_closed(server.url, whole[: 2 * clients], num_clients=clients)  # adapters loaded, caches warm
        _alone(router, whole[: 2 * clients], clients)
        for _ in range(options.num_rounds):
            turns = [
                ("engine alone", _alone(router, whole, clients)),
                ("ours", ours.closed(whole, clients)),
                ("ours, half streamed", ours.closed(streamed, clients)),
            ]
            if plain is not None:
                turns.append(("PEFT set_adapter, lock", plain.closed(whole, clients)))
            for name, report in turns:
                found.setdefault(name, []).append(report)
        closed = statistics.median(report.requests_per_s for report in found["ours, half streamed"])
        rate = options.rate_share * closed
        name = f"ours, open loop at {rate:.1f}/s"
        found[name] = [
            ours.measured(partial(run_open, ours.url, streamed, rate_per_s=rate))
            for _ in range(options.num_rounds)
        ]
    return [Row.of(name, reports) for name, reports in found.items()]


def to_json(options: ServerOptions, rows: Sequence[Row]) -> str:
    """One line for a log."""
    settings = {**asdict(options), "root": options.root.name}
    machine = measured_on(choose_device("int8", None)[0])
    return json.dumps({"bench": "server", "machine": machine, **settings, "rows": [asdict(row) for row in rows]})


def _serve(root: Path, stored: StoredAdapter) -> list[str]:
    base = ["--base", stored.recipe.base.model]
    return ["serve", "--port", "0", "--adapters-dir", str(root.parent), *base, "--no-access-log"]


def _alone(router: Router, bodies: Sequence[Body], num_clients: int) -> LoadReport:
    """The same questions from as many threads, without HTTP."""
    from flan_lora.bench.load import Exchange

    def ask(body: Body) -> Exchange:
        start = time.perf_counter()
        answer = router.generate(body["inputs"], body["model"])
        now = time.perf_counter() - start
        return Exchange(200, now, now, answer.num_tokens)

    start, cpu_s = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(num_clients) as pool:
        exchanges = list(pool.map(ask, bodies))
    return LoadReport(time.perf_counter() - start, exchanges, time.process_time() - cpu_s)


@dataclass(frozen=True)
class RunningServer:
    """A server in a process of its own."""

    url: str
    pid: int

    def closed(self, bodies: Sequence[Body], num_clients: int) -> LoadReport:
        """`run_closed`, with the server's processor time."""
        return self.measured(partial(run_closed, self.url, bodies, num_clients=num_clients))

    def measured(self, load: Callable[[], LoadReport]) -> LoadReport:
        """A load, with the server's processor time."""
        before = self._cpu_s()
        report = load()
        return replace(report, cpu_s=self._cpu_s() - before)

    def _cpu_s(self) -> float:
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


@contextmanager
def _process(arguments: Sequence[str]) -> Iterator[RunningServer]:
    process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = _first_line(process.stdout)
        found = re.match(r"Ready: (http://\S+) ", line)
        if found is None:
            raise FlanLoraError(
                f"the server {arguments[0]} did not start (it said {line.strip() or 'nothing'!r})."
            )
        yield RunningServer(found[1], process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
        process.stdout.close()


def _first_line(stream: IO[str]) -> str:
    found: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=lambda: found.put(stream.readline()), daemon=True).start()
    try:
        return found.get(timeout=_START_S)
    except queue.Empty:
        return ""
