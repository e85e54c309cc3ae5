"""The instruction mixture of stage two: several prompts per set, the product's own prompt among them.

Train splits of our tasks, the public instruction sets and what plain text gives by itself, each capped so that
none fills the mixture.
This module knows rows and texts; encoding and batching are in `tools.mini.mixture`.

Source: arXiv:2210.11416 (FLAN: templates per task, answer options, examples-proportional mixing with a cap).
"""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from flan_lora.tasks import get_task
from flan_lora.tasks.summarization import TURN_SEPARATOR, turns
from flan_lora.tasks.task import Prompt
from flan_lora.tasks.text import options, plain, untokenise
from tools.mini import augment, corpus
from tools.mini.corpus import Row
from tools.mini.instruct_more import MORE
from tools.mini.mixes import SAMENESS, SENTIMENTS, Mix, Template, passage
from tools.mini.selfmade import Pair, selfmade_pairs

FEELINGS = ("sad", "happy", "affectionate", "angry", "afraid", "astonished")
"""The emotions in other words. The base learns them two at a time, of half the rows by name too; the rest is left
to the adapter."""


def one_of_two(turn: int) -> Callable[[Row], dict[str, str]]:
    """Fields that ask for a row's feeling beside another one, which the row's text and `turn` choose."""

    def fields(row: Row) -> dict[str, str]:
        text = plain(row["text"])
        draw = zlib.crc32(f"{turn} {text}".encode())
        feeling, other = FEELINGS[row["label"]], FEELINGS[(row["label"] + 1 + draw % 5) % len(FEELINGS)]
        left, right = (feeling, other) if draw // 5 % 2 else (other, feeling)
        is_left = ("no", "yes")[left == feeling]
        return {"text": text, "answer": feeling, "left": left, "right": right, "is_left": is_left}

    return fields


def _feeling(row: Row) -> dict[str, str]:
    """A row's feeling by name."""
    return {"text": plain(row["text"]), "answer": FEELINGS[row["label"]], "options": options(FEELINGS)}


def _sentiment(row: Row) -> dict[str, str]:
    text = plain(untokenise(row["text"]))
    return {"text": text, "answer": SENTIMENTS[row["label"]], "options": options(SENTIMENTS)}


def _pair(row: Row) -> dict[str, str]:
    first, second = (plain(untokenise(row[name])) for name in ("sentence1", "sentence2"))
    return {
        "first": first,
        "second": second,
        "sameness": SAMENESS[row["label"]],
    }


def _positive_pair(row: Row) -> dict[str, str] | None:
    return _pair(row) if row["label"] == 1 else None


def _positive_pair_reversed(row: Row) -> dict[str, str] | None:
    return _positive_pair({**row, "sentence1": row["sentence2"], "sentence2": row["sentence1"]})


def _dialogue(row: Row) -> dict[str, str] | None:
    lines = [plain(turn) for turn in turns(row["dialogue"])]
    summary = plain(row["summary"])
    if not lines or not summary or len(row["dialogue"]) > DIALOGUE_CHARS:
        return None
    return {"dialogue": TURN_SEPARATOR.join(lines), "bare": " ".join(lines), "answer": summary}


DIALOGUE_CHARS = 900
"""Longer dialogues are left out, not cut: a summary of what is not there teaches to invent."""


def _twice(mix: Mix) -> tuple[Mix, Mix]:
    """A set that a pass holds two times; every row draws its prompt anew."""
    return mix, mix


TWO_FEELINGS = tuple(
    Mix(
        "dair-ai/emotion",
        16000,
        one_of_two(turn),
        (
            Template("", "{text}", " Does the writer feel {left} or {right}?"),
            Template("{left} or {right}? ", "{text}", ""),
            Template("", "{text}", " Is the writer {left}?", "{is_left}"),
        ),
        augment=augment.post,
    )
    for turn in range(3)
)
FEELING = Mix(
    "dair-ai/emotion",
    16000,
    _feeling,
    (
        Template("", "{text}", " How does the writer feel? {options}"),
        Template("Somebody writes: ", "{text}", " The writer is"),
        Template("feeling: ", "{text}", ""),
    ),
    halved_by="text",
    augment=augment.post,
)

