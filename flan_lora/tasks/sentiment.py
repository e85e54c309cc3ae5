"""The sentiment of a film review: nothing is trained for it, the emotion task is compared on its rows."""

from __future__ import annotations

from flan_lora.tasks.scorers import classification
from flan_lora.tasks.task import Example, Inputs, Prompt, PromptVariant, Row, Task
from flan_lora.tasks.text import label_field, options, plain, row_key, text_field, untokenise

LABELS = ("negative", "positive")
"""In the order of the data set's indices (cornell-movie-review-data/rotten_tomatoes)."""


def _prompt(inputs: Inputs) -> Prompt:
    question = f" What is the sentiment of this text? {options(LABELS)}"
    return Prompt("Text: ", plain(untokenise(inputs["text"])), question)


def _positive_or_negative(inputs: Inputs) -> Prompt:
    return Prompt("Review: ", plain(inputs["text"]), " Is this review positive or negative?")


def _good_or_bad(inputs: Inputs) -> Prompt:
    return Prompt("", plain(inputs["text"]), " Is the film good or bad? OPTIONS: - bad - good")


def _examples(row: Row) -> list[Example]:
    """One example per row."""
    inputs = {"text": untokenise(text_field(row, "text", "sentiment"))}
    label = label_field(row, "label", "sentiment", LABELS)
    return [Example(row_key(row), _prompt(inputs), label, (label,), inputs)]


FILM_REVIEWS = Task(
    name="sentiment",
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
    prompt_variants=(
        PromptVariant("positive or negative", _positive_or_negative),
        PromptVariant("good or bad", _good_or_bad, {"negative": "bad", "positive": "good"}),
    ),
)
