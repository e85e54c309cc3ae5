"""What the texts of an adapter look like to the frozen base, so that a text can be sent to the adapter it is for.

A routing profile tells one adapter's texts from background texts, which belong to no adapter. It is a linear
classifier fitted by regularised least squares (Hastie, Tibshirani, Friedman: The Elements of Statistical
Learning, section 4.2) on training bodies: no instruction, or it would recognise prompts and not contents. Its
features are those of `text_features`, and how far they lie from the adapter's own, so that a text can be too long
as well as too short.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from flan_lora.errors import AdapterCorruptError, DataError
from flan_lora.serving.text_features import FORM_VERSION, NUM_FORM, TextFeatures
from flan_lora.system.files import replace_file

PROFILE = "routing_profile.safetensors"
"""Beside the adapter's own files."""
OLD_PROFILE = "signature.safetensors"
"""Its name before; still read where there is no other."""
FORMAT_VERSION = 2
"""1, which has no number in its file, is a Gaussian of the states alone."""
MIN_TEXTS = 20
"""Fewer say nothing about the spread of 100 dimensions or the tail of their scores."""
_HELD_OUT = 5
"""Every fifth text calibrates the threshold; it is not fitted on, or every threshold would be too high."""
_RIDGE_TEXTS = 300
"""Texts that the penalty weighs as much as: 0.3 of the features' mean second moment at 1,000 texts, 0.06 at 5,000.
Measured best of 0.001 to 3 at either number (docs/log.md)."""
_SCALE_FLOOR = 0.1
"""Of the background's deviation: a feature that hardly varied among few own texts must not decide alone."""
_MAX_DEVIATIONS = 8.0
"""Farther from the adapter's own texts is as far: one odd feature must not outvote the rest."""
_MAX_FORM_DEVIATIONS = 4.0


@dataclass(frozen=True)
class RoutingProfile:
    """One adapter's texts against background texts. F = 2 d_model + 18 features."""

    centre: Tensor
    """(F,) fp32, mean of the adapter's own texts"""
    scale: Tensor
    """(F,) fp32, their standard deviation, at least 0.1 of the background's"""
    weights: Tensor
    """(F + 18 + 3,) fp32: features, deviations of form, two distances, bias less the threshold"""
    fingerprint: str
    """Of the base whose states these are."""

    @property
    def format_version(self) -> int:
        """Which scores compare: those of one version."""
        return FORMAT_VERSION

    @property
    def threshold(self) -> float:
        """A text that scores less is unlike the adapter's own."""
        return 0.0

    def score(self, features: TextFeatures) -> Tensor:
        """How much more like the adapter's own than its threshold asks, (N,): own texts lie 2 above background."""
        return _expanded(features.stacked, self.centre, self.scale) @ self.weights


@dataclass(frozen=True)
class GaussianProfile:
    """Format 1: one adapter's texts as a Gaussian with independent dimensions, without a background."""

    mean: Tensor
    """(d_model,) fp32"""
    variance: Tensor
    """(d_model,) fp32"""
    threshold: float
    """A text that scores less is unlike the adapter's own."""
    fingerprint: str
    """Of the base whose states these are."""

    @property
    def format_version(self) -> int:
        """Which scores compare: those of one version."""
        return 1

    def score(self, features: TextFeatures) -> Tensor:
        """Log-density of the states per dimension, without constants: (N,)."""
        distance = (features.states - self.mean).square() / self.variance
        return -0.5 * (distance + self.variance.log()).mean(dim=1)


AnyProfile = RoutingProfile | GaussianProfile


def fit(
    own: TextFeatures,
    background: TextFeatures,
    fingerprint: str,
    validation: TextFeatures | None = None,
    *,
    reject_share: float = 0.07,
) -> RoutingProfile:
    """The profile of an adapter's training bodies.

    Args:
        background: texts that belong to no adapter, as this adapter's task would read them.
        validation: other texts of the adapter's kind, which the threshold is calibrated on. Without them, every
            fifth of ``own`` is kept from the fit for that.
        reject_share: of the adapter's own texts that the threshold gives up.

    Raises:
        DataError: fewer than 20 texts, of any kind.
    """
    _check_enough(own, "training")
    _check_enough(background, "background")
    if validation is None or not len(validation):
        is_held_out = torch.arange(len(own)) % _HELD_OUT == 0
        own, validation = own[~is_held_out], own[is_held_out]
    else:
        _check_enough(validation, "validation")
    centre, scale = _location(own, background)
    weights = _least_squares(
        _expanded(own.stacked, centre, scale), _expanded(background.stacked, centre, scale)
    ).float()
    scores = _expanded(validation.stacked, centre, scale) @ weights
    weights[-1] -= scores.quantile(reject_share)
    return RoutingProfile(centre, scale, weights, fingerprint)


