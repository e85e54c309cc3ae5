"""Rows of another data set (`Task.out_of_domain`): found, sampled, and answers mapped to its labels."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from flan_lora.data.file_formats import read_rows
from flan_lora.data.sources import DataSource
from flan_lora.errors import DataError
from flan_lora.evaluation.predictions import Prediction
from flan_lora.system.hub import local_folder, read_hub_rows
from flan_lora.tasks.task import Example, OutOfDomain, Row, Task


def find_rows(spec: OutOfDomain, source: DataSource) -> tuple[Sequence[Row], str, str] | None:
    """The rows, their split and where they are from; None where this source has none (a user's file, the sample).

    Raises:
        DataError: rows that are there cannot be read.
    """
    if source.kind == "local" and source.path is not None:
        folder = source.path / local_folder(spec.dataset) / spec.config
        for split in spec.splits:
            if (path := folder / f"{split}.jsonl").is_file():
                return read_rows(path), split, f"{spec.dataset}/{spec.config}:{split} ({source.description})"
        return None
    if source.kind != "hub":
        return None
    split = spec.splits[0]
    try:
        rows, commit = read_hub_rows(spec.dataset, spec.config, split, None)
    except DataError:
        return None
    return rows, split, f"{spec.dataset}/{spec.config}:{split} @ {commit or 'main'} (Hub)"


def draw(
    task: Task, rows: Sequence[Row], *, num_tried: int, num_scored: int, seed: int = 0
) -> tuple[list[Example], list[Example]]:
    """Two samples without a row in common: one to choose the base's prompt on, one to score."""
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    examples: dict[str, Example] = {}
    for place in order:
        for example in task.examples(rows[place]):
            examples.setdefault(example.key, example)
        if len(examples) >= num_tried + num_scored:
            break
    drawn = list(examples.values())
    num_tried = min(num_tried, len(drawn) // 2)
    return drawn[:num_tried], drawn[num_tried : num_tried + num_scored]


def as_labels(spec: OutOfDomain, predictions: Sequence[Prediction]) -> tuple[Prediction, ...]:
    """Answers of the task -> the likelier label of the other one; labels that stand for none are left out."""
    return tuple(_mapped(spec, item) for item in predictions)


def _mapped(spec: OutOfDomain, item: Prediction) -> Prediction:
    if item.label_probabilities is None:
        return replace(item, prediction=spec.label_map.get(item.prediction, item.prediction))
    sums = dict.fromkeys(spec.task.labels, 0.0)
    for label, probability in item.label_probabilities.items():
        if label in spec.label_map:
            sums[spec.label_map[label]] += probability
    total = sum(sums.values())
    if total == 0:  # all of it is on labels that stand for none: a coin that always falls on the same side
        probabilities = {label: 1 / len(sums) for label in sums}
    else:
        probabilities = {label: value / total for label, value in sums.items()}
    best = max(probabilities, key=probabilities.__getitem__)
    return replace(item, prediction=best, label_probabilities=probabilities)
