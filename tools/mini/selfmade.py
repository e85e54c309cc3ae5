"""Instruction pairs that plain text gives by itself: leads, clozes, exchanged names, moved phrases.

They teach what our tasks need (summing up, finding an answer, comparing two sentences, saying one in another
order) under questions and answers of their own. So the frozen base gains the skill, and the adapter still has
the task to learn. This module knows texts; never a row of a labelled set, a token or a tensor.

Source: lead sentences after arXiv:1912.08777 (PEGASUS), clozes as questions after arXiv:1906.04980; the exchanged
names are PAWS' own way of making pairs (arXiv:1904.01130, section 3.1).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

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
_NAME = re.compile(r"(?<=[a-z,;] )(?:[A-Z][\w'-]+(?: [A-Z][\w'-]+)*|\d[\d,.]*\d|\d)(?=[ ,.;])")
"""A name or a number inside a sentence; its first word is capitalised anyway and does not count."""
_BOTH = re.compile(r"(?<=[a-z] )([A-Z][\w'-]+) (and|or) ([A-Z][\w'-]+)(?=[,.;]| [a-z])")
"""Two names of one word each, on equal terms."""
_LEADING = re.compile(
    r"^((?:In|On|At|After|Before|During|Since|By|For|With|From) [^,;]{3,40}), ([^;:]{20,})([.!])$"
)
_EXCHANGE = options(("kept", "exchanged"))


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
        names = [name for name in _NAME.findall(sentence) if len(name) > 1 and _stands_in(name, rest)]
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
    named = [(name, part) for part in parts for name in _NAME.findall(part) if 30 <= len(part) <= 220]
    if len(parts) < 3 or not named:
        return None
    name, _ = rng.choice(named)
    first = next(part for part in parts if _stands_in(name, part))
    head = rng.choice((f'Which sentence is about "{name}"? ', f"Find {name}: "))
    return Pair(Prompt(head, " ".join(parts)), first)


def exchanged(document: str, rng: random.Random) -> Pair | None:
    """Two sentences of the same words: two names changed places in one, or only the order of its parts differs."""
    is_kept = rng.random() < 0.5
    for sentence in _short_sentences(document, rng):
        names = list(dict.fromkeys(_NAME.findall(sentence)))
        if len(names) < 2:
            continue  # also where nothing is exchanged, so that a pair's looks do not give the answer away
        other = (_moved(sentence, rng) or sentence) if is_kept else _swap(sentence, *rng.sample(names, 2))
        first, second = rng.sample((sentence, other), 2)
        head, tail = rng.choice(
            (("First: ", f" Were words exchanged that matter? {_EXCHANGE}"), ("Compare. First: ", f" {_EXCHANGE}"))
        )
        return Pair(Prompt(head, f"{first} Second: {second}", tail), "kept" if is_kept else "exchanged")
    return None


def reordered(document: str, rng: random.Random) -> Pair | None:
    """A sentence with its leading phrase moved to the end, or the other way round, or equals exchanged."""
    for sentence in _short_sentences(document, rng):
        other = _moved(sentence, rng)
        if other is not None:
            source, target = rng.sample((sentence, other), 2)
            head = rng.choice(("Say this in another order: ", "Move the parts of this sentence: ", "reorder: "))
            return Pair(Prompt(head, source), target)
    return None


def _moved(sentence: str, rng: random.Random) -> str | None:
    """The same statement in another order, where a pattern allows it."""
    leading = _LEADING.match(sentence)
    if leading and rng.random() < 0.7:
        phrase, rest, end = leading.groups()
        phrase = phrase[0].lower() + phrase[1:]
        return f"{rest[0].upper()}{rest[1:]} {phrase}{end}"
    both = _BOTH.search(sentence)
    if both:
        first, word, second = both.groups()
        return f"{sentence[: both.start()]}{second} {word} {first}{sentence[both.end() :]}"
    return None


def _swap(sentence: str, first: str, second: str) -> str:
    """Every standing of two names exchanged."""
    either = re.compile(rf"(?<!\w)(?:{re.escape(first)}|{re.escape(second)})(?!\w)")
    return either.sub(lambda match: second if match.group() == first else first, sentence)


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
    "exchanged": (exchanged, 9000),
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
