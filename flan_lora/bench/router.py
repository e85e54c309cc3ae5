"""The table of ``flan-lora bench router``: switching, loading, mixed batches, traffic, many adapters, memory.

Systems take turns within a round, so that a drifting machine hits all alike, on a CPU each in a process of its
own; the figures are medians over rounds.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from flan_lora.bench.apart import Apart, Here, Memory, System, Watched
from flan_lora.bench.stage import Stage, make_sources, open_staged, set_up, spread, zipf
from flan_lora.bench.systems import Ids, Merged, Ours, Peft, merge
from flan_lora.system.devices import measured_on

MEASURES = ("activate", "load", "mixed", "merged", "traffic", "zipf", "memory")
NUM_TASKS = 6

Runs = dict[str, list[float]]
"""System -> a figure per turn."""


@dataclass(frozen=True)
class Options:
    """What to measure, and how long."""

    shape: str = "mini"
    device: str = "cpu"
    targets: str = "qv"
    """Linears of the adapters (`stage.TARGETS`)."""
    rows: int = 16
    source_tokens: int = 64
    new_tokens: int = 16
    rounds: int = 3
    num_requests: int = 96
    """Of the traffic and popularity measures."""
    adapters: tuple[int, ...] = (1, 4, 6, 16)
    """Different adapters in a mixed batch."""
    on_disk: tuple[int, ...] = (6, 100, 1000)
    in_memory: tuple[int, ...] = (NUM_TASKS, 100)
    """Adapters of the memory measure."""
    measures: tuple[str, ...] = MEASURES
    apart: bool = True
    """On a CPU each system in a process of its own, so that none disturbs another; False: all in this one."""


@dataclass(frozen=True)
class Finding:
    """One line of the table."""

    measure: str
    ours: float
    unit: str
    against: str = ""
    theirs: float | None = None
    ratio: float | None = None
    """How many times better ours is; of tokens/s ours / theirs, of seconds and bytes theirs / ours."""
    note: str = ""
    """What was checked: rows with the same tokens, say."""
    runs: Mapping[str, Sequence[float]] = field(default_factory=dict)


def run(options: Options) -> Iterator[Finding]:
    """Every measure that was asked for, as soon as it is known.

    Raises:
        BaseModelError: CTranslate2 is asked for and not installed.
    """
    with tempfile.TemporaryDirectory(prefix="flan-lora-bench-") as folder:
        path = Path(folder)
        stage = set_up(options.shape, path, targets=options.targets, device=options.device)
        for measure in MEASURES:
            if measure in options.measures:
                yield from _MEASURES[measure](stage, options, path)


# One function per measure


def measure_activate(stage: Stage, options: Options, _: Path) -> Iterator[Finding]:
    """Make another resident adapter the one that answers; in a turn each of them once."""
    with _system(options, _ours, stage, num_adapters=16) as ours:
        for num_resident in (NUM_TASKS, 16):
            with _system(options, _peft, stage, num_adapters=num_resident) as peft:
                times: Runs = {"ours": [], "peft": []}
                for _turn in range(options.rounds):
                    for name, system in (("ours", ours), ("peft", peft)):
                        times[name].append(system.call("activate_each", num_resident).seconds / num_resident)
            yield _compared(f"activate, {num_resident} resident", times, "ms", "PEFT set_adapter")


def measure_load(stage: Stage, options: Options, _: Path) -> Iterator[Finding]:
    """From a folder into service: read, check, put where batches find it."""
    times: Runs = {"ours": [], "peft": []}
    with _system(options, _ours, stage) as ours, _system(options, _peft, stage, num_adapters=1) as peft:
        for number in range(1, options.rounds + 1):
            for name, system in (("ours", ours), ("peft", peft)):
                times[name].append(system.call("load", "new", stage.adapter(NUM_TASKS + number)).seconds)
                system.call("unload", "new")
    yield _compared("load from disk into service", times, "ms", "PEFT load_adapter")


def measure_mixed(stage: Stage, options: Options, _: Path) -> Iterator[Finding]:
    """One batch whose rows use U adapters, all of one length."""
    sources = make_sources(options.rows, options.source_tokens)
    num_adapters = max(options.adapters)
    medians: dict[int, float] = {}
    num_tokens = options.rows * options.new_tokens
    with (
        _system(options, _ours, stage, num_adapters=num_adapters, max_rows=options.rows) as ours,
        _system(options, _peft, stage, num_adapters=num_adapters) as int8,
        _system(options, _peft, stage, num_adapters=num_adapters, quantization="bf16") as bf16,
    ):
        for num_used in options.adapters:
            adapters = spread(options.rows, num_used)
            job = (sources, adapters, options.new_tokens)
            systems = {"ours": ours, "int8": int8, "bf16": bf16}
            speeds, answers = _tokens_per_s(systems, job, num_tokens, options.rounds)
            medians[num_used] = statistics.median(speeds["ours"])
            note = _agreement(answers["ours"], answers["int8"])
            note += _partings(int8, sources, adapters, answers["ours"], answers["int8"])
            for name, against, said in (("int8", "PEFT, same int8 base", note), ("bf16", "PEFT, bf16 base", "")):
                pair = {"ours": speeds["ours"], "peft": speeds[name]}
                yield _compared(f"{options.rows} rows, U={num_used}", pair, "tokens/s", against, said)
    first, last = min(medians), max(medians)
    if first != last:
        cost = medians[first] / medians[last] - 1
        yield Finding(f"cost of U={last} over U={first}", 100 * cost, "%")


def measure_merged(stage: Stage, options: Options, folder: Path) -> Iterator[Finding]:
    """One adapter for all rows, against the same adapter merged into a model of CTranslate2's."""
    paths = [_merged_once(stage, 0, folder)]
    with _system(options, _ours, stage) as ours, _system(options, Merged, paths) as merged:
        for rows in (1, options.rows):
            job = (make_sources(rows, options.source_tokens), [0] * rows, options.new_tokens)
            systems = {"ours": ours, "merged": merged}
            speeds, answers = _tokens_per_s(systems, job, rows * options.new_tokens, options.rounds)
            note = _agreement(answers["ours"], answers["merged"]) + " (another int8)"
            yield _compared(f"one adapter, B={rows}", speeds, "tokens/s", "CTranslate2 int8 merged", note)


