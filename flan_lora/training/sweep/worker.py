"""One worker of a sweep: the base is loaded once, and trials are trained on it one after another."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from flan_lora.base.load import open_base
from flan_lora.data.sources import DataSource
from flan_lora.errors import TrainingError
from flan_lora.recipe import Recipe
from flan_lora.system.malloc import return_freed_memory
from flan_lora.training.factory import on_its_base, open_run, prepare_rows, train_or_restore
from flan_lora.training.lora import remove_lora
from flan_lora.training.record import Rows
from flan_lora.training.run_dir import Origin, Run
from flan_lora.training.sweep.study import Study


class TrialStopped(Exception):
    """ASHA does not let the trial go on."""


class ReportScore(TrainerCallback):  # type: ignore[misc]
    """Tells the study each evaluation's score, and ends the training where the study says so."""

    def __init__(self, study: Study, number: int, score: str) -> None:
        self.study = study
        self.number = number
        self.score = score

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **_: Any,
    ) -> None:
        # of the log, not a counter: a resumed training has its evaluations of before there
        evaluation = sum("eval_loss" in entry for entry in state.log_history)
        self.study.report(self.number, evaluation, metrics[f"eval_{self.score}"])
        is_last = state.global_step >= state.max_steps  # stopping would save nothing
        if not is_last and self.study.should_stop(self.number):
            raise TrialStopped


class Worker:
    """Trains trials of a sweep in this process."""

    def __init__(self, folder: Path, source: DataSource) -> None:
        """Load the base of the sweep in ``folder``.

        Raises:
            FlanLoraError: as `Study` and `open_base`.
        """
        self.study = Study(folder)
        self.source = source
        self.base = open_base(self.study.recipe.base)
        self._rows: tuple[str, Rows] | None = None

    def run(self, number: int) -> None:
        """Train a trial, from its last checkpoint where it was cut off; nothing where it has ended.

        A training that cannot end (a loss that is no number, out of memory) is the trial's result.

        Raises:
            TrainingError: interrupted; the same sweep goes on there.
            FlanLoraError: what ails the others as well: the disk, the rows.
        """
        if self.study.trials()[number].state.is_finished():
            return
        self.study.start(number)
        try:
            self._train(number)
        except TrialStopped:
            self.study.stop(number)
        except TrainingError as error:
            if isinstance(error.__cause__, KeyboardInterrupt):
                raise TrainingError(
                    f"interrupted in trial {number}; its checkpoint is saved.\n"
                    "Give the same command to go on exactly there."
                ) from error.__cause__
            self.study.fail(number, str(error))
        finally:
            remove_lora(self.base)
            gc.collect()  # the Trainer holds itself in circles, with its optimizer
            return_freed_memory()

    def _train(self, number: int) -> None:
        recipe, run_dir = on_its_base(self.study.recipe_of(number)), self.study.run_dir(number)
        rows = self._rows_of(recipe)
        origin = Origin(self.base.fingerprint, rows.splits["train"].content_hash)
        self.study.check_stands_on(
            {"base": self.base.fingerprint, "validation rows": rows.splits["validation"].content_hash}
        )
        resume = Run(run_dir).recipe_path.is_file()
        run = open_run(run_dir, recipe, origin, resume=resume, is_main=True)
        if not run.done_path.is_file():  # else it was cut off between its last line and the journal's
            report = ReportScore(self.study, number, recipe.select_on)
            train_or_restore(recipe, self.base, rows, run, resume=resume, report_to="none", callbacks=(report,))
        if not self.study.trials()[number].intermediate_values:
            raise TrainingError(
                f"trained {run.read_done()['num_steps']} steps without an evaluation, so there is no score.\n"
                "Raise training.evals_per_epoch, or training.max_steps."
            )
        shutil.rmtree(run.checkpoints_dir, ignore_errors=True)  # the best one is staged
        self.study.finish(number)

    def _rows_of(self, recipe: Recipe) -> Rows:
        """Read and encoded; those of the last trial where they are the same."""
        key = repr((recipe.data.model_dump(), recipe.training.seed))
        if self._rows is None or self._rows[0] != key:
            self._rows = (key, prepare_rows(recipe, self.source))
        return self._rows[1]
