"""Which of six emotions a short text expresses (dair-ai/emotion). Knows texts and labels; never a tokenizer."""

from __future__ import annotations

import re
import unicodedata

from flan_lora.tasks.baselines import majority
from flan_lora.tasks.scorers import classification
from flan_lora.tasks.task import Baseline, Example, Inputs, Prompt, Row, Task
from flan_lora.tasks.text import label_field, options, plain, row_key, text_field

LABELS = ("sadness", "joy", "love", "anger", "fear", "surprise")
"""In the order of the data set's indices 0..5."""

_LINK = re.compile(r"(?:https?://|www\.)\S+")
_MENTION = re.compile(r"(?<!\w)@\w+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_HASHTAG = re.compile(r"#(\w+)")
_EMOTICON = re.compile(r"(?<!\w)(?:([:;=]'?-?[)D\]])|([:;=]'?-?[(\[/]))|<3+")
_APOSTROPHE = re.compile("['\u2019`]")


def bare_words(text: str) -> str:
    """A text as the data set writes it: lower-case words and nothing else (``I'm so HAPPY!!`` -> ``im so happy``).

    Tweets and chats become like the rows an adapter learns from: links and mentions go, hashtags are words, emoji
    and emoticons are named. A text without a letter or digit stays as it is. Idempotent; no row of the set is
    changed.
    """
    words = _MENTION.sub(" ", _LINK.sub(" ", text))
    words = _HASHTAG.sub(lambda tag: f" {_HUMP.sub(' ', tag[1])} ", words)
    words = _EMOTICON.sub(_named_emoticon, words)
    words = "".join(map(_letter_or_digit, _APOSTROPHE.sub("", words)))
    return plain(words.lower()) or plain(text)


def _named_emoticon(match: re.Match[str]) -> str:
    return " happy face " if match[1] else " sad face " if match[2] else " love heart "


def _letter_or_digit(character: str) -> str:
    """A letter or digit of any script as it is, an emoji by its name (``grinning face``), else a space."""
    category = unicodedata.category(character)
    if category == "So" and ord(character) >= 0x2600:
        return f" {unicodedata.name(character, '')} ".replace("-", " ")
    is_selector = "\ufe00" <= character <= "\ufe0f"
    return character if category[0] in "LMN" and not is_selector else " "


def _prompt(inputs: Inputs) -> Prompt:
    """FLAN's sentiment template with this task's classes."""
    question = f" What is the emotion expressed in this text? {options(LABELS)}"
    return Prompt("Text: ", bare_words(inputs["text"]), question)


def _examples(row: Row) -> list[Example]:
    """One example per row."""
    inputs = {"text": text_field(row, "text", "emotion")}
    label = label_field(row, "label", "emotion", LABELS)
    return [Example(row_key(row), _prompt(inputs), label, (label,), inputs)]


TASK = Task(
    name="emotion",
    version=2,
    summary="Name the emotion of a short text: sadness, joy, love, anger, fear or surprise",
    inputs=("text",),
    columns=("text", "label"),
    prompt=_prompt,
    examples=_examples,
    parse=lambda output: output.strip().lower(),
    scorers=(classification(LABELS),),
    select_on="macro_f1",
    max_new_tokens=8,
    labels=LABELS,
    baselines=(Baseline("majority", majority),),
)
