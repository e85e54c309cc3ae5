"""What this machine can do, by trying it: versions, device, int8, memory, network, and the cost of each recipe.

Returns data; the command line prints it. Touches no file but the caches' free space, and the Hub with one request.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flan_lora.base.fingerprint import short
from flan_lora.base.load import MINI, open_base, open_config
from flan_lora.base.quantised import quiet_bitsandbytes
from flan_lora.errors import FlanLoraError
from flan_lora.recipe import BaseSection, LoraSection, Recipe
from flan_lora.recipe_file import known_recipes, load_recipe
from flan_lora.system.devices import choose_device, has_bf16
from flan_lora.system.hub import hub_is_reachable
from flan_lora.training.estimate import Estimate, Machine, Speed, estimate

if TYPE_CHECKING:
    import torch
from flan_lora.system.cache_dir import default_cache_dir
from flan_lora.training.speed import measure_speed, quantised_linear, typical_lengths

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

TOLERANCES = {"int8": 0.03, "nf4": 0.15}
"""Largest relative error of a quantised product against fp32: two roundings to 1/127 of a row's maximum give 1 %,
one to the nearest of 16 levels 9 %."""


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
        check_versions, check_device, check_int8, check_nf4, check_memory, check_disk, check_hub, check_mini,
        check_recipes,
    ]  # fmt: skip
    return [finding for check in checks for finding in findings_of(check)]


def findings_of(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
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
    yield _quantised_finding(BaseSection(quantization="int8"))


def check_nf4() -> Iterator[Finding]:
    """The same with a 4-bit one."""
    yield _quantised_finding(BaseSection(quantization="nf4"))


def _quantised_finding(spec: BaseSection) -> Finding:
    import torch

    kind, (device, _) = spec.quantization, choose_device(spec.quantization)
    forward, backward = quantisation_errors(spec, device)
    ok = forward < TOLERANCES[kind] and backward < TOLERANCES[kind]  # false for nan too, unlike max()
    value = f"{'works' if ok else 'wrong results'} on {device.type}"
    value += f" (relative error forward {forward:.1%}, backward {backward:.1%})"
    advice = f"Use base.quantization=bf16, or another bitsandbytes (CUDA of torch: {torch.version.cuda})."
    return Finding(kind, value, ok, advice)


def quantisation_errors(spec: BaseSection, device: torch.device) -> tuple[float, float]:
    """Relative errors (L2) of a quantised linear's output and input gradient against fp32."""
    import torch

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(96, 64, generator=generator)
    inputs = torch.randn(16, 64, generator=generator)
    outward = torch.randn(16, 96, generator=generator)
    linear = quantised_linear(weight, spec, device).train()
    x = inputs.to(device, torch.bfloat16).requires_grad_()
    output = linear(x)
    output.backward(outward.to(output))
    assert x.grad is not None
    return _relative_error(output, inputs @ weight.T), _relative_error(x.grad, outward @ weight)


def _relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.detach().float().cpu() - expected).norm() / expected.norm())


def check_memory() -> Iterator[Finding]:
    """Free memory of the host and of every GPU, in GB."""
    import psutil
    import torch

    memory = psutil.virtual_memory()
    limit = container_limit_bytes()
    free = min(memory.available, limit - psutil.Process().memory_info().rss) if limit else memory.available
    total = min(memory.total, limit) if limit else memory.total
    yield Finding(
        "memory", f"{free / 1e9:.1f} GB free of {total / 1e9:.1f} GB", free > 2e9, "Close other programs."
    )
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield Finding(f"gpu {index}", f"{name}: {free / 1e9:.1f} GB free of {total / 1e9:.1f} GB")


def container_limit_bytes(file: Path = Path("/sys/fs/cgroup/memory.max")) -> int | None:
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
    free = free_bytes(recipe)
    advice = (
        f"{recipe.name} needs more memory than is free: lower training.micro_batch_size, or set "
        "training.gradient_checkpointing=true."
    )
    assert cost.seconds is not None
    value = f"{cost.peak_bytes / 1e9:.1f} GB, {rough_duration(cost.seconds)} ({cost.num_steps:,} steps)"
    return Finding(f"{recipe.name} on {recipe.base.model}", value, cost.peak_bytes < free, advice)


def free_bytes(recipe: Recipe) -> int:
    import psutil
    import torch

    device, _ = choose_device(recipe.base.quantization)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def rough_duration(seconds: float) -> str:
    """One digit more would be a claim."""
    for limit, unit, length in ((90.0, "s", 1.0), (5400.0, "min", 60.0), (129_600.0, "h", 3600.0)):
        if seconds < limit:
            return f"about {max(seconds / length, 1):.0f} {unit}"
    return f"about {seconds / 86_400:.0f} days"


def shipped_recipes() -> list[Recipe]:
    """The recipes of a checkout or of the wheel, and those in ./recipes."""
    return [load_recipe(file) for _, file in sorted(known_recipes().items())]
