"""Which of six emotions a short text expresses (dair-ai/emotion). Knows texts and labels; never a tokenizer."""

from __future__ import annotations

from flan_lora.metrics import classification
from flan_lora.tasks.baselines import majority
from flan_lora.tasks.task import Baseline, Example, Inputs, Prompt, Row, Task
from flan_lora.tasks.text import label_field, options, plain, row_key, text_field

LABELS = ("sadness", "joy", "love", "anger", "fear", "surprise")
"""In the order of the data set's indices 0..5."""


def _prompt(inputs: Inputs) -> Prompt:
    """FLAN's sentiment template with this task's classes."""
    question = f" What is the emotion expressed in this text? {options(LABELS)}"
    return Prompt("Text: ", plain(inputs["text"]), question)


def _examples(row: Row) -> list[Example]:
    """One example per row."""
    inputs = {"text": text_field(row, "text", "emotion")}
    label = label_field(row, "label", "emotion", LABELS)
    return [Example(row_key(row), _prompt(inputs), label, (label,), inputs)]


TASK = Task(
    name="emotion",
    version=1,
    summary="Name the emotion of a short text: sadness, joy, love, anger, fear or surprise",
    inputs=("text",),
    columns=("text", "label"),
    prompt=_prompt,
    examples=_examples,
    parse=lambda output: output.strip().lower(),
    scorers=(classification(LABELS),),
    select_on="macro_f1",
    max_new_tokens=8,
    labels=LABELS,
    baselines=(Baseline("majority", majority),),
)
