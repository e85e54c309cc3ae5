"""The emotion of a short text, one of six (dair-ai/emotion)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from flan_lora.tasks.baselines import majority
from flan_lora.tasks.scorers import classification
from flan_lora.tasks.sentiment import FILM_REVIEWS
from flan_lora.tasks.task import (
    Baseline,
    CardExample,
    CardInfo,
    DataSize,
    Example,
    Inputs,
    OutOfDomain,
    Prompt,
    PromptVariant,
    Row,
    Task,
)
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


def _around(head: str, tail: str) -> Callable[[Inputs], Prompt]:
    """The text between two others, in the bare words of the task's own prompt."""
    return lambda inputs: Prompt(head, bare_words(inputs["text"]), tail)


_FEELINGS = dict(zip(LABELS, ("sad", "happy", "affectionate", "angry", "afraid", "astonished"), strict=True))
_EVERYDAY = dict(zip(LABELS, ("sad", "happy", "loving", "angry", "scared", "surprised"), strict=True))
_PROMPT_VARIANTS = (
    PromptVariant(
        "feelings as adjectives",
        _around("", f" How does the writer feel? {options(tuple(_FEELINGS.values()))}"),
        _FEELINGS,
    ),
    PromptVariant(
        "one of six feelings",
        _around("", " Does the writer feel sad, happy, affectionate, angry, afraid or astonished?"),
        _FEELINGS,
    ),
    PromptVariant("a sentence to finish", _around("Somebody writes: ", " The writer is"), _FEELINGS),
    PromptVariant(
        "everyday adjectives",
        _around("", f" The person who wrote this is {options(tuple(_EVERYDAY.values()))}"),
        _EVERYDAY,
    ),
    PromptVariant(
        "the question first",
        _around(f"Which of these emotions does the text show? {options(LABELS)} Text: ", ""),
    ),
)

_CARD = CardInfo(
    pipeline_tag="text-classification",
    limits="It knows six labels and always names one of them, also where none fits or several do. "
    "Do not judge persons by it.",
    sample_inputs={"text": "i feel so happy today"},
    examples=(
        CardExample({"text": "i miss her every day and the house feels empty"}, "sadness"),
        CardExample({"text": "i feel so happy that the whole family came to visit"}, "joy"),
        CardExample({"text": "i feel tender and caring when i hold my little daughter"}, "love"),
        CardExample({"text": "i cannot believe that he lied to me again i am furious"}, "anger"),
        CardExample({"text": "i keep thinking about the exam tomorrow and my hands shake"}, "fear"),
        CardExample({"text": "i was amazed and did not expect to find the old letter there"}, "surprise"),
    ),
)

_FILM_REVIEWS = OutOfDomain(
    name="film-reviews",
    title="Out of domain: film reviews, positive or negative",
    about="Film reviews are positive or negative. An emotion stands for a sentiment: joy and love for positive; "
    "sadness, anger and fear for negative; surprise for neither. Probabilities are summed accordingly.",
    task=FILM_REVIEWS,
    dataset="cornell-movie-review-data/rotten_tomatoes",
    seen_by_mini=("train",),
    label_map={
        "joy": "positive",
        "love": "positive",
        "sadness": "negative",
        "anger": "negative",
        "fear": "negative",
    },
)

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
    public_data=DataSize(16_000, 59, 2),
    # the prompt leaves out case and punctuation itself (`bare_words`)
    augment={"contractions": ("text",), "emoji": ("text",)},
    card=_CARD,
    prompt_variants=_PROMPT_VARIANTS,
    out_of_domain=(_FILM_REVIEWS,),
)
