"""The six tasks, by name. Tasks are data: prompt, parser, scorers, limits; nothing here sees a tensor."""

from __future__ import annotations

from flan_lora.errors import FlanLoraError
from flan_lora.system.text import suggest
from flan_lora.tasks import emotion, paraphrase, qa, question_generation, similarity, summarization
from flan_lora.tasks.task import Baseline, Example, Prompt, Task

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        emotion.TASK,
        qa.TASK,
        question_generation.TASK,
        paraphrase.TASK,
        summarization.TASK,
        similarity.TASK,
    )
}

__all__ = ["TASKS", "Baseline", "Example", "Prompt", "Task", "get_task"]


def get_task(name: str) -> Task:
    """The task of that name. Raises FlanLoraError with the nearest name, or all of them."""
    if name in TASKS:
        return TASKS[name]
    raise FlanLoraError(f"unknown task {name!r}{suggest(name, TASKS)}")
