"""What this repository says about a GPU, measured in at most 9 minutes: one JSON file and one Markdown table.

`benchmarks/gpu.sh` calls this. Parts, each in a process of its own with a time limit: one that fails or takes too
long says so in the table, keeps what it had found, and the next begins.

    prepare      FLAN-T5-large's shapes with random weights, and adapters of rank 16 for q and v
    tests        pytest -m gpu
    mixed        a batch whose rows use 1 to 64 adapters, against PEFT's mixed batches, int8 and bf16
    kernels      the Triton kernels for adapters against gathering A and B
    captured     reading sources and decoding by CUDA graphs against kernel by kernel, int8 and bf16
    train-int8   samples/s and peak memory of training against Seq2SeqTrainer + PEFT
    train-bf16   the same on a bf16 base
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
LIMITS_S = {
    "prepare": 60,
    "tests": 110,
    "mixed": 130,
    "kernels": 30,
    "captured": 70,
    "train-int8": 65,
    "train-bf16": 65,
}
"""Part -> seconds that it may take: 530 of 540."""
Finding = dict[str, Any]
"""measure, ours, unit; against, theirs, ratio (how many times better ours is) and note where there are any."""


@dataclass(frozen=True)
class Settings:
    """What every part is told."""

    device: str
    folder: str
    """Of what `prepare` writes."""
    shape: str = "large"
    adapters: tuple[int, ...] = (1, 4, 16, 64)  # different ones in a mixed batch, of as many rows as the last
    rows: tuple[int, ...] = (1, 16)
    source_tokens: int = 64
    new_tokens: int = 16
    repeats: int = 20
    rounds: int = 2
    train_steps: int = 10

    @staticmethod
    def tiny(device: str, folder: str) -> Settings:
        """The smallest that runs everything."""
        return Settings(device, folder, "mini", (1, 2), (1, 2), 6, 3, 2, 1, 2)


@dataclass(frozen=True)
class Outcome:
    """What came of one part; its status is ``ok``, or why not."""

    part: str
    status: str
    seconds: float
    findings: list[Finding] = field(default_factory=list)


@click.command(help=__doc__)
@click.option("--device", default="cuda", show_default=True, help="As torch spells it.")
@click.option("--tiny", is_flag=True, help="The smallest shapes.")
@click.option("--only", "parts", multiple=True, type=click.Choice(list(LIMITS_S)), help="Repeatable.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=RESULTS, help="Where to write.")
@click.option("--worker", hidden=True, type=click.Choice(list(LIMITS_S)))
@click.option("--settings", "given", hidden=True)
def main(
    device: str, tiny: bool, parts: tuple[str, ...], out: Path, worker: str | None, given: str | None
) -> None:
    if worker is not None and given is not None:
        for found in PARTS[worker](settings_of(given)):
            print(json.dumps(found), flush=True)
        return
    about = describe(device)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="flan-lora-gpu-") as folder:
        settings = Settings.tiny(device, folder) if tiny else Settings(device, folder)
        outcomes = list[Outcome]()
        for part in [name for name in LIMITS_S if not parts or name in parts or name == "prepare"]:
            command = [sys.executable, __file__, "--worker", part, "--settings", json.dumps(asdict(settings))]
            outcomes.append(run_part(part, command, LIMITS_S[part], device))
            click.echo(f"{part}: {outcomes[-1].status} ({outcomes[-1].seconds:.0f} s)", err=True)
            write_report(out, about, settings, outcomes)  # each time: a run that is stopped leaves what it found
    click.echo(table(outcomes))
    if any(outcome.status != "ok" for outcome in outcomes):
        raise SystemExit(1)


def settings_of(given: str) -> Settings:
    values = json.loads(given)
    return Settings(**{**values, "adapters": tuple(values["adapters"]), "rows": tuple(values["rows"])})


def describe(device: str) -> dict[str, Any]:
    """Date, device and versions. Raises ClickException where torch has no such device."""
    import platform

    import torch

    from flan_lora.errors import BaseModelError
    from flan_lora.system.devices import choose_device, measured_on

    try:
        chosen, _ = choose_device("int8", device)
    except BaseModelError as error:
        raise click.ClickException(f"{error}\nTo see that the script runs: --device cpu --tiny") from error
    versions = {name: __import__(name).__version__ for name in ("torch", "transformers", "peft", "bitsandbytes")}
    versions |= {
        "python": platform.python_version(),
        "cuda": str(torch.version.cuda),
        "triton": _version("triton"),
    }
    return {
        "benchmark": "gpu",
        "date": time.strftime("%Y-%m-%d"),
        "device": measured_on(chosen),
        "versions": versions,
    }


def _version(package: str) -> str:
    return __import__(package).__version__ if find_spec(package) else "none"


def run_part(part: str, command: Sequence[str], limit_s: float, device: str) -> Outcome:
    """One part in a process of its own, ended with all that it has started when its time is over."""
    start = time.perf_counter()
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})
    with tempfile.TemporaryFile("w+", errors="replace") as said, tempfile.TemporaryFile("w+") as found:
        options: dict[str, Any] = {"cwd": ROOT, "env": environment, "start_new_session": True}
        process = subprocess.Popen(command, stdout=found, stderr=said, **options)
        try:
            code = process.wait(timeout=limit_s)
            status = "ok" if code == 0 else ""
        except subprocess.TimeoutExpired:
            status = f"stopped after {limit_s:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said.seek(0)
        found.seek(0)
        lines = [line.strip() for line in said if line.strip()]
        findings = [json.loads(line) for line in found if line.startswith("{") and line.endswith("}\n")]
    status = status or f"failed: {lines[-1][:300] if lines else code}"
    return Outcome(part, status, round(time.perf_counter() - start, 1), findings)


def write_report(out: Path, about: dict[str, Any], settings: Settings, outcomes: Sequence[Outcome]) -> None:
    """The JSON and the table."""
    kind = "".join(letter if letter.isalnum() else "-" for letter in about["device"].split(",")[0].lower())
    name = f"{about['date']}-gpu-{'tiny-' if settings.shape == 'mini' else ''}{kind}"
    shown = asdict(replace(settings, folder=""))
    report = {**about, "settings": shown, "parts": [asdict(outcome) for outcome in outcomes]}
    (out / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
    head = f"# {about['device']}, {about['date']}\n\n{versions}; shapes: {settings.shape}\n\n"
    (out / f"{name}.md").write_text(f"{head}{table(outcomes)}\n", encoding="utf-8")


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown: a row per finding, and one for each part that did not end well."""
    lines = ["| part | measure | ours | against | theirs | ratio | note |", "|---|---|---|---|---|---|---|"]
    for outcome in outcomes:
        for each in outcome.findings:
            theirs, ratio = each.get("theirs"), each.get("ratio")
            cells = (
                outcome.part,
                each["measure"],
                f"{each['ours']:,.4g} {each['unit']}",
                each.get("against", ""),
                "-" if theirs is None else f"{theirs:,.4g} {each['unit']}",
                "-" if ratio is None else f"{ratio:.2f}x",
                each.get("note", ""),
            )
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
        if outcome.status != "ok":
            lines.append(f"| {outcome.part} | **{outcome.status.replace('|', '/')}** | | | | | |")
    return "\n".join(lines)