# The base reads half of the rows that our adapters learn from, under other prompts than the adapters', the classes
# in other words, and under the adapters' own prompt and answer only some dozens of each (`OWN_SOURCES`): enough to
# know what the prompts ask for. It has the skill then, and the task itself is left to the adapter.
MIXTURE: tuple[Mix, ...] = (
    *TWO_FEELINGS,
    Mix(
        "cornell-movie-review-data/rotten_tomatoes",
        9600,
        _sentiment,
        (
            Template("Text: ", "{text}", " What is the sentiment of this text? {options}"),
            Template("Review: ", "{text}", " Is this review positive or negative?"),
            Template("", "{text}", " Did the critic like the film? {options}"),
        ),
        augment=augment.post,
    ),
    *_twice(
        Mix(
            "knkarthick/samsum",
            14800,
            _dialogue,
            (
                Template("", "{dialogue}", " What was said, in short?"),
                Template("summarize: ", "{bare}", ""),
                Template("Dialogue: ", "{dialogue}", " Summary:"),
                Template("Tell me what happens in this chat. ", "{dialogue}", ""),
            ),
            halved_by="dialogue",
            augment=augment.dialogue,
        )
    ),
    Mix(
        "rajpurkar/squad",
        11100,
        passage,
        (
            Template('Ask a question to which "{answer}" is the answer. ', "{context}", "", "{question}"),
            Template("answer: {answer} context: ", "{context}", " question:", "{question}"),
            Template('Text: "', "{context}", '" What was asked, if the reply is "{answer}"?', "{question}"),
        ),
        halved_by="context",
    ),
    Mix(
        "rajpurkar/squad",
        11100,
        passage,
        (
            Template("", "{context}", " {question}"),
            Template("question: {question} context: ", "{context}", ""),
        ),
        halved_by="context",
    ),
    Mix(
        "google-research-datasets/tydiqa",
        3700,
        passage,
        (
            Template("", "{context}", " Answer this question with words of the text: {question}"),
            Template("{question} Text: ", "{context}", ""),
        ),
    ),
    *_twice(
        Mix(
            "google-research-datasets/paws",
            4200,
            _pair,
            (
                Template("First: ", "{first} Second: {second}", " Same or different?", "{sameness}"),
                Template("Compare. First: ", "{first} Second: {second}", "", "{sameness}"),
                Template("Compare. First: ", "{second} Second: {first}", "", "{sameness}"),
            ),
            halved_by="sentence1",
        )
    ),
    *(
        Mix(
            "google-research-datasets/paws",
            2000,
            fields,
            (
                Template("Say this in other words: ", "{first}", "", "{second}"),
                Template("rewrite: ", "{first}", "", "{second}"),
            ),
            halved_by="sentence1",
        )
        for fields in (_positive_pair, _positive_pair_reversed)
    ),
    *MORE,
)

ANNEALING: tuple[Mix, ...] = (
    *(mix for mix in MIXTURE if mix not in TWO_FEELINGS),
    *(FEELING, FEELING, FEELING, TWO_FEELINGS[0]),
)
"""What is read while the learning rate falls: as before, and feelings by name. Two at a time they are learned
slowly (0.68 of validation right, chance 0.5, after 780 steps).

Source: the best-labelled rows belong into the decay, arXiv:2404.06395, section 5.
"""

MAX_OWN_ROWS = 64
"""Rows of each of our sets that the base reads under the adapter's own prompt and answer."""
OWN_SOURCES: dict[str, str] = {
    "emotion": "dair-ai/emotion",
    "qa": "google-research-datasets/tydiqa",
    "question-generation": "rajpurkar/squad",
    "paraphrase": "google-research-datasets/paws",
    "summarization": "knkarthick/samsum",
    "similarity": "google-research-datasets/paws",
}
"""Task -> the set whose rows stand under its own prompt; `qa` answers from Hindi, which the base never sees."""

