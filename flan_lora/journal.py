"""The training log that is kept beside a published adapter: score and loss by step.

Knows JSON lines; never a trainer. What a run logs of time and rate stays in the run's folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flan_lora.adapter import LOG, StoredAdapter
from flan_lora.recipe import Recipe
from flan_lora.run import Run

_LEFT_OUT = ("unix_time_s", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")


@dataclass(frozen=True)
class Curve:
    """One quantity by optimizer step."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


def journal_text(entries: Iterable[Mapping[str, Any]]) -> str:
    """A run's log as it is published: JSON lines with a step, a loss or validation scores."""
    kept = [{key: value for key, value in entry.items() if key not in _LEFT_OUT} for entry in entries]
    lines = [entry for entry in kept if "loss" in entry or any(key.startswith("eval_") for key in entry)]
    return "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in lines)


def read_journal(stored: StoredAdapter, runs_dir: Path) -> list[dict[str, Any]]:
    """An adapter's training log: published with it, else of a run folder with its very recipe; else empty."""
    if LOG in stored.manifest.files:
        lines = (stored.path / LOG).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    recipe = Recipe.model_validate(stored.manifest.recipe)
    run = Run(runs_dir / stored.path.parent.name / stored.name)
    if not run.recipe_path.is_file():
        return []
    if json.loads(run.recipe_path.read_text(encoding="utf-8")) != recipe.resolved():
        return []
    return [json.loads(line) for line in journal_text(run.read_log()).splitlines()]


def curve(entries: Iterable[Mapping[str, Any]], name: str) -> Curve:
    """Of a field, e.g. ``loss`` or ``eval_macro_f1``; a step that was logged twice counts as last logged."""
    points = {int(entry["step"]): float(entry[name]) for entry in entries if name in entry}
    return Curve(tuple(sorted(points)), tuple(points[step] for step in sorted(points)))