# One function per part


def prepare(settings: Settings) -> Iterator[Finding]:
    """The base and the adapters that the others read."""
    from flan_lora.bench.stage import set_up

    start = time.perf_counter()
    stage = set_up(settings.shape, Path(settings.folder), device=settings.device)
    paths = [str(stage.base_path), *map(str, stage.adapter_paths)]
    (Path(settings.folder) / "stage.json").write_text(json.dumps(paths), encoding="utf-8")
    yield {"measure": f"weights of {settings.shape}", "ours": time.perf_counter() - start, "unit": "s"}


def run_tests(settings: Settings) -> Iterator[Finding]:
    """``pytest -m gpu``; without a GPU they are only collected."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"]
    if settings.device == "cpu":
        command[-1:] = ["--collect-only", "tests/engine/test_runner.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.strip()] or [done.stderr.strip()[-300:]]
    failed = [line.split(" - ")[0] for line in lines if line.startswith(("FAILED", "ERROR"))]
    yield {"measure": "pytest -m gpu", "ours": done.returncode, "unit": "exit code", "note": lines[-1]}
    if done.returncode:
        raise SystemExit(f"pytest -m gpu: {'; '.join(failed) or lines[-1]}")


def measure_mixed(settings: Settings) -> Iterator[Finding]:
    """Rows of U adapters, against PEFT's ``adapter_names``."""
    from flan_lora.bench import router

    options = router.Options(
        shape=settings.shape,
        device=settings.device,
        rows=settings.adapters[-1],
        source_tokens=settings.source_tokens,
        new_tokens=settings.new_tokens,
        rounds=settings.rounds,
        adapters=settings.adapters,
    )
    for found in router.measure_mixed(read_stage(settings), options, Path(settings.folder)):
        yield {key: value for key, value in asdict(found).items() if key != "runs"}


