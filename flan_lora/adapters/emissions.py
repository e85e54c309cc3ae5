"""Energy and CO2 of a training run, estimated from its wall clock and what the device draws at most.

An estimate with its assumptions, not a measurement; it is meant to be too high rather than too low.
"""

from __future__ import annotations

from dataclasses import dataclass

CPU_WATTS = 100.0
"""A busy CPU socket with its memory; runs on a few cores draw less."""
GPU_WATTS = {
    "B200": 1000.0,
    "H200": 700.0,
    "H100": 700.0,
    "A100": 400.0,
    "V100": 300.0,
    "L40S": 350.0,
    "L40": 300.0,
    "A10": 150.0,
}
GPU_WATTS |= {"L4": 72.0, "T4": 70.0, "4090": 450.0, "3090": 350.0}
"""Board power limits as their makers state them, by a part of the device's name; the first that fits counts."""
OTHER_GPU_WATTS = 300.0
DATA_CENTRE_FACTOR = 1.56
"""Power of a data centre per power of its computers (Uptime Institute, Global Data Center Survey 2024)."""
GRID_G_PER_KWH = 473.0
"""g CO2 per kWh, world average of 2024 (Ember, Global Electricity Review 2025)."""


@dataclass(frozen=True, slots=True)
class Emissions:
    """What a run took."""

    energy_kwh: float
    co2_g: float
    """Grams of CO2."""
    watts: float
    """Assumed for the device."""

    @property
    def assumptions(self) -> str:
        """In words, for a card."""
        return (
            f"{self.watts:g} W for one device over the whole wall clock, times {DATA_CENTRE_FACTOR:g} for the "
            f"data centre, {GRID_G_PER_KWH:g} g CO2 per kWh (world average 2024)"
        )


def estimate_emissions(seconds: float, device: str) -> Emissions:
    """Of one device, busy for ``seconds``; ``device`` as manifests name it: ``cpu``, ``cuda (NVIDIA H200)``."""
    watts = _watts(device)
    energy_kwh = watts * DATA_CENTRE_FACTOR * seconds / 3600 / 1000
    return Emissions(energy_kwh, energy_kwh * GRID_G_PER_KWH, watts)


def _watts(device: str) -> float:
    if device.startswith("cpu"):
        return CPU_WATTS
    words = device.upper()
    return next((watts for name, watts in GPU_WATTS.items() if name in words), OTHER_GPU_WATTS)
