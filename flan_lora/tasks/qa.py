"""The answer to a question as a span of its context (MLQA). Knows texts; never a tokenizer.

Context and question may be English or Hindi, each in its own language; the answer's language is the context's.
"""

from __future__ import annotations

from flan_lora.metrics import squad
from flan_lora.tasks.baselines import random_span
from flan_lora.tasks.task import Baseline, Example, Inputs, Prompt, Row, Task
from flan_lora.tasks.text import answers_field, plain, row_key, text_field


def _prompt(inputs: Inputs) -> Prompt:
    """FLAN's SQuAD template: context, then question."""
    context, question = (plain(inputs[name]) for name in ("context", "question"))
    return Prompt("Read this and answer the question. Context: ", context, f" Question: {question}")


def _examples(row: Row) -> list[Example]:
    """One example per row: trained on the first answer, scored against all of them, in their own script."""
    inputs = {name: text_field(row, name, "qa") for name in ("context", "question")}
    answers = answers_field(row, "answers", "qa")
    return [Example(row_key(row), _prompt(inputs), plain(answers[0]), answers, inputs)]


def _parse(output: str) -> str:
    """The answer as it stands."""
    return output.strip()


TASK = Task(
    name="qa",
    version=1,
    summary="Answer a question from its context, English or Hindi",
    inputs=("context", "question"),
    columns=("context", "question", "answers"),
    prompt=_prompt,
    examples=_examples,
    parse=_parse,
    scorers=(squad("mlqa-hi"),),
    select_on="f1",
    max_new_tokens=64,
    baselines=(Baseline("random_span", random_span),),
)