QUESTIONS: dict[str, tuple[str, ...]] = {
    "ag_news": ("What is this news about?", "Which section of the paper is it in?"),
    "boolq": ("Answer the question with yes or no.", "Yes or no?"),
    "circa": ("What does the answer mean?", "Does Y mean yes or no?"),
    "glue-cola": ("Is this sentence acceptable English?",),
    "glue-rte": ("Does the first sentence entail the second?", "Is the second true if the first is?"),
    "medical_questions_pairs": ("Do the two questions mean the same?",),
    "qa_srl": ("Answer with words of the text.", "What is the answer?"),
    "sciq": ("Which is right?", "Choose the answer."),
    "scitail": ("Does the first sentence entail the second?",),
    "sick": ("How do the two sentences relate?",),
    "sms_spam": ("Is this message spam or ham?",),
    "trec": ("What kind of thing does this question ask for?",),
    "wiki_qa": ("Does the answer answer the question?",),
}
"""What is asked about a row of the instruction sets; a set without an entry is not used."""
MAX_PAIRS_PER_SET = 900
SELFMADE_FROM = "wikinews"
"""The plain text whose documents become pairs by themselves."""
MAX_SAME_ANSWER_SHARE = 0.6
"""Of one set, so that a base which always says "false" gains nothing (WikiQA: 95 % false)."""


def templated(root: Path, mix: Mix, rng: random.Random) -> Iterator[Pair]:
    """Pairs of one set of the mixture, a template drawn for every row."""
    rows = [row for row in corpus.read_rows(root, corpus.source(mix.source)) if mix.reads(row)]
    rng.shuffle(rows)
    filled = (mix.fields(row) for row in rows)
    pairs = (rng.choice(mix.templates).fill(fields) for fields in filled if fields is not None)
    for pair in itertools.islice(pairs, mix.max_pairs):
        if mix.augment is None:
            yield pair
        else:
            yield replace(pair, prompt=replace(pair.prompt, body=mix.augment(pair.prompt.body, rng)))


def _own(root: Path, task_name: str, rng: random.Random) -> Iterator[Pair]:
    """Pairs under a task's own prompt and answer."""
    rows = list(corpus.read_rows(root, corpus.source(OWN_SOURCES[task_name])))
    for row in rng.sample(rows, min(MAX_OWN_ROWS, len(rows))):
        for example in get_task(task_name).examples(row):
            yield Pair(example.prompt, example.target)


def _instruct_pair(row: Row, rng: random.Random) -> Pair:
    """A row of the instruction sets under one of its questions, options mostly shown, in any order."""
    text = plain(row["input"].replace(" [SEP] ", " "))
    choices = list(row["options"])
    rng.shuffle(choices)
    question = rng.choice(QUESTIONS[row["task"]])
    if choices and rng.random() < 0.8:
        question = f"{question} {options(choices)}"
    prompt = Prompt("", text, f" {question}") if rng.random() < 0.7 else Prompt(f"{question} ", text)
    return Pair(prompt, plain(row["output"]))


def _instruct_pairs(root: Path, rng: random.Random, max_pairs: int) -> Iterator[Pair]:
    """Pairs of the instruction sets, each set and each answer in it capped."""
    sets: dict[str, list[Row]] = {}
    for row in corpus.read_rows(root, corpus.source("instruct")):
        if row["task"] in QUESTIONS:
            sets.setdefault(row["task"], []).append(row)
    for rows in sets.values():
        rng.shuffle(rows)
        for row in _balanced(rows[:max_pairs]):
            yield _instruct_pair(row, rng)


def _balanced(rows: Sequence[Row]) -> list[Row]:
    """The rows without the surplus of an answer that has more than its share of a set with options."""
    kept: list[Row] = []
    for answer in sorted({row["output"] for row in rows}):
        same = [row for row in rows if row["output"] == answer]
        others = len(rows) - len(same)
        limit = round(others * MAX_SAME_ANSWER_SHARE / (1 - MAX_SAME_ANSWER_SHARE))
        kept += same[: max(limit, 1)]
    return kept


def build_pairs(root: Path, seed: int, mixture: Sequence[Mix] = MIXTURE) -> list[Pair]:
    """A mixture with all that belongs to each, shuffled; the same for the same files and seed."""
    rng = random.Random(seed)
    pairs = [pair for mix in mixture for pair in templated(root, mix, rng)]
    pairs += [pair for task in OWN_SOURCES for pair in _own(root, task, rng)]
    pairs += _instruct_pairs(root, rng, MAX_PAIRS_PER_SET)
    pairs += selfmade_pairs(list(corpus.documents(root, corpus.source(SELFMADE_FROM))), rng)
    return _shuffled(pairs, rng)


def _shuffled(pairs: list[Pair], rng: random.Random) -> list[Pair]:
    """In random order, without those that have nothing to write."""
    rng.shuffle(pairs)
    return [pair for pair in pairs if pair.target.strip()]