def measure_traffic(stage: Stage, options: Options, folder: Path) -> Iterator[Finding]:
    """Rows of random tasks, half to one and a half times as long, in the order of their arrival, all at once.

    We take them as they come; PEFT a batch after the other; CTranslate2 each task's rows by themselves, on a CPU.
    """
    num_rows = options.num_requests
    lengths = [options.source_tokens * (1 + row % 3) // 2 for row in range(num_rows)]
    sources = [make_sources(1, length, seed=row)[0] for row, length in enumerate(lengths)]
    job = (sources, [number % NUM_TASKS for number in zipf(num_rows, NUM_TASKS, seed=1)], options.new_tokens)
    with ExitStack() as stack:
        systems = {"ours": stack.enter_context(_system(options, _ours, stage, max_rows=options.rows))}
        systems["peft"] = stack.enter_context(_system(options, _peft, stage, batch_size=options.rows))
        if has_merged(options.device):
            paths = [_merged_once(stage, number, folder) for number in range(NUM_TASKS)]
            systems["merged"] = stack.enter_context(_system(options, Merged, paths, batch_size=options.rows))
        speeds, answers = _tokens_per_s(systems, job, num_rows * options.new_tokens, options.rounds)
    for name in [name for name in systems if name != "ours"]:
        against, same = {
            "peft": ("PEFT, same int8 base", ""),
            "merged": ("CTranslate2 int8, per task", " (another int8)"),
        }[name]
        pair = {"ours": speeds["ours"], name: speeds[name]}
        note = _agreement(answers["ours"], answers[name]) + same
        yield _compared(f"{NUM_TASKS}-task traffic, {num_rows} rows", pair, "tokens/s", against, note)


def measure_zipf(stage: Stage, options: Options, _: Path) -> Iterator[Finding]:
    """One request after the other, adapters by popularity 1 / rank, 16 slots for however many there are."""
    sources = make_sources(options.num_requests, options.source_tokens)
    p95: dict[int, float] = {}
    for num_adapters in options.on_disk:
        with _system(options, _ours, stage, num_adapters=num_adapters, num_slots=17) as ours:
            times = [
                ours.call("generate", [source], [number], options.new_tokens).seconds
                for source, number in zip(sources, zipf(options.num_requests, num_adapters), strict=True)
            ]
        p95[num_adapters] = statistics.quantiles(times, n=20)[-1]
        growth = 100 * (p95[num_adapters] / p95[options.on_disk[0]] - 1)
        note = f"p50 {1000 * statistics.median(times):.1f} ms; p95 {growth:+.1f} % over {options.on_disk[0]}"
        yield Finding(f"p95 latency, {num_adapters} on disk", 1000 * p95[num_adapters], "ms", note=note)


def measure_memory(stage: Stage, options: Options, folder: Path) -> Iterator[Finding]:
    """Memory of a process that loads and answers a batch: at most, and when it has answered.

    On a CPU: anonymous resident memory, less that of the same imports alone; a merged copy is a model of
    CTranslate2's. On a GPU: of tensors; a merged copy is the int8 base without adapters, in our engine.
    """
    if has_merged(options.device):
        with Watched(_import_all) as nothing:
            empty = nothing.memory()
        merged = partial(Merged, [_merged_once(stage, 0, folder)], num_threads=1)
        copy, name = _memory(options, [0], merged) - empty, "CTranslate2 int8"
    else:
        empty, name = Memory(0, 0), "merged int8"
        bare = partial(_ours, stage, num_adapters=0, max_rows=options.rows)
        copy = _memory(options, [None], bare)
    for num_adapters in options.in_memory:
        ours = partial(_ours, stage, num_adapters=num_adapters, num_slots=num_adapters + 1, max_rows=options.rows)
        found = _memory(options, range(num_adapters), ours) - empty
        against = f"{num_adapters} x {name}"
        for what, taken, of_copy in (
            ("peak memory", found.peak, copy.peak),
            ("memory at work", found.now, copy.now),
        ):
            yield Finding(
                f"{what}, base + {num_adapters}",
                taken / 1e6,
                "MB",
                against,
                num_adapters * of_copy / 1e6,
                num_adapters * of_copy / taken,
                f"one merged copy {of_copy / 1e6:.0f} MB",
            )


_MEASURES: dict[str, Callable[[Stage, Options, Path], Iterator[Finding]]] = {
    "activate": measure_activate,
    "load": measure_load,
    "mixed": measure_mixed,
    "merged": measure_merged,
    "traffic": measure_traffic,
    "zipf": measure_zipf,
    "memory": measure_memory,
}


# Parts


def has_merged(device: str) -> bool:
    """Whether CTranslate2's merged models are compared: on a CPU. Its wheels want a CUDA older than torch's."""
    return device == "cpu"


def _system(options: Options, make: Callable[..., Any], *arguments: Any, **settings: Any) -> System:
    """Where it disturbs no other."""
    place = Apart if options.device == "cpu" and options.apart else Here
    return place(make, *arguments, **settings)


def _ours(
    stage: Stage, *, num_adapters: int = NUM_TASKS, num_slots: int | None = None, max_rows: int = 16
) -> Ours:
    slots = num_slots if num_slots is not None else num_adapters + 2
    return Ours(open_staged(stage), stage, num_adapters=num_adapters, num_slots=slots, max_rows=max_rows)


def _peft(
    stage: Stage,
    *,
    num_adapters: int = NUM_TASKS,
    quantization: Literal["int8", "bf16"] = "int8",
    batch_size: int | None = None,
) -> Peft:
    return Peft(open_staged(stage, quantization), stage, num_adapters=num_adapters, batch_size=batch_size)


def _merged_once(stage: Stage, number: int, folder: Path) -> Path:
    path = folder / f"ct2-{number}-int8"
    return path if path.is_dir() else merge(stage, number, folder)


def _tokens_per_s(
    systems: Mapping[str, System], job: tuple[Any, ...], num_tokens: int, rounds: int
) -> tuple[Runs, dict[str, Ids]]:
    """Tokens/s of every round, and the answers; one turn each to warm up."""
    answers = {name: system.call("generate", *job).result for name, system in systems.items()}
    speeds: Runs = {name: [] for name in systems}
    for _ in range(rounds):
        for name, system in systems.items():
            speeds[name].append(num_tokens / system.call("generate", *job).seconds)
    return speeds, answers


def _compared(
    measure: str, runs: Mapping[str, Sequence[float]], unit: str, against: str, note: str = ""
) -> Finding:
    """Medians of ours and one other; seconds are shown in ms, and less of them is better."""
    ours, theirs = (statistics.median(values) for values in runs.values())
    ratio = ours / theirs if unit == "tokens/s" else theirs / ours
    scale = 1000.0 if unit == "ms" else 1.0
    return Finding(measure, ours * scale, unit, against, theirs * scale, ratio, note, runs)


def _agreement(ours: Ids, theirs: Ids) -> str:
    same = sum(left == right for left, right in zip(ours, theirs, strict=True))
    return f"{same} of {len(ours)} rows the same tokens"


def _partings(peft: System, sources: Ids, adapters: Sequence[int], ours: Ids, theirs: Ids) -> str:
    """Where two answers part first, how far PEFT itself sees its token ahead of ours: small is a near tie."""
    leads = []
    for source, adapter, left, right in zip(sources, adapters, ours, theirs, strict=True):
        place = next((at for at, (a, b) in enumerate(zip(left, right, strict=True)) if a != b), None)
        if place is not None:
            leads.append(peft.call("lead", source, adapter, right[:place], right[place], left[place]).result)
    if not leads:
        return ""
    return (
        f"; where others part, PEFT's token leads by {statistics.median(leads):.2g} nats, {max(leads):.2g} at most"
    )


def _memory(options: Options, adapters: Sequence[int | None], make: Callable[[], Any]) -> Memory:
    """Of a process that makes a system, and answers a batch that uses all of these adapters."""
    sources = make_sources(options.rows, options.source_tokens)
    used = [adapters[row % len(adapters)] for row in range(options.rows)]
    if not has_merged(options.device):
        with Apart(make) as system:
            system.call("generate", sources, used, options.new_tokens)
            found = system.call("gpu_memory").result
            assert isinstance(found, Memory)
            return found
    with Watched(_beside_all_imports, make) as watched:
        watched.call("generate", sources, used, options.new_tokens)
        return watched.memory()


def _beside_all_imports(make: Callable[[], Any]) -> Any:
    _import_all()
    return make()


def _import_all() -> None:
    """Every process of this measure has all of them, so that they cancel out."""
    import bitsandbytes  # noqa: F401
    import ctranslate2  # noqa: F401
    import transformers  # noqa: F401


def to_json(options: Options, findings: Sequence[Finding]) -> str:
    """One line: what was measured where, and every run."""
    import dataclasses
    import platform

    import torch

    versions = {
        name: __import__(name).__version__ for name in ("torch", "transformers", "peft", "bitsandbytes")
    } | {"python": platform.python_version()}
    if has_merged(options.device) and {"merged", "traffic", "memory"} & set(options.measures):
        versions["ctranslate2"] = __import__("ctranslate2").__version__
    return json.dumps(
        {
            "benchmark": "router",
            "date": time.strftime("%Y-%m-%d"),
            "device": measured_on(torch.device(options.device)),
            "versions": versions,
            "options": dataclasses.asdict(options),
            "findings": [dataclasses.asdict(finding) for finding in findings],
        }
    )
