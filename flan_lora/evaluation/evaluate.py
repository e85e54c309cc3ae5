"""Score the answers to a split, with intervals: of an adapter, the bare base, or a trivial baseline."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flan_lora.errors import DataError
from flan_lora.evaluation.predictions import Prediction
from flan_lora.tasks.scorers import Score, bootstrap, order_agreement
from flan_lora.tasks.task import swapped

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase, T5ForConditionalGeneration

    from flan_lora.data.splits import Split
    from flan_lora.recipe import EvaluationSection
    from flan_lora.tasks.task import Task
from flan_lora.evaluation.predict import generate, predict


@dataclass(frozen=True)
class Evaluation:
    """Scores of one predictor on one split, with the answers behind them."""

    name: str
    """The adapter, ``base`` or the baseline."""
    task: str
    split: str
    """The split's role: validation or test; all for the whole of a user's file."""
    num_rows: int
    scores: dict[str, Score]
    predictions: tuple[Prediction, ...]
    seconds: float
    """Wall time of the predictions, without the scoring."""
    notes: tuple[str, ...] = ()
    """What the scores do not say themselves, for people."""


def evaluate(
    model: PeftModel | T5ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    split: Split,
    *,
    evaluation: EvaluationSection,
    max_source_tokens: int,
    name: str,
    progress: bool = False,
) -> Evaluation:
    """Predict a split and score it, each score with its 95 % bootstrap interval over rows.

    A task with ``swap`` also gets ``order_agreement``: the share of rows answered alike the other way round.
    ``name`` says whose answers these are. Raises what ``predict`` raises, and DataError for an empty split.
    """
    _check_not_empty(split)
    start = time.perf_counter()
    outputs = generate(model, tokenizer, task, split.examples, evaluation, max_source_tokens, progress)
    seconds = time.perf_counter() - start
    answers = [task.answer(output, item.inputs) for output, item in zip(outputs, split.examples, strict=True)]
    scored = _scored(name, task, split, answers, outputs, seconds)
    if task.swap is None:
        return scored
    other_way = predict(
        model,
        tokenizer,
        task,
        [swapped(task, example) for example in split.examples],
        evaluation=evaluation,
        max_source_tokens=max_source_tokens,
        progress=progress,
    )
    agreement = bootstrap([order_agreement()], answers, [[answer] for answer in other_way], answers)
    return replace(scored, scores=scored.scores | agreement)


def evaluate_baselines(task: Task, train: Split, split: Split) -> dict[str, Evaluation]:
    """The task's trivial baselines by name, scored as a model is. They answer in the references' own spelling.

    Raises:
        DataError: an empty split.
    """
    _check_not_empty(split)
    evaluations = {}
    for baseline in task.baselines:
        start = time.perf_counter()
        answers = baseline.predict(train.examples, split.examples)
        seconds = time.perf_counter() - start
        evaluations[baseline.name] = _scored(baseline.name, task, split, answers, answers, seconds)
    return evaluations


def unseen_labels(task: Task, split: Split, scores: Collection[str]) -> tuple[str, ...]:
    """What macro_f1 is a mean over, where a split lacks labels of the task."""
    rows = {reference for example in split.examples for reference in example.references}
    unseen = [label for label in task.labels if label not in rows]
    if not unseen or "macro_f1" not in scores:
        return ()
    return (
        f"macro_f1: no row is {', '.join(unseen)}; a label without a row is left out of the mean, "
        "or counts 0 once it is answered",
    )


def _check_not_empty(split: Split) -> None:
    if not split.examples:
        raise DataError(
            f"the {split.role} split has no examples to score ({split.num_rows} rows from {split.origin}).\n"
            "Give rows that the task can use, or another split."
        )


def _scored(
    name: str, task: Task, split: Split, answers: Sequence[str], outputs: Sequence[str], seconds: float
) -> Evaluation:
    examples = split.examples
    sources = [example.inputs[task.inputs[0]] for example in examples]
    references = [example.references for example in examples]
    scores = bootstrap(task.scorers, answers, references, sources)
    predictions = tuple(
        Prediction(example.key, source, answer, example.references, output)
        for example, source, answer, output in zip(examples, sources, answers, outputs, strict=True)
    )
    notes = unseen_labels(task, split, scores)
    return Evaluation(name, task.name, split.role, len(examples), scores, predictions, seconds, notes)
