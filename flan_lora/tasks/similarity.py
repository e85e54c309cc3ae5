"""Whether two sentences mean the same (PAWS)."""

from __future__ import annotations

from collections.abc import Callable

from flan_lora.tasks.baselines import majority
from flan_lora.tasks.scorers import binary
from flan_lora.tasks.task import (
    Baseline,
    CardExample,
    CardInfo,
    DataSize,
    Example,
    Inputs,
    Prompt,
    PromptVariant,
    Row,
    Task,
)
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


def _pair(head: str, middle: str, tail: str) -> Callable[[Inputs], Prompt]:
    """The two sentences among fixed texts."""

    def prompt(inputs: Inputs) -> Prompt:
        first, second = (plain(untokenise(inputs[name])) for name in ("sentence1", "sentence2"))
        return Prompt(head, f"{first}{middle}{second}", tail)

    return prompt


_PROMPT_VARIANTS = (
    PromptVariant(
        "same or different",
        _pair("First: ", " Second: ", " Same or different?"),
        {"no": "different", "yes": "same"},
    ),
    PromptVariant("as a question", _pair("", " ", " Do both say the same? OPTIONS: - no - yes")),
    PromptVariant("paraphrase or not", _pair("Is the second a paraphrase of the first? 1: ", " 2: ", "")),
)

_CARD = CardInfo(
    pipeline_tag="text-classification",
    limits="PAWS, its recipe's data, has pairs that share most of their words; on other pairs its answers are "
    "less reliable. order_agreement says how often both orders of a pair get the same answer.",
    sample_inputs={
        "sentence1": "The flight from Berlin was delayed by two hours .",
        "sentence2": "The Berlin flight came in two hours late .",
    },
    examples=(
        CardExample(
            {
                "sentence1": "The train from Lyon arrived in Paris before noon .",
                "sentence2": "Before noon the train from Lyon arrived in Paris .",
            },
            "yes",
        ),
        CardExample(
            {
                "sentence1": "The train from Lyon arrived in Paris before noon .",
                "sentence2": "The train from Paris arrived in Lyon before noon .",
            },
            "no",
        ),
    ),
)

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
    public_data=DataSize(49_401, 87, 2),
    augment=dict.fromkeys(("case", "punctuation", "contractions"), ("sentence1", "sentence2")),
    card=_CARD,
    prompt_variants=_PROMPT_VARIANTS,
)
