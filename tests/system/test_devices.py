"""Which device and precision a base gets, and that the reason is said."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from flan_lora.errors import BaseModelError
from flan_lora.system import devices
from flan_lora.system.devices import choose_device, has_bf16, measured_on, processor, rest_dtype

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs, as far as the choice can see; of capability 8.0."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU number {index}")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def emulated_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_bf16", lambda device: False)


def test_without_a_gpu_the_cpu_is_chosen_and_the_reason_said(no_gpu: None) -> None:
    device, reason = choose_device("int8")
    assert device == CPU
    assert reason.startswith("cpu: no CUDA GPU found; int8 linears, the rest in ")


def test_a_gpu_is_preferred(two_gpus: None) -> None:
    device, reason = choose_device("bf16")
    assert device == GPU
    assert reason == "cuda:0: GPU number 0; bf16 weights"


@pytest.mark.usefixtures("two_gpus")
def test_each_process_of_a_launch_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("int8")[0] == torch.device("cuda", 1)


def test_an_asked_for_device_is_taken(two_gpus: None) -> None:
    assert choose_device("fp32", "cpu") == (CPU, "cpu: as asked; fp32 weights")
    assert choose_device("fp32", "cuda:1")[0] == torch.device("cuda", 1)


def test_a_gpu_that_is_not_there_is_an_error(two_gpus: None) -> None:
    with pytest.raises(BaseModelError, match=r"device cuda:2 was asked for, but this machine has 2 cuda devices"):
        choose_device("int8", "cuda:2")


def test_cuda_without_a_gpu_is_an_error(no_gpu: None) -> None:
    with pytest.raises(BaseModelError, match=r"has no cuda devices that torch .* can use\.\nLeave the device out"):
        choose_device("int8", "cuda")


def test_an_unknown_device_name_is_an_error() -> None:
    with pytest.raises(BaseModelError, match="unknown device 'gpu': expected cpu, cuda"):
        choose_device("int8", "gpu")


def test_int8_on_mps_runs_on_the_cpu_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    device, reason = choose_device("int8", "mps")
    assert device == CPU
    assert "int8 is not available on mps" in reason
    assert choose_device("fp32", "mps")[0] == torch.device("mps")


@pytest.mark.usefixtures("emulated_bf16", "no_gpu")
def test_emulated_bf16_is_said() -> None:
    assert "which this hardware emulates slowly" in choose_device("bf16")[1]
    assert "emulates" not in choose_device("fp32")[1]


@pytest.mark.usefixtures("emulated_bf16", "two_gpus")
def test_a_gpu_without_bf16_keeps_the_rest_of_int8_in_fp32_never_fp16() -> None:
    assert rest_dtype("int8", GPU) == torch.float32
    assert "fp32, because this hardware has no fast bf16 and T5 overflows in fp16" in choose_device("int8")[1]


@pytest.mark.parametrize("quantization", ["int8", "bf16", "fp32"])
@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("device", [CPU, GPU])
def test_no_combination_gives_fp16(
    monkeypatch: pytest.MonkeyPatch, quantization: str, native: bool, device: torch.device
) -> None:
    monkeypatch.setattr(devices, "has_bf16", lambda device: native)
    assert rest_dtype(quantization, device) in (torch.bfloat16, torch.float32)


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bf16_on_a_gpu_follows_its_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_bf16(GPU) is expected


def test_bf16_on_the_cpu_follows_the_instruction_not_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert not has_bf16(CPU)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "cpu family : 25\nmodel\t\t: 17\nmodel name : AMD EPYC\n\nprocessor : 1\nmodel name : B\n",
            "AMD EPYC (family 25, model 17)",
        ),
        ("model name : POWER9\n", "POWER9"),
    ],
)
def test_a_processor_is_told_from_others_of_its_name(tmp_path: Path, text: str, name: str) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert processor(file) == name


def test_a_processor_without_a_file_about_it_has_a_name_too(tmp_path: Path) -> None:
    assert processor(tmp_path / "none") in {platform.processor(), platform.machine()}
    assert measured_on(CPU).startswith(f"cpu, {torch.get_num_threads()} threads, ")
