"""What happens around training steps: the JSONL log, the progress line, a clean stop on Ctrl-C.

Callbacks read the Trainer's state and write files or the terminal; none of them changes what is learned.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from flan_lora.errors import TrainingError
from flan_lora.training.run_dir import Run
from flan_lora.training.sampler import LengthGroupedOrder


class EpochOrder(TrainerCallback):  # type: ignore[misc]
    """Tells the sampler its epoch: accelerate loses set_epoch when it skips batches of a resumed epoch."""

    def __init__(self, order: LengthGroupedOrder) -> None:
        self.order = order

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.order.set_epoch(int(state.epoch or 0))


class RunLog(TrainerCallback):  # type: ignore[misc]
    """Appends each log entry of the Trainer to log.jsonl as it happens, so that a killed run keeps its history."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not state.is_world_process_zero or not logs:
            return
        entry = {"step": state.global_step, **logs, "unix_time_s": round(time.time(), 3)}
        with self.run.log_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


class Progress(TrainerCallback):  # type: ignore[misc]
    """One line: step, loss, tokens/s, time left. A bar on a terminal; elsewhere a line per evaluation."""

    def __init__(self, select_on: str, stream: TextIO = sys.stderr) -> None:
        self.select_on = select_on
        self.stream = stream
        self.bar: tqdm[Any] | None = None
        self.started_s = 0.0
        self.tokens_at_start = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.started_s = time.perf_counter()
        self.tokens_at_start = int(state.num_input_tokens_seen)
        if state.is_world_process_zero and self.stream.isatty():
            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, unit="step", desc="train", file=self.stream
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not state.is_world_process_zero or not logs:
            return
        if self.bar is not None and "loss" in logs:
            self.bar.set_postfix_str(f"loss {logs['loss']:.3f}, {self._tokens_per_s(state):,.0f} tokens/s")
        if "eval_loss" in logs:
            self._write(
                f"step {state.global_step}/{state.max_steps}  {self.select_on} "
                f"{logs[f'eval_{self.select_on}']:.4g}  validation loss {logs['eval_loss']:.4f}  "
                f"{self._tokens_per_s(state):,.0f} source tokens/s"
            )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def _tokens_per_s(self, state: TrainerState) -> float:
        seconds = max(time.perf_counter() - self.started_s, 1e-9)
        return (int(state.num_input_tokens_seen) - self.tokens_at_start) / seconds

    def _write(self, line: str) -> None:
        if self.bar is not None:
            self.bar.write(line, file=self.stream)
        else:
            print(line, file=self.stream, flush=True)


class StopOnInterrupt(TrainerCallback):  # type: ignore[misc]
    """First Ctrl-C: finish the step, save, stop. Second: stop at once, the last checkpoint stands.

    A context manager: Ctrl-C is the caller's again afterwards, however training ended.
    """

    def __init__(self) -> None:
        self.is_interrupted = False
        self._previous: Any = None

    def __enter__(self) -> StopOnInterrupt:
        if threading.current_thread() is threading.main_thread():  # signals belong to the main thread
            self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.is_interrupted:
            control.should_save = True
            control.should_evaluate = False
            control.should_training_stop = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.is_interrupted:
            raise KeyboardInterrupt
        self.is_interrupted = True
        print("\nStopping after this step; Ctrl-C again stops at once.", file=sys.stderr, flush=True)


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