def _location(own: TextFeatures, background: TextFeatures) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature of the adapter's own texts, (F,)."""
    stacked = own.stacked.float()
    floor = _SCALE_FLOOR * background.stacked.float().std(dim=0)
    return stacked.mean(dim=0), stacked.std(dim=0).maximum(floor) + 1e-6


def _expanded(stacked: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
    """(N, F) -> (N, F + 18 + 3): standard deviations from the centre, and how far off the whole is."""
    deviations = ((stacked - centre) / scale).clamp(-_MAX_DEVIATIONS, _MAX_DEVIATIONS)
    of_base, of_form = deviations[:, :-NUM_FORM], deviations[:, -NUM_FORM:]
    # 4: distances lie near 1 for own texts, and the ridge would hold their weights down
    distances = [4 * part.square().mean(dim=1, keepdim=True).sqrt() for part in (of_base, of_form)]
    return torch.cat(
        (deviations, of_form.abs().clamp_max(_MAX_FORM_DEVIATIONS), *distances, torch.ones(len(stacked), 1)), dim=1
    )


def _least_squares(own: Tensor, background: Tensor) -> Tensor:
    """Weights that take own texts to 1 and background texts to -1, each side counting half: fp64."""
    own, background = own.double(), background.double()
    moment: Tensor = own.T @ own / len(own) + background.T @ background / len(background)
    target = own.mean(dim=0) - background.mean(dim=0)
    ridge = _RIDGE_TEXTS / (len(own) + len(background))
    penalty = torch.full((len(target),), ridge * moment.trace().item() / len(target), dtype=torch.float64)
    penalty[-1] = 1e-8  # the bias
    weights: Tensor = torch.linalg.solve(moment + penalty.diag(), target)
    return weights


def _check_enough(features: TextFeatures, kind: str) -> None:
    if len(features) < MIN_TEXTS:
        raise DataError(
            f"a routing profile takes {MIN_TEXTS} texts or more (got {len(features)} {kind} texts).\n"
            f"Give more {kind} texts; a few hundred are enough."
        )


def write_profile(folder: Path, profile: RoutingProfile) -> Path:
    """Save it beside the adapter; a crash leaves the old file or the new one."""
    from safetensors.torch import save

    metadata = {
        "format_version": str(FORMAT_VERSION),
        "form_version": str(FORM_VERSION),
        "fingerprint": profile.fingerprint,
    }
    tensors = {"centre": profile.centre, "scale": profile.scale, "weights": profile.weights}
    path = folder / PROFILE
    replace_file(path, save(tensors, metadata=metadata))
    (folder / OLD_PROFILE).unlink(missing_ok=True)
    return path


def read_profile(folder: Path) -> AnyProfile | None:
    """The profile beside an adapter, None where there is none.

    Raises:
        AdapterCorruptError: the file cannot be read, or was written by a later version.
    """
    from safetensors import SafetensorError, safe_open

    path = next((p for p in (folder / PROFILE, folder / OLD_PROFILE) if p.is_file()), None)
    if path is None:
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        return _profile(metadata, tensors)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise AdapterCorruptError(
            f"{path} is not a routing profile: {error}.\n"
            "Delete it, and fit it again (flan-lora adapter fit-routing)."
        ) from error


def _profile(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> AnyProfile:
    fingerprint = metadata["fingerprint"]
    if "format_version" not in metadata:
        threshold = float(json.loads(metadata["threshold"]))
        return GaussianProfile(tensors["mean"], tensors["variance"], threshold, fingerprint)
    versions = metadata["format_version"], metadata["form_version"]
    if versions != (str(FORMAT_VERSION), str(FORM_VERSION)):
        raise ValueError(
            f"it has format {' and form '.join(versions)}, this version reads {FORMAT_VERSION} and {FORM_VERSION}"
        )
    profile = RoutingProfile(tensors["centre"], tensors["scale"], tensors["weights"], fingerprint)
    sizes = profile.centre.shape, profile.scale.shape, profile.weights.shape
    num = profile.centre.numel()
    if sizes != ((num,), (num,), (num + NUM_FORM + 3,)):
        raise ValueError(f"its tensors do not fit each other: {', '.join(str(tuple(size)) for size in sizes)}")
    if not all(bool(tensor.isfinite().all()) for tensor in (profile.centre, profile.scale, profile.weights)):
        raise ValueError("it holds values that are not finite")
    return profile
