"""Replicas, adapters and a crowd, as a discrete-event simulation: what `flan-lora serve --ray` would carry.

    python benchmarks/scale_simulation.py --against benchmarks/results/DATE-ray-serve-mini-cpu.json
    python benchmarks/scale_simulation.py --replicas 16 --adapters 1000 --rate 600

Simulated are Serve's choice of a replica (who has the adapter, until it is full; the shorter queue of two), an
LRU of adapters in each, the engine's running batch (requests join and leave between steps; a step of b rows costs
``step_s + row_s * b``, a new row ``prefill_s``, an adapter that is not there ``load_s``), and, on one machine, the
cores that replicas, ingress, Ray and the client share.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import simpy


@dataclass(frozen=True)
class Costs:
    """Of one replica, in seconds of a core or a GPU."""

    step_s: float
    row_s: float
    prefill_s: float = 0.0
    load_s: float = 0.0
    carry_s: float = 0.0
    """Of everything beside the engine, a request: client, proxy, ingress, Ray. Half of it before the engine."""


@dataclass(frozen=True)
class Cluster:
    """What answers, and what is asked of it."""

    costs: Costs
    num_replicas: int = 2
    num_cores: int | None = None
    """Shared by all; None: each replica has its own, and what carries requests has enough."""
    max_running: int = 32
    max_loras: int = 24
    num_adapters: int = 200
    zipf: float = 1.0
    num_tokens: int = 16
    prefers_resident: bool = True
    seed: int = 0


@dataclass
class Request:
    adapter: int
    arrived_s: float
    done: simpy.Event
    tokens_left: int


@dataclass
class Replica:
    """An engine: its LRU of adapters, its queue and its running batch."""

    waiting: deque[Request] = field(default_factory=deque)
    running: list[Request] = field(default_factory=list)
    resident: OrderedDict[int, None] = field(default_factory=OrderedDict)
    has_work: simpy.Event | None = None
    num_loads: int = 0
    num_steps: int = 0

    @property
    def num_ongoing(self) -> int:
        return len(self.waiting) + len(self.running)


@dataclass
class Outcome:
    """Of one simulation."""

    requests_per_s: float
    p50_s: float
    p95_s: float
    hit_rate: float
    rows_per_step: float


class Simulation:
    """One run; closed loop of clients, or Poisson arrivals."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.env = cluster, simpy.Environment()
        self.draw = random.Random(cluster.seed)
        self.cores = simpy.Resource(self.env, cluster.num_cores) if cluster.num_cores else None
        self.carriers = simpy.Resource(self.env, 1)
        self.replicas = [Replica(has_work=self.env.event()) for _ in range(cluster.num_replicas)]
        self.weights = [1 / (rank + 1) ** cluster.zipf for rank in range(cluster.num_adapters)]
        self.latencies: list[float] = []
        self.begun_s, self.num_asked = 0.0, 0
        for replica in self.replicas:
            self.env.process(self._engine(replica))

    def closed(self, num_clients: int, num_requests: int, num_warm: int) -> Outcome:
        """So many clients, each with its next request as soon as it has an answer."""
        chosen = iter(self.draw.choices(range(len(self.weights)), self.weights, k=num_requests + num_warm))

        def client() -> Iterator[Any]:
            for adapter in chosen:
                if self.num_asked == num_warm:
                    self._begin()
                self.num_asked += 1
                yield from self._ask(adapter)

        clients = [self.env.process(client()) for _ in range(num_clients)]
        self.env.run(self.env.all_of(clients))
        return self._outcome()

    def open(self, rate_per_s: float, num_requests: int, num_warm: int) -> Outcome:
        """Poisson arrivals, whatever became of those before."""

        def crowd() -> Iterator[Any]:
            asked = []
            for place in range(num_requests + num_warm):
                if place == num_warm:
                    self._begin()
                yield self.env.timeout(self.draw.expovariate(rate_per_s))
                [adapter] = self.draw.choices(range(len(self.weights)), self.weights)
                asked.append(self.env.process(self._ask(adapter)))
            yield self.env.all_of(asked)

        self.env.run(self.env.process(crowd()))
        return self._outcome()

    def _begin(self) -> None:
        """Count from here on."""
        self.begun_s, self.latencies = self.env.now, []
        for replica in self.replicas:
            replica.num_loads = replica.num_steps = 0

    def _outcome(self) -> Outcome:
        times, seconds = sorted(self.latencies), self.env.now - self.begun_s
        num_steps = sum(replica.num_steps for replica in self.replicas)
        return Outcome(
            requests_per_s=len(times) / seconds,
            p50_s=times[len(times) // 2],
            p95_s=times[int(len(times) * 0.95)],
            hit_rate=1 - sum(replica.num_loads for replica in self.replicas) / len(times),
            rows_per_step=len(times) * self.cluster.num_tokens / max(num_steps, 1),
        )

    def _ask(self, adapter: int) -> Iterator[Any]:
        start = self.env.now
        yield from self._carry()
        replica = self._chosen(adapter)
        request = Request(adapter, self.env.now, self.env.event(), self.cluster.num_tokens)
        replica.waiting.append(request)
        assert replica.has_work is not None
        if not replica.has_work.triggered:
            replica.has_work.succeed()
        yield request.done
        yield from self._carry()
        self.latencies.append(self.env.now - start)

    def _carry(self) -> Iterator[Any]:
        """There or back: proxy, ingress and client are one thread each, and wait for one another."""
        if self.cluster.costs.carry_s:
            with self.carriers.request() as turn:
                yield turn
                yield from self._work(self.cluster.costs.carry_s / 2)

    def _chosen(self, adapter: int) -> Replica:
        """Ray Serve's: of those that have the adapter and are not full, else of all, the shorter queue of two."""
        limit = self.cluster.max_running
        having = [each for each in self.replicas if adapter in each.resident and each.num_ongoing < limit]
        if not (self.cluster.prefers_resident and having):
            having = [each for each in self.replicas if each.num_ongoing < limit] or self.replicas
        two = self.draw.sample(having, min(2, len(having)))
        return min(two, key=lambda replica: replica.num_ongoing)

    def _engine(self, replica: Replica) -> Iterator[Any]:
        costs = self.cluster.costs
        while True:
            if not replica.num_ongoing:
                replica.has_work = self.env.event()
                yield replica.has_work
            busy_s = 0.0
            while replica.waiting and len(replica.running) < self.cluster.max_running:
                request = replica.waiting.popleft()
                busy_s += costs.prefill_s + costs.load_s * self._loads(replica, request.adapter)
                replica.running.append(request)
            yield from self._work(busy_s + costs.step_s + costs.row_s * len(replica.running))
            replica.num_steps += 1
            for request in replica.running:
                request.tokens_left -= 1
                if not request.tokens_left:
                    request.done.succeed()
            replica.running = [each for each in replica.running if each.tokens_left]

    def _loads(self, replica: Replica, adapter: int) -> bool:
        """Whether an adapter has to be loaded; it is the latest used one then."""
        is_missing = adapter not in replica.resident
        replica.resident[adapter] = None
        replica.resident.move_to_end(adapter)
        if len(replica.resident) > self.cluster.max_loras:
            replica.resident.popitem(last=False)
        replica.num_loads += is_missing
        return is_missing

    def _work(self, seconds: float) -> Iterator[Any]:
        """On a core of the machine, or on one's own."""
        if not seconds:
            return
        if self.cores is None:
            yield self.env.timeout(seconds)
            return
        with self.cores.request() as core:
            yield core
            yield self.env.timeout(seconds)


def fitted(rows: Sequence[dict[str, Any]]) -> Costs:
    """Costs from the runs with one replica: few clients and many give a step's two parts.

    An engine's seconds over its steps are ``step_s + row_s * rows``; loads and prefill are in them.
    """
    alone = [row for row in rows if row["replicas_asked"] == 1 and row["way"] == "preferred"]
    few, many = min(alone, key=lambda row: row["clients"]), max(alone, key=lambda row: row["clients"])
    per_step = [row["cpu_s"]["engines"] / row["replicas"][0]["steps"] for row in (few, many)]
    row_s = (per_step[1] - per_step[0]) / (many["tokens_per_step"] - few["tokens_per_step"])
    beside = sum(value for kind, value in many["cpu_s"].items() if kind != "engines")
    return Costs(
        step_s=per_step[0] - row_s * few["tokens_per_step"],
        row_s=row_s,
        carry_s=beside / many["replicas"][0]["requests"],
    )


def against(path: Path) -> None:
    """The measured runs beside the simulated ones, with costs from those of one replica alone."""
    measured = json.loads(path.read_text())
    rows = measured["rows"]
    costs = fitted(rows)
    print(
        "costs of a core (ms):",
        {name: round(1000 * value, 3) for name, value in dataclasses.asdict(costs).items()},
    )
    print("replicas  way        clients   requests/s measured, simulated   hit rate measured, simulated")
    for row in rows:
        counted = row["replicas"]
        tokens = round(sum(each["tokens"] for each in counted) / sum(each["requests"] for each in counted))
        cluster = Cluster(
            costs,
            num_replicas=row["replicas_asked"],
            num_cores=measured["cores"],
            max_loras=measured["max_loras"],
            num_adapters=measured["adapters"],
            num_tokens=tokens,
            prefers_resident=row["way"] == "preferred",
        )
        warm = 4 * row["replicas_asked"] * measured["max_loras"]
        found = Simulation(cluster).closed(row["clients"], measured["requests"], warm)
        print(
            f"{row['replicas_asked']:8}  {row['way']:9}  {row['clients']:7}   {row['requests_per_s']:19.2f}, "
            f"{found.requests_per_s:9.2f}   {row['hit_rate']:17.3f}, {found.hit_rate:9.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="A result of benchmarks/ray_serve.py.")
    parser.add_argument("--replicas", type=int, default=16)
    parser.add_argument("--adapters", type=int, default=1000)
    parser.add_argument("--max-loras", type=int, default=64)
    parser.add_argument("--max-running", type=int, default=64)
    parser.add_argument("--rate", type=float, default=600.0, help="Requests a second.")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--tokens", type=int, default=16)
    for name, default in (("step", 6.5), ("row", 0.0), ("prefill", 3.9), ("load", 1.0)):
        parser.add_argument(f"--{name}-ms", type=float, default=default)
    options = parser.parse_args()
    if options.against:
        against(options.against)
        return
    costs = Costs(options.step_ms / 1e3, options.row_ms / 1e3, options.prefill_ms / 1e3, options.load_ms / 1e3)
    for prefers in (True, False):
        cluster = Cluster(
            costs,
            num_replicas=options.replicas,
            max_running=options.max_running,
            max_loras=options.max_loras,
            num_adapters=options.adapters,
            num_tokens=options.tokens,
            prefers_resident=prefers,
        )
        found = Simulation(cluster).open(options.rate, options.requests, options.requests // 4)
        print("preferred" if prefers else "anywhere ", json.dumps(dataclasses.asdict(found)))


if __name__ == "__main__":
    main()
