"""What the texts of an adapter look like to the frozen base, so that a text can be sent to the adapter it is for.

A routing profile is a mean and a variance per dimension of the base's own mean-pooled encoder states, fitted on
training bodies (no instruction, or it would recognise prompts and not contents), and a threshold below which a
text is like none of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from flan_lora.errors import AdapterCorruptError, DataError
from flan_lora.system.files import replace_file

PROFILE = "routing_profile.safetensors"
"""Beside the adapter's own files."""
OLD_PROFILE = "signature.safetensors"
"""Its name before; still read where there is no other."""
MIN_TEXTS = 20
"""Fewer say nothing about the spread of 100 dimensions or the tail of their scores."""
_HELD_OUT = 5
"""Every fifth text calibrates the threshold; it is not fitted on, or every threshold would be too high."""
_VARIANCE_FLOOR = 0.01
"""Of the mean variance: a dimension that hardly varied among few texts must not decide alone."""


@dataclass(frozen=True)
class RoutingProfile:
    """One adapter's texts, as a Gaussian with independent dimensions."""

    mean: Tensor
    """(d_model,) fp32"""
    variance: Tensor
    """(d_model,) fp32"""
    threshold: float
    """A text that scores less is unlike the adapter's own."""
    fingerprint: str
    """Of the base whose states these are."""

    def score(self, states: Tensor) -> Tensor:
        """Log-density per dimension, without constants, of states (N, d_model): (N,)."""
        distance = (states - self.mean).square() / self.variance
        return -0.5 * (distance + self.variance.log()).mean(dim=1)


def fit(
    states: Tensor, fingerprint: str, validation: Tensor | None = None, *, reject_share: float = 0.02
) -> RoutingProfile:
    """The profile of pooled states (N, d_model) of an adapter's training bodies.

    Args:
        validation: states (M, d_model) of other texts of its kind, which the threshold is calibrated on. Without
            them, every fifth of ``states`` is kept from the fit for that.
        reject_share: of the adapter's own texts that the threshold gives up.

    Raises:
        DataError: fewer than 20 texts, of either kind.
    """
    _check_enough(states, "training")
    if validation is None or not len(validation):
        is_held_out = torch.arange(len(states)) % _HELD_OUT == 0
        states, validation = states[~is_held_out], states[is_held_out]
    else:
        _check_enough(validation, "validation")
    fitted = states.float()
    variance = fitted.var(dim=0)
    variance = variance.clamp_min(_VARIANCE_FLOOR * variance.mean().item() + 1e-12)
    profile = RoutingProfile(fitted.mean(dim=0), variance, 0.0, fingerprint)
    threshold = profile.score(validation.float()).quantile(reject_share).item()
    return RoutingProfile(profile.mean, profile.variance, threshold, fingerprint)


def _check_enough(states: Tensor, kind: str) -> None:
    if len(states) < MIN_TEXTS:
        raise DataError(
            f"a routing profile takes {MIN_TEXTS} texts or more (got {len(states)} {kind} texts).\n"
            f"Give more of the adapter's {kind} texts; a few hundred are enough."
        )


def write_profile(folder: Path, profile: RoutingProfile) -> Path:
    """Save it beside the adapter; a crash leaves the old file or the new one."""
    from safetensors.torch import save

    metadata = {"threshold": json.dumps(profile.threshold), "fingerprint": profile.fingerprint}
    content = save({"mean": profile.mean, "variance": profile.variance}, metadata=metadata)
    path = folder / PROFILE
    replace_file(path, content)
    (folder / OLD_PROFILE).unlink(missing_ok=True)
    return path


def read_profile(folder: Path) -> RoutingProfile | None:
    """The profile beside an adapter, None where there is none.

    Raises:
        AdapterCorruptError: the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    path = next((p for p in (folder / PROFILE, folder / OLD_PROFILE) if p.is_file()), None)
    if path is None:
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata()
            mean, variance = file.get_tensor("mean"), file.get_tensor("variance")
        return RoutingProfile(mean, variance, float(metadata["threshold"]), metadata["fingerprint"])
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise AdapterCorruptError(
            f"{path} is not a routing profile: {error}.\n"
            "Delete it, and fit it again (flan-lora adapter fit-routing)."
        ) from error
