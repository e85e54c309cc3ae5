"""A question whose answer is a given span of a passage (SQuAD, answer-aware)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flan_lora.tasks.answer_candidates import candidates
from flan_lora.tasks.answers import answer_start, answers_field
from flan_lora.tasks.baselines import sentences
from flan_lora.tasks.romanise import romanise
from flan_lora.tasks.scorers import bleu, meteor, rouge
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

MARK = "*"
"""Stands on both sides of the answer; a piece of T5's vocabulary and hardly ever in a passage."""
_MAX_SENTENCE_CHARS = 400
"""A longer sentence is narrowed to a window around the answer, so that the answer stays near the front."""


def _prompt(inputs: Inputs) -> Prompt:
    """The answer, then the sentence it stands in with the answer marked, then the passage.

    A cut takes the end of the passage, so answer and sentence survive however late they stand in it.
    """
    answer = plain(inputs["answer"])
    sentence = plain(marked_sentence(inputs))
    lead = f"Sentence: {sentence} Passage: " if sentence else "Passage: "
    head = f'Write a question about the passage whose answer is "{answer}". '
    return Prompt(head, f"{lead}{plain(inputs['context'])}", " Question:")


def marked_sentence(inputs: Inputs) -> str:
    """The sentence that holds the answer, the answer between marks; empty when the context lacks the answer."""
    context, answer = inputs["context"], inputs["answer"].strip()
    start = _find(context, answer, inputs.get("answer_start", ""))
    if start < 0:
        return ""
    before, after = context[:start], context[start + len(answer) :]
    before = _close((sentences(f"{before}|") or [""])[-1].removesuffix("|"), from_end=True)
    after = _close((sentences(f"|{after}") or [""])[0].removeprefix("|"), from_end=False)
    return f"{before}{MARK} {answer} {MARK}{after}"


def _find(context: str, answer: str, hint: str) -> int:
    """Where the answer starts: at the hint if it stands there, else its first occurrence as whole words."""
    if hint.isdecimal() and context[int(hint) :].startswith(answer):
        return int(hint)
    match = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", context)
    return match.start() if match else context.find(answer)


def _close(text: str, *, from_end: bool) -> str:
    """The part of a long side that is next to the answer, cut between words."""
    limit = _MAX_SENTENCE_CHARS // 2
    if len(text) <= limit:
        return text
    return text[-limit:].partition(" ")[2] if from_end else text[:limit].rpartition(" ")[0]


def _examples(row: Row) -> list[Example]:
    """One example per row; SQuAD's ``answer_start`` picks the occurrence that the question is about."""
    answer = answers_field(row, "answers", "question-generation")[0]
    inputs = {"context": text_field(row, "context", "question-generation"), "answer": answer}
    inputs |= answer_start(row, "answers", "question-generation")
    question = text_field(row, "question", "question-generation").strip()
    return [Example(row_key(row), _prompt(inputs), plain(question), (question,), inputs)]


def _copy_sentence(train: Sequence[Example], examples: Sequence[Example]) -> list[str]:
    """The sentence that holds the answer."""
    return [marked_sentence(e.inputs).replace(f"{MARK} ", "").replace(f" {MARK}", "") for e in examples]


def _propose(context: str) -> list[Inputs]:
    """One input for every span of a passage that could be an answer."""
    return [{"context": context, "answer": span.text} for span in candidates(context)]


def _answer_first(inputs: Inputs) -> Prompt:
    context, answer = (plain(romanise(inputs[name])) for name in ("context", "answer"))
    return Prompt(f"answer: {answer} context: ", context, " question:")


def _as_an_order(inputs: Inputs) -> Prompt:
    context, answer = (plain(romanise(inputs[name])) for name in ("context", "answer"))
    return Prompt(f'Ask a question to which "{answer}" is the answer. ', context)


_CARD = CardInfo(
    pipeline_tag="text-generation",
    limits="The question may miss the answer that was asked for, or fit no part of the passage.",
    sample_inputs={
        "context": "The bridge was opened in 1932. It is 503 metres long.",
        "answer": "503 metres",
    },
    examples=(
        CardExample(
            {
                "context": "The bridge was opened in 1932. It is 503 metres long and carries eight lanes of "
                "traffic.",
                "answer": "503 metres",
            },
            "How long is the bridge?",
        ),
        CardExample(
            {
                "context": "The town library moved into the old post office in May. The reading room seats forty "
                "visitors.",
                "answer": "forty",
            },
            "How many visitors does the reading room seat?",
        ),
    ),
)

TASK = Task(
    name="question-generation",
    version=1,
    summary="Ask a question about a passage that has the given answer",
    inputs=("context", "answer"),
    optional_inputs=("answer_start",),
    columns=("context", "question", "answers"),
    prompt=_prompt,
    examples=_examples,
    scorers=(bleu(), rouge(), meteor()),
    select_on="rouge_l",
    max_new_tokens=48,
    found_in=lambda example: (example.inputs["answer"], example.inputs["context"]),
    baselines=(Baseline("answer_sentence", _copy_sentence),),
    propose=_propose,
    public_data=DataSize(87_599, 244, 15),
    augment={"case": ("context", "answers")},
    card=_CARD,
    prompt_variants=(
        PromptVariant("answer, then context", _answer_first),
        PromptVariant("as an order", _as_an_order),
    ),
)
