"""A finished run as data: rows, trained weights and scores -> manifest.json and metrics.json. Writes no file."""

from __future__ import annotations

from dataclasses import dataclass

from flan_lora.adapters.manifest import (
    AdditionRecord,
    BaseRecord,
    CalibrationRecord,
    DataRecord,
    ExampleRecord,
    Manifest,
    Metrics,
    ScoreRecord,
    Scores,
    TrainingRecord,
    installed_versions,
    portable_base_name,
    portable_recipe,
    utc_now,
)
from flan_lora.base.load import Base
from flan_lora.data.encoding import AugmentedRows, EncodedSplit
from flan_lora.data.lint import LintReport
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import Split
from flan_lora.evaluation.evaluate import Evaluation
from flan_lora.recipe import Recipe, Role
from flan_lora.system.devices import device_name
from flan_lora.training.trainer import TrainedAdapter


@dataclass(frozen=True)
class Rows:
    """Everything a run reads: the three roles as examples, train and validation also as token ids."""

    splits: dict[Role, Split]
    train: EncodedSplit
    validation: EncodedSplit
    lint: LintReport
    augmented: AugmentedRows | None = None
    """What is trained on in place of ``train`` where the recipe has ``data.augment``."""


@dataclass(frozen=True)
class Evaluations:
    """One test split, answered by the adapter, the bare base and the trivial baselines."""

    adapter: Evaluation
    base: Evaluation
    baselines: dict[str, Evaluation]
    examples: tuple[ExampleRecord, ...] = ()
    """The examples of the task's card, answered by adapter and base."""
    calibration: CalibrationRecord | None = None
    """Of the adapter's label probabilities, for tasks with labels."""


@dataclass(frozen=True)
class FinishedRun:
    """Everything a run read and made."""

    recipe: Recipe
    source: DataSource
    base: Base
    rows: Rows
    trained: TrainedAdapter
    evaluations: Evaluations

    def manifest(self) -> Manifest:
        """What the store publishes beside the weights, without the files' sha256."""
        recipe, scored = self.recipe, self.evaluations
        return Manifest(
            name=recipe.name,
            task=recipe.task,
            task_version=recipe.task_definition.version,
            base=self._base_record(),
            recipe=portable_recipe(recipe.resolved()),
            recipe_fingerprint=recipe.fingerprint(),
            data=self._data_record(),
            training=self._training_record(),
            scores=_records(scored.adapter),
            base_scores=_records(scored.base),
            baseline_scores={name: _records(item) for name, item in scored.baselines.items()},
            label_temperature=scored.calibration.temperature if scored.calibration else 1.0,
            versions=installed_versions(),
            created_at=utc_now(),
        )

    def metrics(self) -> Metrics:
        """The final evaluation on test."""
        scored, test = self.evaluations, self.rows.splits["test"]
        return Metrics(
            task=self.recipe.task,
            select_on=self.recipe.select_on,
            split=test.role,
            num_rows=scored.adapter.num_rows,
            origin=test.origin,
            seconds=scored.adapter.seconds,
            adapter=_records(scored.adapter),
            base=_records(scored.base),
            baselines={name: _records(item) for name, item in scored.baselines.items()},
            calibration=scored.calibration,
            examples=list(scored.examples),
        )

    def _base_record(self) -> BaseRecord:
        spec = self.recipe.base
        return BaseRecord(
            model=portable_base_name(spec.model),
            revision=spec.revision,
            fingerprint=self.base.fingerprint,
            quantization=spec.quantization,
        )

    def _data_record(self) -> DataRecord:
        splits = self.rows.splits
        return DataRecord(
            kind=self.source.kind,
            origin=splits["train"].origin,
            content_hash=splits["train"].content_hash,
            also=tuple(AdditionRecord.model_validate(addition) for addition in splits["train"].also),
            num_train_rows=len(splits["train"].examples),
            num_validation_rows=len(splits["validation"].examples),
            num_test_rows=len(splits["test"].examples),
        )

    def _training_record(self) -> TrainingRecord:
        trained = self.trained
        return TrainingRecord(
            num_steps=trained.num_steps,
            best_step=trained.best_step,
            seconds=trained.seconds,
            device=device_name(self.base.device),
            precision=trained.precision,
            seed=self.recipe.training.seed,
            select_on=self.recipe.select_on,
            best_score=trained.best_score,
            num_trainable=trained.num_trainable,
        )


def _records(evaluation: Evaluation) -> Scores:
    return {name: ScoreRecord.model_validate(score) for name, score in evaluation.scores.items()}
