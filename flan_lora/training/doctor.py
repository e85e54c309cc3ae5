"""What this machine can do, by trying it: versions, device, int8, memory, network, and the cost of each recipe.

Returns data; the command line prints it. Touches no file but the caches' free space, and the Hub with one request.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flan_lora.base.fingerprint import short
from flan_lora.base.load import MINI, UNQUANTISED, fuse_gelu, open_base, open_config, quiet_bitsandbytes
from flan_lora.data.token_cache import default_cache_dir
from flan_lora.errors import FlanLoraError
from flan_lora.recipe import BaseSection, LoraSection, Recipe, known_recipes, load_recipe
from flan_lora.system.devices import choose_device, has_bf16
from flan_lora.system.hub import hub_is_reachable
from flan_lora.training.estimate import Estimate, Lengths, Machine, Shape, Speed, estimate, training_flops
from flan_lora.training.lora import peft_config

if TYPE_CHECKING:
    import torch
    from transformers import T5Config

MINIMUM_PYTHON = (3, 10)
MINIMUM_VERSIONS = {
    "torch": "2.5",
    "transformers": "5.0",
    "peft": "0.19",
    "accelerate": "1.10",
    "bitsandbytes": "0.49",
    "datasets": "4.0",
}
"""As pyproject.toml declares them; a test compares."""

FLAN_T5_LARGE = {
    "vocab_size": 32128,
    "d_model": 1024,
    "d_kv": 64,
    "d_ff": 2816,
    "num_layers": 24,
    "num_decoder_layers": 24,
    "num_heads": 16,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "decoder_start_token_id": 0,
}
"""The published config.json of google/flan-t5-large, so that its cost is known offline."""

STUB_PARAMETERS = 30_000_000
PROBE_FLOPS = 10e9
MAX_PROBE_SECONDS = 2.0
"""Size of the speed measurement: about 0.3 s per step on two CPU cores; on a busy machine one step must do."""

INT8_TOLERANCE = 0.03
"""Largest relative error of an int8 product against fp32: two roundings to 1/127 of a row's maximum give 1 %."""


@dataclass(frozen=True)
class Typical:
    """Rows and mean tokens of a task's public training set, counted with T5's tokenizer on up to 600 rows."""

    num_rows: int
    source: int
    target: int


TYPICAL = {
    "emotion": Typical(16_000, 59, 2),
    "paraphrase": Typical(43_658, 52, 28),
    "qa": Typical(302, 448, 15),
    "question-generation": Typical(87_599, 244, 15),
    "similarity": Typical(49_401, 87, 2),
    "summarization": Typical(14_731, 172, 28),
}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    name: str
    value: str
    ok: bool = True
    advice: str = ""
    """The next step when it is not ok."""


def examine() -> list[Finding]:
    """Everything there is to know about this machine; takes seconds and never raises for what it finds."""
    quiet_bitsandbytes()
    checks: list[Callable[[], Iterator[Finding]]] = [
        check_versions, check_device, check_int8, check_memory, check_disk, check_hub, check_mini, check_recipes,
    ]  # fmt: skip
    return [finding for check in checks for finding in _survive(check)]


