"""The server on Ray with one replica and with two: throughput, and how often a request finds its adapter loaded.

    python benchmarks/ray_serve.py --out benchmarks/results/DATE-ray-serve-mini-cpu.json

Copies of one adapter, asked for by popularity 1 / rank, in a closed loop. "preferred" is the server as it is;
"anywhere" asks for the same adapter as a mix with itself, which goes to any replica. All runs on this machine:
Ray's own processes, the ingress and the client take their part of its cores, and each row says which.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

REPO = Path(__file__).resolve().parents[1]
DIALOGUE = (
    "Ann: are you coming on Friday? | Bob: yes, at eight. | Ann: great, bring some cake! | Bob: number {}, ok"
)
KINDS = {":engine": "engines", ":ingress": "ingress", "ProxyActor": "proxy"}


def copies(adapter: str, number: int, folder: Path) -> list[str]:
    """Publish one of mini's adapters under so many names; an adapter root like the repository's."""
    from flan_lora.adapters.store import Store

    stored = Store(REPO / "adapters" / "mini").open(adapter)
    names = [f"{adapter}-{place}" for place in range(number)]
    for name in names:
        staged = folder / "staged" / name
        shutil.copytree(stored.path, staged)
        for not_staged in ("manifest.json", "routing_profile.safetensors"):
            (staged / not_staged).unlink()
        Store(folder / "adapters" / "mini").publish(staged, stored.manifest.model_copy(update={"name": name}))
    return names


def bodies(names: Sequence[str], number: int, *, is_preferred: bool, seed: int) -> list[dict[str, Any]]:
    """Requests of 16 tokens, greedy, no two alike."""
    from flan_lora.bench.stage import zipf

    chosen = [names[place] for place in zipf(number, len(names), seed=seed)]
    common = {"max_tokens": 16, "num_beams": 1, "min_tokens": 12}
    asked = [{"model": name} if is_preferred else {"model": "mini", "adapter_mix": {name: 1.0}} for name in chosen]
    return [{**who, "prompt": DIALOGUE.format(place), **common} for place, who in enumerate(asked)]


def counters(url: str) -> dict[str, dict[str, float]]:
    """Of each replica: engine steps, cache hits, loads, tokens."""
    import httpx

    found: dict[str, dict[str, float]] = {}
    for line in httpx.get(f"{url}/metrics", timeout=60).text.splitlines():
        name, _, rest = line.partition("{")
        labels, _, value = rest.partition("} ")
        if name in COUNTED and 'replica="' in labels and "ingress" not in labels:
            replica = labels.split('replica="')[1].split('"')[0]
            own = found.setdefault(replica, dict.fromkeys(COUNTED.values(), 0.0))
            own[COUNTED[name]] += float(value)
    return found


COUNTED = {
    "flan_lora_engine_steps_total": "steps",
    "flan_lora_adapter_cache_hits_total": "hits",
    "flan_lora_adapter_loads_total": "loads",
    "flan_lora_generation_tokens_total": "tokens",
    "flan_lora_e2e_request_latency_seconds_count": "requests",
}


def processor_times() -> dict[str, float]:
    """Seconds so far, by kind of process; "ray" is the rest of Ray's."""
    found = dict.fromkeys((*KINDS.values(), "ray", "client"), 0.0)
    own = psutil.Process()
    found["client"] = sum(own.cpu_times()[:2])
    for process in own.children(recursive=True):
        try:
            title, spent = " ".join(process.cmdline()), sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
        found[next((kind for mark, kind in KINDS.items() if mark in title), "ray")] += spent
    return found


def measure(url: str, asked: Sequence[Mapping[str, Any]], num_clients: int) -> dict[str, Any]:
    """One closed loop."""
    from flan_lora.bench.load import run_closed

    before, spent = counters(url), processor_times()
    report = run_closed(url, asked, num_clients=num_clients)
    after, spent_after = counters(url), processor_times()
    each = [
        {name: value - before.get(replica, {}).get(name, 0.0) for name, value in own.items()}
        for replica, own in sorted(after.items())
    ]
    total = {name: sum(own[name] for own in each) for name in COUNTED.values()}
    return {
        "requests_per_s": round(report.requests_per_s, 2),
        "errors": report.num_errors,
        "p50_s": round(report.quantile_s(0.5), 3),
        "p95_s": round(report.quantile_s(0.95), 3),
        "hit_rate": round(1 - total["loads"] / len(asked), 4),
        "tokens_per_step": round(total["tokens"] / max(total["steps"], 1), 2),
        "replicas": each,
        "cpu_s": {kind: round(spent_after[kind] - spent[kind], 2) for kind in spent},
        "seconds": round(report.seconds, 2),
    }


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Each number of replicas, each way of choosing one, each number of clients."""
    from ray import serve

    from flan_lora.serving.ray import app

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        names = copies("summarization", options.adapters, Path(folder))
        serve.start(http_options={"host": "127.0.0.1", "port": options.port})
        url = f"http://127.0.0.1:{options.port}"
        for number in options.replicas:
            arguments = {
                "base": "mini",
                "adapters_dir": f"{folder}/adapters",
                "max_loras": options.max_loras,
                "min_replicas": number,
                "host": "127.0.0.1",
                "server": {"logs_requests": False},
            }
            serve.run(app(arguments), name="flan-lora", logging_config={"enable_access_log": False})
            measure(url, bodies(names, 4 * number * options.max_loras, is_preferred=True, seed=99), 16)  # warm
            for num_clients in options.clients:
                for is_preferred in (True, False) if num_clients == options.clients[-1] else (True,):
                    asked = bodies(names, options.requests, is_preferred=is_preferred, seed=num_clients)
                    way = "preferred" if is_preferred else "anywhere"
                    row = {"replicas_asked": number, "way": way, "clients": num_clients}
                    rows.append({**row, **measure(url, asked, num_clients)})
                    print(json.dumps(rows[-1]), flush=True)
            serve.delete("flan-lora")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--adapters", type=int, default=200)
    parser.add_argument("--max-loras", type=int, default=24)
    parser.add_argument("--port", type=int, default=8766)
    options = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own 15 would put the client before the replicas
    import ray

    ray.init(
        address="local", num_cpus=2, object_store_memory=200_000_000, include_dashboard=False, log_to_driver=False
    )
    try:
        rows = run(options)
    finally:
        ray.shutdown()
    if options.out:
        date = time.strftime("%Y-%m-%d")
        known = {name: getattr(options, name) for name in ("requests", "adapters", "max_loras")}
        options.out.write_text(json.dumps({"date": date, "cores": os.cpu_count(), **known, "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