def measure_kernels(settings: Settings) -> Iterator[Finding]:
    """One linear's updates for a step of decoding and for reading sources, every row another adapter."""
    import torch

    from flan_lora.engine.lora_batch import AdapterRef, IndexedLora
    from flan_lora.engine.memory_pool import LoraMemoryPool, SlotLayout

    size = 1024 if settings.shape == "large" else 64
    layout = SlotLayout.of(16, {"q": (size, size)})
    num_slots = settings.adapters[-1] + 1
    slots = torch.randn(num_slots, layout.width, device=settings.device, dtype=torch.bfloat16)
    pool = LoraMemoryPool(layout, slots)
    for num_rows in settings.adapters:
        refs = [(AdapterRef(pool, row + 1, frozenset({"q"}), 1.0),) for row in range(num_rows)]
        for num_tokens in (1, settings.source_tokens):
            x = torch.randn(num_rows, num_tokens, size, device=settings.device, dtype=torch.bfloat16)
            lora, out = IndexedLora.of(pool, refs), torch.zeros_like(x)
            has_kernels = lora._kernels is not None
            add = partial(lora.add_lora, "q", x, out)
            seconds = timed(add, settings)
            lora._kernels = None
            gathered = timed(add, settings)
            finding = compared(f"{num_rows} rows of {num_tokens} tokens", seconds, gathered, "gathering")
            yield finding | {"note": "" if has_kernels else "no Triton kernels here: gathered twice"}


def measure_captured(settings: Settings) -> Iterator[Finding]:
    """Reading and decoding by graphs against kernel by kernel; then int8 against bf16."""
    steps: dict[tuple[str, int, int], float] = {}
    for quantization in ("int8", "bf16"):
        found = {graphs: step_times(settings, quantization, graphs=graphs) for graphs in (True, False)}
        for (rows, used), (reading, step) in found[True].items():
            eager_reading, eager_step = found[False][rows, used]
            what = f"{quantization}, {rows} rows, {used} adapters"
            yield compared(f"reading, {what}", reading, eager_reading, "kernel by kernel")
            yield compared(f"step, {what}", step, eager_step, "kernel by kernel")
            steps[quantization, rows, used] = step
    for _, rows, used in [key for key in steps if key[0] == "int8"]:
        ours, theirs = steps["int8", rows, used], steps["bf16", rows, used]
        yield compared(f"step, {rows} rows, {used} adapters: int8", ours, theirs, "bf16")


