"""A task is data: everything that differs between tasks, one file each.

the fields of a task                                 task
one task each, all of it                             emotion, qa, question_generation, paraphrase, ...
rows of another domain that emotion is compared on   sentiment
text that T5's vocabulary can hold; a row's fields   text
a row's label, by name or by place                   labels
a row's answers, in any shape                        answers
speakers of a dialogue, under names that T5 knows    speakers
one text written otherwise: case, emoji, nukta, ...  spelling
answers to scores                                    scorers
words and sentences as scorers compare them          normalise
trivial predictors                                   baselines
Devanagari in Latin letters and back                 romanise
speaker marks that T5's vocabulary breaks            speakers
what could be asked for in a passage                 answer_candidates
"""

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


def get_task(name: str, *, romanise: bool = True) -> Task:
    """The task of that name. Raises FlanLoraError with the nearest name, or all of them.

    Args:
        romanise: whether what the base reads and writes has Latin letters only, where the task knows how.
    """
    if name in TASKS:
        task = TASKS[name]
        return task if romanise or task.native is None else task.native
    raise FlanLoraError(f"unknown task {name!r}{suggest(name, TASKS)}")
