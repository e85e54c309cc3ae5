"""Which experiment trackers a run reports to. Knows names and packages; the Trainer does the reporting."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from flan_lora.errors import TrainingError

TRACKERS = ("tensorboard", "wandb", "mlflow")


def open_trackers(report_to: str, run_dir: Path) -> list[str]:
    """Names for the Trainer's ``report_to``; TensorBoard's files go to <run_dir>/tensorboard.

    Args:
        report_to: comma separated, or none.

    Raises:
        TrainingError: an unknown tracker, or one whose package is not installed; before any training.
    """
    names = [name.strip() for name in report_to.split(",") if name.strip() not in ("", "none")]
    for name in names:
        if name not in TRACKERS:
            raise TrainingError(f"unknown tracker {name!r}: --report-to takes {', '.join(TRACKERS)} or none.")
        if importlib.util.find_spec(name) is None:
            raise TrainingError(
                f"--report-to {name} needs the package {name}, which is not installed.\n"
                "Install the trackers: pip install 'flan-lora[trackers]'"
            )
    if "tensorboard" in names:  # else it would lie among the checkpoints, which are deleted at the end
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(run_dir / "tensorboard")
    return names or ["none"]
