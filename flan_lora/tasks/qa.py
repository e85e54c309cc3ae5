"""The answer to a question as a span of its context (MLQA).

Context and question may be English or Hindi, each in its own language; the answer's language is the context's.
A base whose vocabulary lacks Devanagari reads and writes it in Latin letters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from flan_lora.tasks.answers import answer_start, answers_field
from flan_lora.tasks.baselines import random_span
from flan_lora.tasks.romanise import restore, romanise
from flan_lora.tasks.scorers import Scorer, squad
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
from flan_lora.tasks.text import plain, row_key, text_field

if TYPE_CHECKING:
    from flan_lora.tasks.scorers import FloatArray

_LATIN_LETTER = re.compile("[A-Za-z]")
_DEVANAGARI_LETTER = re.compile("[\u0904-\u0939\u0958-\u0961\u0972-\u097f]")


def is_hindi(text: str) -> bool:
    """Whether a quarter of a text's letters or more are Devanagari (MLQA: Hindi contexts half, English 1.5 %)."""
    num_devanagari = len(_DEVANAGARI_LETTER.findall(text))
    return num_devanagari > 0 and 3 * num_devanagari >= len(_LATIN_LETTER.findall(text))


@dataclass(frozen=True)
class _Spelling:
    """How texts are written for the base, and what it writes is read."""

    write: Callable[[str], str]
    read: Callable[[str], str]

    def inputs(self, inputs: Inputs) -> tuple[str, str]:
        """Context and question."""
        context, question = (plain(self.write(inputs[name])) for name in ("context", "question"))
        return context, question


_LATIN = _Spelling(romanise, restore)
_NATIVE = _Spelling(str, str)


def _prompt(spelling: _Spelling, inputs: Inputs) -> Prompt:
    """FLAN's SQuAD template: context, then question."""
    context, question = spelling.inputs(inputs)
    return Prompt("Read this and answer the question. Context: ", context, f" Question: {question}")


def _examples(spelling: _Spelling, row: Row) -> list[Example]:
    """One example per row: trained on the first answer, scored against all of them, in their own script.

    ``answer_start`` goes along, so that a context that does not fit is narrowed to where the answer stands.
    """
    inputs = {name: text_field(row, name, "qa") for name in ("context", "question")}
    answers = answers_field(row, "answers", "qa")
    inputs |= answer_start(row, "answers", "qa")
    target = plain(spelling.write(answers[0]))
    return [Example(row_key(row), _prompt(spelling, inputs), target, answers, inputs)]


def _parse(spelling: _Spelling, output: str) -> str:
    """Back to the answer's own script."""
    return spelling.read(output).strip()


def _squad_by_context() -> Scorer:
    """MLQA's exact_match and f1, each row normalised for the language of its context (source).

    English loses a, an and the before the comparison; Hindi has no articles, so an answer in Latin letters from
    a Hindi context keeps them, as in MLQA's own script.
    """
    english, hindi = squad("mlqa-en"), squad("mlqa-hi")

    def statistics(
        predictions: Sequence[str], references: Sequence[Sequence[str]], sources: Sequence[str]
    ) -> FloatArray:
        import numpy as np

        by_row = np.array([[is_hindi(source)] for source in sources], dtype=bool)
        both = [scorer.statistics(predictions, references, sources) for scorer in (hindi, english)]
        return np.where(by_row, *both)

    return Scorer(statistics, english.reduce, english.names)


def _question_first(spelling: _Spelling, inputs: Inputs) -> Prompt:
    context, question = spelling.inputs(inputs)
    return Prompt(f"question: {question} context: ", context)


def _question_last(spelling: _Spelling, inputs: Inputs) -> Prompt:
    context, question = spelling.inputs(inputs)
    return Prompt("", context, f" {question}")


_LIMITS = (
    "It answers from the given context and has no other knowledge; it answers also where the context does not."
)
_CARD = CardInfo(
    pipeline_tag="question-answering",
    limits=f"{_LIMITS} Hindi is read and written in a romanised form that the package turns back.",
    sample_inputs={
        "context": "The bridge was opened in 1932. It is 503 metres long.",
        "question": "How long is the bridge?",
    },
    examples=(
        CardExample(
            {
                "context": "The bridge was opened in 1932. It is 503 metres long and carries eight lanes of "
                "traffic.",
                "question": "How long is the bridge?",
            },
            "503 metres",
        ),
        CardExample(
            {
                "context": "The town library moved into the old post office in May. The reading room seats forty "
                "visitors.",
                "question": "Where did the library move?",
            },
            "the old post office",
        ),
    ),
)


def _task(spelling: _Spelling, card: CardInfo) -> Task:
    return Task(
        name="qa",
        version=2,
        summary="Answer a question from its context, English or Hindi",
        inputs=("context", "question"),
        optional_inputs=("answer_start",),
        columns=("context", "question", "answers"),
        prompt=partial(_prompt, spelling),
        examples=partial(_examples, spelling),
        parse=partial(_parse, spelling),
        scorers=(_squad_by_context(),),
        select_on="f1",
        max_new_tokens=80,
        windowed="context",
        found_in=lambda example: (example.references[0], example.inputs["context"]),
        baselines=(Baseline("random_span", random_span),),
        public_data=DataSize(302, 448, 15),
        augment={
            "case": ("context", "question", "answers"),
            "punctuation": ("question",),
            "contractions": ("question",),
            "nukta": ("context", "question", "answers"),
        },
        card=card,
        prompt_variants=(
            PromptVariant("question, then context", partial(_question_first, spelling)),
            PromptVariant("context, then question", partial(_question_last, spelling)),
        ),
    )


TASK = replace(_task(_LATIN, _CARD), native=_task(_NATIVE, replace(_CARD, limits=_LIMITS)))
