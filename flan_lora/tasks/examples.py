"""Texts written by hand for every task, with the answer one hopes for: examples in cards, probes of merged models.

Knows texts; never a model. None of them is a row of a data set, so they may be printed anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flan_lora.tasks.task import Example, Task


@dataclass(frozen=True, slots=True)
class Specimen:
    """One input of a task."""

    inputs: Mapping[str, str]
    hoped_for: str
    """What a person would answer; one of several where the task writes freely."""


_BRIDGE = "The bridge was opened in 1932. It is 503 metres long and carries eight lanes of traffic."
_LIBRARY = "The town library moved into the old post office in May. The reading room seats forty visitors."

SPECIMENS: dict[str, tuple[Specimen, ...]] = {
    "emotion": (
        Specimen({"text": "i miss her every day and the house feels empty"}, "sadness"),
        Specimen({"text": "i feel so happy that the whole family came to visit"}, "joy"),
        Specimen({"text": "i feel tender and caring when i hold my little daughter"}, "love"),
        Specimen({"text": "i cannot believe that he lied to me again i am furious"}, "anger"),
        Specimen({"text": "i keep thinking about the exam tomorrow and my hands shake"}, "fear"),
        Specimen({"text": "i was amazed and did not expect to find the old letter there"}, "surprise"),
    ),
    "similarity": (
        Specimen(
            {
                "sentence1": "The train from Lyon arrived in Paris before noon .",
                "sentence2": "Before noon the train from Lyon arrived in Paris .",
            },
            "yes",
        ),
        Specimen(
            {
                "sentence1": "The train from Lyon arrived in Paris before noon .",
                "sentence2": "The train from Paris arrived in Lyon before noon .",
            },
            "no",
        ),
    ),
    "paraphrase": (
        Specimen(
            {"sentence": "The flight from Berlin was delayed by two hours ."},
            "The Berlin flight came in two hours late.",
        ),
        Specimen(
            {"sentence": "In 1998 she moved to Oslo , where she opened a small bakery ."},
            "She opened a small bakery in Oslo after moving there in 1998.",
        ),
    ),
    "summarization": (
        Specimen(
            {
                "dialogue": "Mia: are you coming tonight?\nJon: yes, at eight\n"
                "Mia: great, please bring the cake\nJon: will do"
            },
            "Jon will come at eight and bring the cake.",
        ),
        Specimen(
            {
                "dialogue": "Ada: the printer is broken again\nBen: did you restart it?\nAda: twice\n"
                "Ben: then I will call the repair service tomorrow"
            },
            "The printer is broken. Ben will call the repair service tomorrow.",
        ),
    ),
    "qa": (
        Specimen({"context": _BRIDGE, "question": "How long is the bridge?"}, "503 metres"),
        Specimen({"context": _LIBRARY, "question": "Where did the library move?"}, "the old post office"),
    ),
    "question-generation": (
        Specimen({"context": _BRIDGE, "answer": "503 metres"}, "How long is the bridge?"),
        Specimen({"context": _LIBRARY, "answer": "forty"}, "How many visitors does the reading room seat?"),
    ),
}


def specimen_examples(task: Task) -> list[Example]:
    """The task's specimens in its own prompt; none for a task of a user's own."""
    return [
        Example(str(key), task.prompt(item.inputs), item.hoped_for, (item.hoped_for,), item.inputs)
        for key, item in enumerate(SPECIMENS.get(task.name, ()))
    ]


def probe_examples(task: Task) -> list[Example]:
    """The specimens, or plain sentences in every input of a task of a user's own: to compare two models with."""
    inputs = [dict.fromkeys(task.inputs, text) for text in _PROBES]
    own = [Example(str(key), task.prompt(given), "", (), given) for key, given in enumerate(inputs)]
    return specimen_examples(task) or own


_PROBES = (
    "The parcel came a day late and one corner was torn.",
    "Thank you for the quick help this morning!",
    "In 1998 she moved to Oslo, where she opened a small bakery.",
)