def step_times(
    settings: Settings, quantization: str, *, graphs: bool
) -> dict[tuple[int, int], tuple[float, float]]:
    """(rows, adapters) -> median seconds of reading the sources, and of a step."""
    from flan_lora.adapters.weights import base_linears, open_folder
    from flan_lora.bench.stage import make_sources, open_staged
    from flan_lora.engine.adapter_cache import AdapterCache
    from flan_lora.engine.batch import RunningBatch
    from flan_lora.engine.decode_group import RunningRequest
    from flan_lora.engine.generation_params import GenerationParams
    from flan_lora.engine.model_runner import ModelRunner
    from flan_lora.engine.request import Request

    stage = read_stage(settings)
    base = open_staged(stage, quantization)  # type: ignore[arg-type]
    model = ModelRunner(base.model, graphs=graphs)
    num_adapters = min(settings.rows[-1], 16)
    linears = base_linears(base.model)
    cache = AdapterCache(linears, fingerprint=base.fingerprint, num_slots=num_adapters + 1, device=base.device)
    for number in range(num_adapters):
        cache.add(open_folder(str(number), stage.adapter(number))[0])
    params = GenerationParams(max_new_tokens=settings.new_tokens)
    found: dict[tuple[int, int], tuple[float, float]] = {}
    with cache.lease([str(number) for number in range(num_adapters)]) as lease:
        for rows in settings.rows:
            for used in sorted({1, min(rows, num_adapters)}):
                sources = enumerate(make_sources(rows, settings.source_tokens))
                requests = [Request(ids, {str(row % used): 1.0}, params) for row, ids in sources]
                reading, step = [], []
                for turn in range(3):  # the first one captures
                    batch = RunningBatch(model)
                    begin = clock(settings)
                    batch.add([RunningRequest(request, lease) for request in requests])
                    read = clock(settings)
                    while batch.num_running:
                        batch.step()
                    if turn:
                        reading.append(read - begin)
                        step.append((clock(settings) - read) / settings.new_tokens)
                found[rows, used] = statistics.median(reading), statistics.median(step)
    return found


def measure_training(settings: Settings, quantization: str) -> Iterator[Finding]:
    """Samples/s and peak memory against the stock way with dynamic padding."""
    import bench_train

    base_path = read_stage(settings).base_path
    options = {"shape": settings.shape, "recipe": "emotion", "data": "sample", "checkpointing": False}
    options |= {"steps": settings.train_steps, "quantization": quantization}
    runs = {
        variant: bench_train.run_in_process(variant, base_path, options) for variant in ("ours", "stock-dynamic")
    }
    speed, stock_speed = (runs[name]["samples_per_s"] for name in ("ours", "stock-dynamic"))
    peak, stock_peak = (runs[name]["peak_bytes"] / 1e9 for name in ("ours", "stock-dynamic"))
    for what, ours, unit, theirs, ratio in (
        ("speed", speed, "samples/s", stock_speed, speed / stock_speed),
        ("peak memory", peak, "GB", stock_peak, stock_peak / peak),
    ):
        numbers = {"ours": ours, "unit": unit, "theirs": theirs, "ratio": ratio}
        yield {"measure": what, "against": "Seq2SeqTrainer + PEFT", **numbers}


PARTS: dict[str, Callable[[Settings], Iterator[Finding]]] = {
    "prepare": prepare,
    "tests": run_tests,
    "mixed": measure_mixed,
    "kernels": measure_kernels,
    "captured": measure_captured,
    "train-int8": lambda settings: measure_training(settings, "int8"),
    "train-bf16": lambda settings: measure_training(settings, "bf16"),
}


def read_stage(settings: Settings) -> Any:
    """What `prepare` wrote."""
    from flan_lora.bench.stage import Stage

    base, *adapters = json.loads((Path(settings.folder) / "stage.json").read_text(encoding="utf-8"))
    return Stage(Path(base), tuple(map(Path, adapters)), settings.device)


def clock(settings: Settings) -> float:
    """Seconds, when all that was launched is done."""
    import torch

    if settings.device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(call: Callable[[], object], settings: Settings) -> float:
    """Median seconds of a call, after some to warm up."""
    for _ in range(3):
        call()
    times = []
    for _ in range(settings.repeats):
        start = clock(settings)
        call()
        times.append(clock(settings) - start)
    return statistics.median(times)


def compared(measure: str, ours_s: float, theirs_s: float, against: str) -> Finding:
    """Seconds as ms."""
    times = {"ours": 1000 * ours_s, "unit": "ms", "theirs": 1000 * theirs_s, "ratio": theirs_s / ours_s}
    return {"measure": measure, "against": against, **times}


if __name__ == "__main__":
    main()