def _survive(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """A check's findings; a check that breaks is a finding too, since a broken machine is what we look for."""
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except Exception as error:
        name = check.__name__.removeprefix("check_")
        advice = str(error) if isinstance(error, FlanLoraError) else "Reinstall flan-lora in a fresh environment."
        findings.append(Finding(name, f"failed: {type(error).__name__}: {error}".splitlines()[0], False, advice))
    return findings


# The installation


def check_versions() -> Iterator[Finding]:
    """Python and the libraries against the oldest that we support."""
    oldest = ".".join(map(str, MINIMUM_PYTHON))
    ok = sys.version_info >= MINIMUM_PYTHON
    yield Finding("python", f"{platform.python_version()} (>= {oldest})", ok, f"Install Python {oldest} or later.")
    for package, minimum in MINIMUM_VERSIONS.items():
        yield _version_finding(package, minimum)


def _version_finding(package: str, minimum: str) -> Finding:
    from packaging.version import Version

    advice = f"pip install '{package}>={minimum}'"
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return Finding(package, f"missing (>= {minimum})", False, advice)
    return Finding(package, f"{version} (>= {minimum})", Version(version) >= Version(minimum), advice)


# The hardware


def check_device() -> Iterator[Finding]:
    """Where an int8 base would run, and whether bf16 is native there."""
    device, reason = choose_device("int8")
    yield Finding("device", reason)
    native = has_bf16(device)
    advice = "Training runs in fp32 here: slower, and activations take about twice the memory."
    yield Finding("bf16", "native" if native else "not native", native, advice)


def check_int8() -> Iterator[Finding]:
    """Run one int8 linear forward and backward and compare it with fp32."""
    import torch

    device, _ = choose_device("int8")
    forward, backward = int8_errors(device)
    ok = forward < INT8_TOLERANCE and backward < INT8_TOLERANCE  # false for nan too, unlike max()
    value = f"{'works' if ok else 'wrong results'} on {device.type}"
    value += f" (relative error forward {forward:.1%}, backward {backward:.1%})"
    advice = f"Use base.quantization=bf16, or another bitsandbytes (CUDA of torch: {torch.version.cuda})."
    yield Finding("int8", value, ok, advice)


def int8_errors(device: torch.device) -> tuple[float, float]:
    """Relative errors (L2) of an int8 linear's output and input gradient against fp32."""
    import torch

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(96, 64, generator=generator)
    inputs = torch.randn(16, 64, generator=generator)
    outward = torch.randn(16, 96, generator=generator)
    linear = _int8_linear(weight, device).train()
    x = inputs.to(device, torch.bfloat16).requires_grad_()
    output = linear(x)
    output.backward(outward.to(output))
    assert x.grad is not None
    return _relative_error(output, inputs @ weight.T), _relative_error(x.grad, outward @ weight)


def _int8_linear(weight: torch.Tensor, device: torch.device) -> torch.nn.Module:
    """An int8 linear like those of an int8 base. weight (out, in)."""
    import bitsandbytes

    linear = bitsandbytes.nn.Linear8bitLt(weight.shape[1], weight.shape[0], bias=False, has_fp16_weights=False)
    linear.weight = bitsandbytes.nn.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
    return linear.to(device)  # type: ignore[no-any-return]


def _relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.detach().float().cpu() - expected).norm() / expected.norm())


def check_memory() -> Iterator[Finding]:
    """Free memory of the host and of every GPU, in GB."""
    import psutil
    import torch

    memory = psutil.virtual_memory()
    limit = _container_limit()
    free = min(memory.available, limit - psutil.Process().memory_info().rss) if limit else memory.available
    total = min(memory.total, limit) if limit else memory.total
    yield Finding(
        "memory", f"{free / 1e9:.1f} GB free of {total / 1e9:.1f} GB", free > 2e9, "Close other programs."
    )
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield Finding(f"gpu {index}", f"{name}: {free / 1e9:.1f} GB free of {total / 1e9:.1f} GB")


def _container_limit(file: Path = Path("/sys/fs/cgroup/memory.max")) -> int | None:
    """Bytes a container may use (cgroup v2); None without a limit. psutil reports the host's memory instead."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def check_disk() -> Iterator[Finding]:
    """The cache folders and the room where they lie."""
    from huggingface_hub import constants

    own = default_cache_dir()
    folders = {"hub cache": Path(constants.HF_HUB_CACHE), "token cache": own, "this folder": Path.cwd()}
    for name, folder in folders.items():
        if folder is None:
            yield Finding(name, "off")
            continue
        free = shutil.disk_usage(_existing_parent(folder)).free
        advice = f"Free some space; {_home(folder)} takes checkpoints of up to 3 GB (FLAN-T5-large)."
        yield Finding(name, f"{_home(folder)}, {free / 1e9:.0f} GB free on its disk", free > 5e9, advice)


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _home(path: Path) -> str:
    """With ~ for the home folder, so that a report can be shared."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(path)


