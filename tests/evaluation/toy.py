"""A task, rows and a tokenizer of a few words."""

from __future__ import annotations

import random
from typing import Any

from flan_lora.data.splits import Split
from flan_lora.evaluation.predict import predict
from flan_lora.recipe import EvaluationSection
from flan_lora.tasks.scorers import classification, squad
from flan_lora.tasks.task import Baseline, Example, Prompt, Task
from tests.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
LABELS = ("sad", "sadness", "joy", "not", "not joy", "a")
"""Labels whose tokens or characters begin other labels."""
WORDS = "the a joy is not sad love question what yes no".split()


def make_task(labels: tuple[str, ...] = (), max_new_tokens: int = 12) -> Task:
    return Task(
        name="toy",
        version=1,
        summary="Says something about a text",
        inputs=("text",),
        columns=("text",),
        prompt=lambda inputs: Prompt("Text: ", inputs["text"], " Answer:"),
        examples=lambda row: [],
        scorers=(classification(labels) if labels else squad(),),
        select_on="f1",
        max_new_tokens=max_new_tokens,
        labels=labels,
        baselines=(Baseline("first", lambda train, examples: [train[0].target] * len(examples)),),
    )


def make_examples(task: Task, num: int = 14, answer: str = "joy") -> list[Example]:
    """Texts of very different lengths, from one word to some thirty."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=1 + 3 * (row % 11))) + f" {row}" for row in range(num)]
    return [
        Example(f"key-{row}", task.prompt({"text": text}), answer, (answer,), {"text": text})
        for row, text in enumerate(texts)
    ]


def make_split(examples: list[Example]) -> Split:
    return Split("test", tuple(examples), "the toy rows", len(examples), "hash")


def answers(model: Any, task: Task, examples: list[Example], **evaluation: Any) -> list[str]:
    section = EvaluationSection(**evaluation)
    return predict(model, TOKENIZER, task, examples, evaluation=section, max_source_tokens=96)
