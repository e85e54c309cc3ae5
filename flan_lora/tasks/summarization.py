"""Summaries of chat dialogues (SAMSum)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flan_lora.tasks.scorers import rouge
from flan_lora.tasks.speakers import read_dialogue
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
from flan_lora.tasks.text import check_text, field_error, plain, row_key, text_field

TURN_SEPARATOR = " | "
"""Line breaks vanish in T5's tokenizer; a bar is one piece, and rare in chats."""


def turns(dialogue: str) -> list[str]:
    """The dialogue's turns: its lines that are not blank."""
    return [line.strip() for line in dialogue.splitlines() if line.strip()]


def _spoken(inputs: Inputs) -> list[str]:
    """The turns as the base reads them."""
    return [plain(turn) for turn in read_dialogue(inputs["dialogue"]).turns]


def _prompt(inputs: Inputs) -> Prompt:
    """FLAN's SAMSum template, the turns on one line, each under a name that the base knows."""
    return Prompt(
        "Here is a dialogue: ", TURN_SEPARATOR.join(_spoken(inputs)), " Write a short summary of this dialogue."
    )


def _examples(row: Row) -> list[Example]:
    """One example per row; none for a dialogue without a word, which SAMSum's official train split has."""
    dialogue = row.get("dialogue")
    if "dialogue" not in row or not isinstance(dialogue, (str, type(None))):
        raise field_error(row, "dialogue", "summarization", "a text, one turn per line")
    if not dialogue or not turns(dialogue):
        return []
    check_text(row, "dialogue", "summarization", dialogue)
    inputs = {"dialogue": dialogue}
    summary = text_field(row, "summary", "summarization").strip()
    target = read_dialogue(dialogue).stand_in(summary)
    return [Example(row_key(row), _prompt(inputs), plain(target), (summary,), inputs)]


def _restore(answer: str, inputs: Inputs) -> str:
    """The speakers by the marks that the dialogue has."""
    return read_dialogue(inputs["dialogue"]).restore(answer)


def _lead_3(train: Sequence[Example], examples: Sequence[Example]) -> list[str]:
    """The first three turns."""
    return ["\n".join(turns(example.inputs["dialogue"])[:3]) for example in examples]


def _around(head: str, separator: str, tail: str) -> Callable[[Inputs], Prompt]:
    """The turns on one line, between two texts."""
    return lambda inputs: Prompt(head, separator.join(_spoken(inputs)), tail)


_CARD = CardInfo(
    pipeline_tag="summarization",
    limits="A summary may leave out what matters, mix up who said what, or state what nobody said.",
    sample_inputs={
        "dialogue": "Mia: are you coming tonight?\nJon: yes, at eight\nMia: great, please bring the cake"
    },
    examples=(
        CardExample(
            {
                "dialogue": "Mia: are you coming tonight?\nJon: yes, at eight\n"
                "Mia: great, please bring the cake\nJon: will do"
            },
            "Jon will come at eight and bring the cake.",
        ),
        CardExample(
            {
                "dialogue": "Ada: the printer is broken again\nBen: did you restart it?\nAda: twice\n"
                "Ben: then I will call the repair service tomorrow"
            },
            "The printer is broken. Ben will call the repair service tomorrow.",
        ),
    ),
)

TASK = Task(
    name="summarization",
    version=1,
    summary="Summarise a chat dialogue in one to three sentences",
    inputs=("dialogue",),
    columns=("dialogue", "summary"),
    prompt=_prompt,
    examples=_examples,
    restore=_restore,
    scorers=(rouge(),),
    select_on="rouge_l",
    max_new_tokens=96,
    baselines=(Baseline("lead_3", _lead_3),),
    public_data=DataSize(14_731, 172, 28),
    augment={
        "case": ("dialogue",),
        "punctuation": ("dialogue",),
        "contractions": ("dialogue",),
        "emoji": ("dialogue",),
        "speaker_marks": ("dialogue", "summary"),
    },
    card=_CARD,
    prompt_variants=(
        PromptVariant("one word", _around("summarize: ", " ", "")),
        PromptVariant("in short", _around("", TURN_SEPARATOR, " What was said, in short?")),
        PromptVariant("a heading to follow", _around("Dialogue: ", TURN_SEPARATOR, " Summary:")),
    ),
)
