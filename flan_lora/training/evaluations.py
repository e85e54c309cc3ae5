"""The end of a run: adapter, bare base and baselines on test, the temperature of labels, the card's examples."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from flan_lora.adapters.manifest import CalibrationRecord, ExampleRecord
from flan_lora.base.load import Base
from flan_lora.data.splits import Split
from flan_lora.evaluation.calibration import calibration_of, fit_temperature, tempered
from flan_lora.evaluation.evaluate import Evaluation, evaluate, evaluate_baselines
from flan_lora.evaluation.predict import label_probabilities, predict
from flan_lora.evaluation.predictions import write_predictions
from flan_lora.recipe import Recipe
from flan_lora.tasks.task import Task, card_examples
from flan_lora.training.record import Evaluations, Rows
from flan_lora.training.run_dir import Run
from flan_lora.training.trainer import TrainedAdapter


def evaluate_all(recipe: Recipe, base: Base, trained: TrainedAdapter, rows: Rows, run: Run) -> Evaluations:
    """Score adapter, bare base and baselines on test, once; predictions are saved in the run's folder."""
    task, test = recipe.task_definition, rows.splits["test"]
    adapter = evaluate_split(recipe, base, trained.peft_model, test, recipe.name)
    with trained.peft_model.disable_adapter():
        bare = evaluate_split(recipe, base, trained.peft_model, test, "base")
        bare_answers = _answer_card_examples(recipe, base, trained.peft_model)
    examples = _examples(task, _answer_card_examples(recipe, base, trained.peft_model), bare_answers)
    baselines = evaluate_baselines(task, rows.splits["train"], test)
    for evaluation in (adapter, bare, *baselines.values()):
        write_predictions(run.path / "predictions" / f"{evaluation.name}.jsonl", evaluation.predictions)
    return Evaluations(adapter, bare, baselines, examples, _calibration(recipe, base, trained, rows))


def evaluate_split(recipe: Recipe, base: Base, model: torch.nn.Module, split: Split, name: str) -> Evaluation:
    return evaluate(
        model,
        base.tokenizer,
        recipe.task_definition,
        split,
        evaluation=recipe.evaluation,
        max_source_tokens=recipe.data.max_source_tokens,
        name=name,
        progress=True,
    )


def _calibration(recipe: Recipe, base: Base, trained: TrainedAdapter, rows: Rows) -> CalibrationRecord | None:
    """A temperature for the adapter's labels, fitted on validation and tried on test."""
    if not recipe.task_definition.labels or not recipe.evaluation.constrained:
        return None  # nobody is ever given probabilities of labels
    (known, wanted), (found, truths) = (
        _label_probabilities(recipe, base, trained, rows.splits[role]) for role in ("validation", "test")
    )
    if not known:
        return None
    temperature = fit_temperature(known, wanted)
    return CalibrationRecord(
        temperature=temperature,
        num_rows=len(known),
        ece_before=calibration_of(found, truths).error,
        ece_after=calibration_of([tempered(row, temperature) for row in found], truths).error,
    )


def _label_probabilities(
    recipe: Recipe, base: Base, trained: TrainedAdapter, split: Split
) -> tuple[list[dict[str, float]], list[str]]:
    """Of each row, and its true label."""
    found = label_probabilities(
        trained.peft_model,
        base.tokenizer,
        recipe.task_definition,
        split.examples,
        batch_size=recipe.evaluation.batch_size,
        max_source_tokens=recipe.data.max_source_tokens,
    )
    return found, [example.references[0] for example in split.examples]


def _answer_card_examples(recipe: Recipe, base: Base, model: torch.nn.Module) -> list[str]:
    """The examples of the task's card, answered as test rows are."""
    return predict(
        model,
        base.tokenizer,
        recipe.task_definition,
        card_examples(recipe.task_definition),
        evaluation=recipe.evaluation,
        max_source_tokens=recipe.data.max_source_tokens,
    )


def _examples(task: Task, adapter: Sequence[str], bare: Sequence[str]) -> tuple[ExampleRecord, ...]:
    return tuple(
        ExampleRecord(inputs=dict(item.inputs), expected=item.expected, adapter=own, base=other)
        for item, own, other in zip(task.card.examples, adapter, bare, strict=True)
    )
