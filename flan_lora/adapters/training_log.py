"""The training log that is kept beside a published adapter: score and loss by step.

What a run logs of time and rate stays in the run's folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flan_lora.adapters.validation import LOG, MAX_FILE_BYTES, StoredAdapter
from flan_lora.errors import AdapterCorruptError
from flan_lora.system.files import read_regular

_LEFT_OUT = ("unix_time_s", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")


@dataclass(frozen=True)
class Curve:
    """One quantity by optimizer step."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


def log_text(entries: Iterable[Mapping[str, Any]]) -> str:
    """A run's log as it is published: JSON lines with a step, a loss or validation scores."""
    kept = [{key: value for key, value in entry.items() if key not in _LEFT_OUT} for entry in entries]
    lines = [entry for entry in kept if "loss" in entry or any(key.startswith("eval_") for key in entry)]
    return "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in lines)


def read_training_log(stored: StoredAdapter) -> list[dict[str, Any]]:
    """The training log that was published with an adapter; empty where none was.

    Raises:
        AdapterCorruptError: it is no log.
    """
    if LOG in stored.manifest.files:
        try:
            entries = [json.loads(line) for line in read_regular(stored.path / LOG, MAX_FILE_BYTES).splitlines()]
        except (OSError, ValueError, RecursionError) as error:
            raise AdapterCorruptError(
                f"{stored.path / LOG} is no training log: {error}.\n"
                "Restore the folder from its origin, or publish it again."
            ) from error
        return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("step"), int)]
    return []


def curve(entries: Iterable[Mapping[str, Any]], name: str) -> Curve:
    """Of a field, e.g. ``loss`` or ``eval_macro_f1``; a step that was logged twice counts as last logged."""
    points = {int(entry["step"]): float(entry[name]) for entry in entries if name in entry}
    return Curve(tuple(sorted(points)), tuple(points[step] for step in sorted(points)))
