"""Does an emotion adapter help on texts of another kind? Film reviews, positive or negative, which it never saw.

Emotions stand for a sentiment: joy and love for positive, sadness, anger and fear for negative; surprise may be
either and counts for neither. Knows rows, labels and probabilities; never a model.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flan_lora.data.file_formats import read_rows
from flan_lora.data.sources import DataSource
from flan_lora.errors import DataError
from flan_lora.evaluation.predictions import Prediction
from flan_lora.system.hub import local_folder, read_hub_rows
from flan_lora.tasks.prompt_variants import Wording
from flan_lora.tasks.scorers import classification
from flan_lora.tasks.task import Example, Inputs, Prompt, Row, Task
from flan_lora.tasks.text import label_field, options, plain, row_key, text_field, untokenise

DATASET, CONFIG = "cornell-movie-review-data/rotten_tomatoes", "default"
SPLITS = ("test", "validation", "train")
"""The first of them that is there is used: no adapter of ours learns from any of them."""
LABELS = ("negative", "positive")
"""In the order of the data set's indices."""
SENTIMENTS = {
    "joy": "positive",
    "love": "positive",
    "sadness": "negative",
    "anger": "negative",
    "fear": "negative",
}
"""What an emotion says about the text's sentiment; surprise says nothing."""


def _prompt(inputs: Inputs) -> Prompt:
    question = f" What is the sentiment of this text? {options(LABELS)}"
    return Prompt("Text: ", plain(untokenise(inputs["text"])), question)


def _examples(row: Row) -> list[Example]:
    inputs = {"text": untokenise(text_field(row, "text", "polarity"))}
    label = label_field(row, "label", "polarity", LABELS)
    return [Example(row_key(row), _prompt(inputs), label, (label,), inputs)]


TASK = Task(
    name="polarity",
    version=1,
    summary="Say whether a film review is positive or negative",
    inputs=("text",),
    columns=("text", "label"),
    prompt=_prompt,
    examples=_examples,
    scorers=(classification(LABELS),),
    select_on="accuracy",
    max_new_tokens=8,
    labels=LABELS,
)
"""Not one of `tasks.TASKS`: nothing is trained for it."""

WORDINGS = (
    Wording("the sentiment", _prompt),
    Wording(
        "positive or negative",
        lambda inputs: Prompt("Review: ", plain(inputs["text"]), " Is this review positive or negative?"),
    ),
    Wording(
        "good or bad",
        lambda inputs: Prompt("", plain(inputs["text"]), " Is the film good or bad? OPTIONS: - bad - good"),
        {"negative": "bad", "positive": "good"},
    ),
)
"""Ways to ask the base for the sentiment itself."""


def find_reviews(source: DataSource) -> tuple[Sequence[Row], str] | None:
    """The film reviews and where they are from; None where this source has none (a user's file, the sample).

    Raises:
        DataError: rows that are there cannot be read.
    """
    if source.kind == "local" and source.path is not None:
        folder = source.path / local_folder(DATASET) / CONFIG
        for split in SPLITS:
            if (path := folder / f"{split}.jsonl").is_file():
                return read_rows(path), f"{DATASET}/{CONFIG}:{split} ({source.description})"
        return None
    if source.kind != "hub":
        return None
    try:
        rows, commit = read_hub_rows(DATASET, CONFIG, SPLITS[0], None)
    except DataError:
        return None
    return rows, f"{DATASET}/{CONFIG}:{SPLITS[0]} @ {commit or 'main'} (Hub)"


def draw(
    rows: Sequence[Row], *, num_tried: int, num_scored: int, seed: int = 0
) -> tuple[list[Example], list[Example]]:
    """Two samples without a row in common: one to choose the base's wording on, one to score."""
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    examples: dict[str, Example] = {}
    for place in order:
        for example in TASK.examples(rows[place]):
            examples.setdefault(example.key, example)
        if len(examples) >= num_tried + num_scored:
            break
    drawn = list(examples.values())
    num_tried = min(num_tried, len(drawn) // 2)
    return drawn[:num_tried], drawn[num_tried : num_tried + num_scored]


def as_sentiment(predictions: Sequence[Prediction]) -> tuple[Prediction, ...]:
    """Emotions with their probabilities -> the likelier sentiment, renormalised without surprise."""
    return tuple(_mapped(item) for item in predictions)


def _mapped(item: Prediction) -> Prediction:
    if item.label_probabilities is None:
        return replace(item, prediction=SENTIMENTS.get(item.prediction, item.prediction))
    shares = _shares(item.label_probabilities)
    best = max(LABELS, key=lambda label: shares[label])
    return replace(item, prediction=best, label_probabilities=shares)


def _shares(emotions: Mapping[str, float]) -> dict[str, float]:
    sums = dict.fromkeys(LABELS, 0.0)
    for emotion, share in emotions.items():
        if emotion in SENTIMENTS:
            sums[SENTIMENTS[emotion]] += share
    total = sum(sums.values())
    if total == 0:  # all of it is surprise: a coin that always falls on the same side
        return {label: 1 / len(LABELS) for label in LABELS}
    return {label: share / total for label, share in sums.items()}
