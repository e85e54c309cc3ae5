"""The estimate of a run's CO2 by hand."""

from __future__ import annotations

import pytest

from flan_lora.adapters.emissions import CPU_WATTS, OTHER_GPU_WATTS, estimate_emissions


def test_an_hour_on_a_cpu_by_hand() -> None:
    found = estimate_emissions(3600, "cpu")
    assert found.energy_kwh == pytest.approx(0.1 * 1.56) and found.co2_g == pytest.approx(0.156 * 473)
    assert found.watts == CPU_WATTS and "100 W" in found.assumptions and "473 g" in found.assumptions


@pytest.mark.parametrize(
    ("device", "watts"),
    [
        ("cuda (NVIDIA H200)", 700),
        ("cuda (NVIDIA A100-SXM4-80GB)", 400),
        ("cuda (Tesla T4)", 70),
        ("cuda (NVIDIA L4)", 72),
        ("cuda (NVIDIA L40S)", 350),
        ("cuda (NVIDIA L40)", 300),
        ("cuda (something new)", OTHER_GPU_WATTS),
        ("mps", OTHER_GPU_WATTS),
    ],
)
def test_a_device_is_known_by_its_name(device: str, watts: float) -> None:
    assert estimate_emissions(10, device).watts == watts


def test_nothing_run_emits_nothing() -> None:
    assert estimate_emissions(0, "cpu").co2_g == 0