def check_hub() -> Iterator[Finding]:
    """One HEAD request, 2 seconds at most. Offline is fine once things are cached."""
    started_s = time.perf_counter()
    if hub_is_reachable(timeout_s=2.0):
        yield Finding("hub", f"reachable ({time.perf_counter() - started_s:.1f} s)")
        return
    advice = "Only cached models and data work: use --base mini, --data sample or a local folder."
    yield Finding("hub", "not reachable, or HF_HUB_OFFLINE is set", False, advice)


def check_mini() -> Iterator[Finding]:
    """The embedded base loads in int8 and in fp32, both show one fingerprint, and its answer is finite."""
    import torch

    bases = [open_base(BaseSection(model=MINI, quantization=mode)) for mode in ("int8", "fp32")]
    base = bases[0]
    ids = torch.tensor([[base.model.config.eos_token_id]], device=base.device)
    with torch.inference_mode():
        is_finite = bool(base.model(input_ids=ids, decoder_input_ids=ids).logits.isfinite().all())
    agree = len({each.fingerprint for each in bases}) == 1
    count = sum(parameter.numel() for parameter in base.model.parameters())
    value = f"fingerprint {short(base.fingerprint)}, {count:,} parameters"
    value += "" if agree else "; int8 and fp32 disagree on it"
    value += "" if is_finite else "; its output is not finite"
    yield Finding("mini", value, agree and is_finite, "Reinstall flan-lora: the embedded checkpoint is damaged.")


# What the recipes cost here


def check_recipes() -> Iterator[Finding]:
    """Estimated peak memory and training time of every recipe, on mini and on FLAN-T5-large."""
    from transformers import T5Config

    recipes = shipped_recipes()
    targets = {
        MINI: open_config(BaseSection(model=MINI)),
        "google/flan-t5-large": T5Config(**FLAN_T5_LARGE),
    }
    yield Finding(
        "recipes",
        "memory: the recipe's longest rows; time: the public data's rows and mean lengths, training passes only, "
        "at a speed measured just now (other programs slow it); both are estimates",
    )
    for model, config in targets.items():
        speeds: dict[LoraSection, Speed] = {}
        for recipe in recipes:
            recipe = recipe.with_base(model)
            if recipe.lora not in speeds:
                speeds[recipe.lora] = measure_speed(recipe, config)
            cost = estimate(recipe, config, typical_lengths(recipe), Machine.here(recipe, speeds[recipe.lora]))
            yield _cost_finding(recipe, cost)


def _cost_finding(recipe: Recipe, cost: Estimate) -> Finding:
    free = _free_bytes(recipe)
    advice = (
        f"{recipe.name} needs more memory than is free: lower training.micro_batch_size, or set "
        "training.gradient_checkpointing=true."
    )
    assert cost.seconds is not None
    value = f"{cost.peak_bytes / 1e9:.1f} GB, {_rough(cost.seconds)} ({cost.num_steps:,} steps)"
    return Finding(f"{recipe.name} on {recipe.base.model}", value, cost.peak_bytes < free, advice)


def _free_bytes(recipe: Recipe) -> int:
    import psutil
    import torch

    device, _ = choose_device(recipe.base.quantization)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _rough(seconds: float) -> str:
    """One digit more would be a claim."""
    for limit, unit, length in ((90.0, "s", 1.0), (5400.0, "min", 60.0), (129_600.0, "h", 3600.0)):
        if seconds < limit:
            return f"about {max(seconds / length, 1):.0f} {unit}"
    return f"about {seconds / 86_400:.0f} days"


