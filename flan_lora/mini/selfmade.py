"""Instruction pairs that plain text gives by itself: leads, clozes, compared sentences, moved phrases.

They teach what our tasks need (summing up, finding an answer, comparing two sentences, saying one in another
order) under questions and answers of their own. So the frozen base gains the skill, and the adapter still has
the task to learn. This module knows texts; never a row of a labelled set, a token or a tensor.

Source: lead sentences after arXiv:1912.08777 (PEGASUS), clozes as questions after arXiv:1906.04980.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from flan_lora.mini.rearrange import NAME, exchanged, moved, reworded
from flan_lora.tasks.baselines import sentences
from flan_lora.tasks.task import Prompt
from flan_lora.tasks.text import options, plain


@dataclass(frozen=True, slots=True)
class Pair:
    """What the base reads and what it shall write."""

    prompt: Prompt
    target: str


MAX_CHARS = 900
"""Of the text in a prompt, about 220 tokens."""
MAX_DOCUMENT_CHARS = 2000
"""Of a document; what stands behind is not read."""
_CHANGED = (
    ("Say whether the statement was changed.", ("kept", "changed")),
    ("Is it one statement or two?", ("one", "two")),
    ("Do they agree?", ("agree", "disagree")),
)
"""What is asked about two sentences, and its answers for the same statement and for another one."""


def lead(document: str, rng: random.Random) -> Pair | None:
    """News: the first sentence, asked for from the rest of the article."""
    first = (sentences(document) or [""])[0]
    rest = _within(document[len(first) :].strip())
    if not 40 <= len(first) <= 220 or len(rest) < 250:
        return None
    head, tail = rng.choice(
        (
            ("Here is a news text: ", " Write a short summary of this text."),
            ("summarize: ", ""),
            ("", " What is this about, in one sentence?"),
            ("Write the opening of this article. ", ""),
        )
    )
    return Pair(Prompt(head, rest, tail), first)


def cloze(document: str, rng: random.Random) -> Pair | None:
    """A sentence of the text with a name blanked out that stands elsewhere in the text too."""
    parts = sentences(_within(document))
    for sentence in rng.sample(parts, len(parts)):
        rest = " ".join(part for part in parts if part is not sentence)
        names = [name for name in NAME.findall(sentence) if len(name) > 1 and _stands_in(name, rest)]
        if names and 30 <= len(sentence) <= 250 and len(rest) > 150:
            name = rng.choice(names)
            question = re.sub(
                rf"(?<!\w){re.escape(name)}(?!\w)", rng.choice(("what", "___", "who or what")), sentence
            )
            head, tail = rng.choice(
                (
                    ("Read this and fill the gap. Context: ", f" Sentence: {question}"),
                    ("", f" Which words of the text complete this: {question}"),
                    (f"gap: {question} context: ", ""),
                )
            )
            return Pair(Prompt(head, rest, tail), name)
    return None


def ask_for_name(document: str, rng: random.Random) -> Pair | None:
    """The first sentence in which a given name stands: what marks an answer in a passage."""
    parts = sentences(_within(document))
    named = [(name, part) for part in parts for name in NAME.findall(part) if 30 <= len(part) <= 220]
    if len(parts) < 3 or not named:
        return None
    name, _ = rng.choice(named)
    first = next(part for part in parts if _stands_in(name, part))
    head = rng.choice((f'Which sentence is about "{name}"? ', f"Find {name}: "))
    return Pair(Prompt(head, " ".join(parts)), first)


def compared(document: str, rng: random.Random) -> Pair | None:
    """Two sentences of nearly the same words: the same statement, or one with two words exchanged as well."""
    is_same = rng.random() < 0.5
    for sentence in _movable_first(_short_sentences(document, rng), rng):
        restated = moved(sentence, rng) or sentence
        other = restated if is_same else exchanged(restated, rng)
        if other is None:
            continue
        other = reworded(other, rng, rng.choice((0, 0, 1, 1, 2, 3)) + is_same)
        if other == sentence:
            continue  # so that every pair differs somewhere
        first, second = rng.sample((sentence, other), 2)
        question, answers = rng.choice(_CHANGED)
        shown = f" {options(answers)}" if rng.random() < 0.5 else ""
        one, two = rng.choice((("First: ", " Second: "), ("Sentence 1: ", " Sentence 2: ")))
        head, tail = rng.choice(((one, f" {question}{shown}"), (f"{question}{shown} {one}", "")))
        return Pair(Prompt(head, f"{first}{two}{second}", tail), answers[not is_same])
    return None


def _movable_first(candidates: list[str], rng: random.Random) -> list[str]:
    """The sentences whose parts can be moved before the others, in half of the cases."""
    return sorted(candidates, key=lambda s: moved(s, rng) is None) if rng.random() < 0.5 else candidates


def reordered(document: str, rng: random.Random) -> Pair | None:
    """A sentence with its leading phrase moved to the end, or the other way round, or equals exchanged."""
    for sentence in _short_sentences(document, rng):
        other = moved(sentence, rng)
        if other is not None:
            source, target = rng.sample((sentence, other), 2)
            head = rng.choice(("Say this in another order: ", "Move the parts of this sentence: ", "reorder: "))
            return Pair(Prompt(head, source), target)
    return None


def _short_sentences(document: str, rng: random.Random) -> list[str]:
    """A document's sentences of 40 to 160 characters, in random order."""
    parts = [part for part in sentences(document) if 40 <= len(part) <= 160]
    return rng.sample(parts, len(parts))


def _stands_in(name: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def _within(text: str) -> str:
    """At most MAX_CHARS of a text, whole words."""
    return text if len(text) <= MAX_CHARS else text[:MAX_CHARS].rpartition(" ")[0]


MAKERS: dict[str, tuple[Callable[[str, random.Random], Pair | None], int]] = {
    "lead": (lead, 1500),
    "cloze": (cloze, 2500),
    "ask_for_name": (ask_for_name, 1200),
    "compared": (compared, 16000),
    "reordered": (reordered, 4000),
}
"""Name -> maker and the most pairs of it in the mixture."""


def selfmade_pairs(documents: Sequence[str], rng: random.Random) -> Iterator[Pair]:
    """Pairs of every kind, each kind from the documents in an order of its own."""
    texts = [plain(document[:MAX_DOCUMENT_CHARS]) for document in documents]
    for make, max_pairs in MAKERS.values():
        made = 0
        for text in rng.sample(texts, len(texts)):
            pair = make(text, rng)
            if pair is not None and made < max_pairs:
                made += 1
                yield pair
            if made == max_pairs:
                break
