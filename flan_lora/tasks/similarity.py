"""Whether two sentences mean the same (PAWS). Knows texts and labels; never a tokenizer."""

from __future__ import annotations

from flan_lora.tasks.baselines import majority
from flan_lora.tasks.scorers import binary
from flan_lora.tasks.task import Baseline, Example, Inputs, Prompt, Row, Task
from flan_lora.tasks.text import label_field, options, plain, row_key, text_field, untokenise

LABELS = ("no", "yes")
"""In the order of the data set's indices: 1 = paraphrases of each other."""


def _prompt(inputs: Inputs) -> Prompt:
    """FLAN's PAWS template, the sentences named; PAWS' spaced punctuation becomes ordinary text."""
    first, second = (plain(untokenise(inputs[name])) for name in ("sentence1", "sentence2"))
    question = f" Do these two sentences mean the same thing? {options(LABELS)}"
    return Prompt("Sentence 1: ", f"{first} Sentence 2: {second}", question)


def _examples(row: Row) -> list[Example]:
    """One example per row."""
    inputs = {name: text_field(row, name, "similarity") for name in ("sentence1", "sentence2")}
    label = label_field(row, "label", "similarity", LABELS)
    return [Example(row_key(row), _prompt(inputs), label, (label,), inputs)]


def _swap(inputs: Inputs) -> Inputs:
    """The pair in its other order, which means the same."""
    return {"sentence1": inputs["sentence2"], "sentence2": inputs["sentence1"]}


TASK = Task(
    name="similarity",
    version=1,
    summary="Say whether two sentences mean the same: yes or no",
    inputs=("sentence1", "sentence2"),
    columns=("sentence1", "sentence2", "label"),
    prompt=_prompt,
    examples=_examples,
    parse=lambda output: output.strip().lower(),
    scorers=(binary(LABELS, "yes"),),
    select_on="accuracy",
    max_new_tokens=8,
    labels=LABELS,
    baselines=(Baseline("majority", majority),),
    swap=_swap,
)
