"""A row of each task's data set, the examples that it makes, and their scores."""

from __future__ import annotations

from typing import Any

import pytest

from flan_lora.tasks import TASKS, Example, Task
from flan_lora.tasks.scorers import score

ROWS: dict[str, dict[str, Any]] = {
    "emotion": {"text": "i feel  like dancing\nall night <3", "label": 1},
    "qa": {
        "id": "q7",
        "context": "आगरा (Agra) यमुना नदी के किनारे बसा है।\nताजमहल १६५३ में पूरा हुआ।",
        "question": "When was the Taj Mahal completed?",
        "answers": {"text": ["१६५३ में", "१६५३"], "answer_start": [47, 47]},
    },
    "question-generation": {
        "id": "g1",
        "context": "Ada met Bo in Oslo. They moved to Bern. In Bern, Ada opened a shop that sells {old} maps.",
        "question": "Where did Ada open a shop?",
        "answers": {"text": ["Bern"], "answer_start": [43]},
    },
    "paraphrase": {
        "id": 4,
        "sentence1": "The `` Nordic Star '' sailed in May , it did n't stop ( twice ) .",
        "sentence2": "In May , the `` Nordic Star '' sailed and never stopped .",
        "label": 1,
    },
    "summarization": {
        "id": "s2",
        "dialogue": "Mia: are you up?\r\nLeo: yes :) <file_gif>\r\n\r\nMia: train leaves at 9 {sharp}",
        "summary": "Mia and Leo take a train at 9.",
    },
    "similarity": {
        "id": 9,
        "sentence1": "Rio beat Lima in 1990 .",
        "sentence2": "Lima beat Rio in 1990 .",
        "label": 0,
    },
}


def make(name: str, **changes: Any) -> list[Example]:
    """Examples of the handmade row, some columns changed."""
    return TASKS[name].examples({**ROWS[name], **changes})


each_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def scores_of(task: Task, items: list[Example], answers: list[str]) -> dict[str, float]:
    sources = [item.inputs[task.inputs[0]] for item in items]
    return score(task.scorers, answers, [item.references for item in items], sources)
