"""Ways to ask the bare base, so that it is compared at its best: a few wordings per task, chosen on validation.

Knows texts and labels; never a model. An adapter is always asked in its task's own prompt; a base that never saw
that prompt may do better under another one, in other words for the labels, or in the short form T5 was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flan_lora.tasks import TASKS
from flan_lora.tasks.emotion import bare_words
from flan_lora.tasks.romanise import romanise
from flan_lora.tasks.task import Inputs, Prompt, Task
from flan_lora.tasks.text import options, plain, untokenise

OWN = "the task's own prompt"


@dataclass(frozen=True)
class Wording:
    """One way to ask."""

    name: str
    """As reports call it."""
    prompt: Callable[[Inputs], Prompt]
    spellings: Mapping[str, str] = field(default_factory=dict)
    """Label -> the word that stands for it in this wording; empty: the labels themselves."""


def wordings(task: Task) -> tuple[Wording, ...]:
    """The task's own prompt first, then the others."""
    return (Wording(OWN, task.prompt), *_OTHERS.get(task.name, ()))


def _around(head: str, column: str, tail: str) -> Callable[[Inputs], Prompt]:
    """One column between two fixed texts."""
    return lambda inputs: Prompt(head, plain(untokenise(inputs[column])), tail)


def _post(head: str, tail: str) -> Callable[[Inputs], Prompt]:
    """A text whose emotion is asked for, in the bare words of the task's own prompt."""
    return lambda inputs: Prompt(head, bare_words(inputs["text"]), tail)


def _pair(head: str, middle: str, tail: str) -> Callable[[Inputs], Prompt]:
    """PAWS' two sentences."""

    def prompt(inputs: Inputs) -> Prompt:
        first, second = (plain(untokenise(inputs[name])) for name in ("sentence1", "sentence2"))
        return Prompt(head, f"{first}{middle}{second}", tail)

    return prompt


def _context(head: str, tail: str) -> Callable[[Inputs], Prompt]:
    """A passage between two texts that may name the other inputs; Devanagari in Latin letters."""

    def prompt(inputs: Inputs) -> Prompt:
        texts = {name: plain(romanise(text)) for name, text in inputs.items()}
        return Prompt(head.format_map(texts), texts["context"], tail.format_map(texts))

    return prompt


def _dialogue(head: str, separator: str, tail: str) -> Callable[[Inputs], Prompt]:
    """A chat on one line."""

    def prompt(inputs: Inputs) -> Prompt:
        lines = [plain(line) for line in inputs["dialogue"].splitlines() if line.strip()]
        return Prompt(head, separator.join(lines), tail)

    return prompt


def _words(labels: Sequence[str], words: Sequence[str]) -> dict[str, str]:
    return dict(zip(labels, words, strict=True))


def _one_of(words: Mapping[str, str]) -> str:
    """``a, b or c``."""
    *firsts, last = words.values()
    return f"{', '.join(firsts)} or {last}"


_EMOTIONS = TASKS["emotion"].labels
_FEELINGS = _words(_EMOTIONS, ("sad", "happy", "affectionate", "angry", "afraid", "astonished"))
_PLAIN_FEELINGS = _words(_EMOTIONS, ("sad", "happy", "loving", "angry", "scared", "surprised"))
_SAME = _words(TASKS["similarity"].labels, ("different", "same"))

_OTHERS: dict[str, tuple[Wording, ...]] = {
    "emotion": (
        Wording(
            "feelings as adjectives",
            _post("", f" How does the writer feel? {options(tuple(_FEELINGS.values()))}"),
            _FEELINGS,
        ),
        Wording("one of six feelings", _post("", f" Does the writer feel {_one_of(_FEELINGS)}?"), _FEELINGS),
        Wording("a sentence to finish", _post("Somebody writes: ", " The writer is"), _FEELINGS),
        Wording(
            "everyday adjectives",
            _post("", f" The person who wrote this is {options(tuple(_PLAIN_FEELINGS.values()))}"),
            _PLAIN_FEELINGS,
        ),
        Wording(
            "the question first",
            _post(f"Which of these emotions does the text show? {options(_EMOTIONS)} Text: ", ""),
        ),
    ),
    "similarity": (
        Wording("same or different", _pair("First: ", " Second: ", " Same or different?"), _SAME),
        Wording("as a question", _pair("", " ", " Do both say the same? OPTIONS: - no - yes")),
        Wording("paraphrase or not", _pair("Is the second a paraphrase of the first? 1: ", " 2: ", "")),
    ),
    "paraphrase": (
        Wording("in other words", _around("Say this in other words: ", "sentence", "")),
        Wording("one word", _around("paraphrase: ", "sentence", "")),
    ),
    "summarization": (
        Wording("one word", _dialogue("summarize: ", " ", "")),
        Wording("in short", _dialogue("", " | ", " What was said, in short?")),
        Wording("a heading to follow", _dialogue("Dialogue: ", " | ", " Summary:")),
    ),
    "qa": (
        Wording("question, then context", _context("question: {question} context: ", "")),
        Wording("context, then question", _context("", " {question}")),
    ),
    "question-generation": (
        Wording("answer, then context", _context("answer: {answer} context: ", " question:")),
        Wording("as an order", _context('Ask a question to which "{answer}" is the answer. ', "")),
    ),
}