def shipped_recipes() -> list[Recipe]:
    """The recipes of a checkout or of the wheel, and those in ./recipes."""
    return [load_recipe(file) for _, file in sorted(known_recipes().items())]


def typical_lengths(recipe: Recipe) -> Lengths:
    """As many rows of mean length as the task's public data has, one of them as long as the recipe allows."""
    typical = TYPICAL[recipe.task]
    num_rows = min(typical.num_rows, recipe.data.max_train_rows or typical.num_rows)
    source = [min(typical.source, recipe.data.max_source_tokens)] * (num_rows - 1)
    target = [min(typical.target, recipe.data.max_target_tokens)] * (num_rows - 1)
    return Lengths([*source, recipe.data.max_source_tokens], [*target, recipe.data.max_target_tokens])


def measure_speed(recipe: Recipe, config: T5Config) -> Speed:
    """Operations per second of a training step, measured on a stub of the base: its widths, as few layers and rows
    as make a step of a fraction of a second.

    The stub has random weights, the recipe's update and quantization, and runs in the precision that training
    would use. At flan-t5-large shapes (one layer of 24) it came 12 % below a whole model's step on the CPU.
    """
    import torch

    device, _ = choose_device(recipe.base.quantization)
    machine = Machine.here(recipe)
    stub = _stub_config(config)
    typical = TYPICAL[recipe.task]
    row = Lengths([typical.source], [typical.target])
    flops_per_row = training_flops(Shape.of(stub), row, gradient_checkpointing=False)
    num_rows = int(min(max(PROBE_FLOPS / flops_per_row, 1), recipe.training.batch_size))
    model = _stub_model(recipe, stub, device)
    source = torch.full((num_rows, typical.source), 2, device=device)
    target = torch.full((num_rows, typical.target), 2, device=device)

    def step() -> float:
        started_s = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=machine.bf16):
            logits = model(input_ids=source, decoder_input_ids=target).logits
        logits.float().logsumexp(-1).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started_s

    seconds = [step()]
    while len(seconds) < 4 and sum(seconds) < MAX_PROBE_SECONDS:
        seconds.append(step())
    flops_per_s = num_rows * flops_per_row / min(seconds)
    return Speed(flops_per_s, f"{flops_per_s / 1e9:.0f} GFLOP/s, measured just now on a few layers")


def _stub_config(config: T5Config) -> T5Config:
    """The same widths with fewer layers; a small base keeps all, since a step's fixed costs count there."""
    whole = Shape.of(config)
    block = sum(i * o for is_decoder in (False, True) for ps in whole.linears(is_decoder).values() for i, o in ps)
    most = max(STUB_PARAMETERS // block, 1)
    layers = {"num_layers": min(most, whole.encoder_layers), "num_decoder_layers": min(most, whole.decoder_layers)}
    stub = type(config).from_dict({**config.to_dict(), **layers, "vocab_size": min(config.vocab_size, 8192)})
    assert isinstance(stub, type(config))
    return stub


def _stub_model(recipe: Recipe, config: T5Config, device: torch.device) -> Any:
    """A random T5 of this config with int8 linears where the base has them, and the recipe's LoRA layers."""
    import torch
    from peft import get_peft_model
    from transformers import T5ForConditionalGeneration

    model = T5ForConditionalGeneration(config)
    model = model.to(torch.float32 if recipe.base.quantization == "fp32" else torch.bfloat16).requires_grad_(False)
    fuse_gelu(model)
    if recipe.base.quantization == "int8":
        for name, module in list(model.named_modules()):
            if isinstance(module, torch.nn.Linear) and name.rsplit(".", 1)[-1] not in UNQUANTISED:
                model.set_submodule(name, _int8_linear(module.weight.data, torch.device("cpu")))
    with warnings.catch_warnings():  # peft 0.21 asks transformers 5.23 a question under its old name
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(model, peft_config(recipe)).to(device).train()
