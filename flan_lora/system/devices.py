"""Where a base runs and in which precision, with the reason in words. Knows hardware; never a checkpoint."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from flan_lora.errors import BaseModelError

if TYPE_CHECKING:
    import torch


QUANTISED = ("int8", "nf4")
"""Values of `base.quantization` that bitsandbytes makes codes for."""


def choose_device(quantization: str, device: str | None = None) -> tuple[torch.device, str]:
    """Where the base runs, and why, in one line. ``device``: as torch spells it, None = choose.

    Raises:
        BaseModelError: ``device`` is not a device name, or this machine has none of that kind.
    """
    import torch

    chosen, reason = _requested_device(device) if device else _best_device()
    if chosen.type == "mps" and quantization in QUANTISED:
        reason = f"{quantization} is not available on mps (bitsandbytes has no kernels there)"
        chosen = torch.device("cpu")
    return chosen, f"{chosen}: {reason}; {_precision_reason(quantization, chosen)}"


def _best_device() -> tuple[torch.device, str]:
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu"), "no CUDA GPU found"
    index = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()  # set by accelerate launch
    return torch.device("cuda", index), torch.cuda.get_device_name(index)


def _requested_device(device: str) -> tuple[torch.device, str]:
    import torch

    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise BaseModelError(f"unknown device {device!r}: expected cpu, cuda, cuda:<n> or mps.") from error
    available = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }.get(chosen.type, 0)
    if (chosen.index or 0) >= available:
        raise BaseModelError(
            f"device {device} was asked for, but this machine has {available or 'no'} {chosen.type} "
            f"device{'' if available == 1 else 's'} that torch {torch.__version__} can use.\n"
            "Leave the device out to let flan-lora choose, or use cpu; `flan-lora doctor` shows what is here."
        )
    return chosen, "as asked"


def device_name(device: torch.device) -> str:
    """For manifests and reports: ``cpu``, or ``cuda (NVIDIA H200)``."""
    import torch

    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def measured_on(device: torch.device) -> str:
    """For benchmarks: what decides how fast a machine is; processors of one instruction set differ too."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, {processor()}"


def processor_fields(info: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """What Linux says of the first processor, such as ``model name`` and ``flags``; empty elsewhere."""
    fields: dict[str, str] = {}
    with suppress(OSError):
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    return fields


def processor(info: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's name, with what tells its generation apart where a cloud hides it from the name."""
    fields = processor_fields(info)
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    generation = [
        f"{name.removeprefix('cpu ')} {fields[name]}" for name in ("cpu family", "model") if name in fields
    ]
    return f"{fields['model name']} ({', '.join(generation)})" if generation else fields["model name"]


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware computes in bf16 (it works everywhere, slowly where it is emulated)."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "mps":
        return False
    # oneDNN says yes to any AVX-512; measured, only AMX makes bf16 pay: with avx512_bf16 alone, products of 256 to
    # 1,024 columns ran at 168 GFLOP/s in bf16 and at 260 to 320 in fp32 (2 cores, torch 2.13; docs/log.md)
    native = getattr(torch.cpu, "_is_amx_tile_supported", None)
    if platform.machine().lower() in ("x86_64", "amd64") and native is not None:
        return bool(native())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def rest_dtype(quantization: str, device: torch.device) -> torch.dtype:
    """Dtype of everything that is not quantised: fp16 never."""
    import torch

    if quantization == "fp32":
        return torch.float32
    if quantization in QUANTISED and not has_bf16(device):
        return torch.float32  # a T4's int8 kernels are fast, its bf16 is emulated; so is that of a CPU without AMX
    return torch.bfloat16


def _precision_reason(quantization: str, device: torch.device) -> str:
    if quantization == "fp32":
        return "fp32 weights"
    bf16 = rest_dtype(quantization, device).itemsize == 2
    rest = "bf16" if bf16 else "fp32, because this hardware has no fast bf16 and T5 overflows in fp16"
    slow = ", which this hardware emulates slowly (fp32 may be faster)" if bf16 and not has_bf16(device) else ""
    return (
        f"{quantization} linears, the rest in {rest}{slow}" if quantization in QUANTISED else f"bf16 weights{slow}"
    )
