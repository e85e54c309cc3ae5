"""The instruction mixture of stage two: several prompts per set, the product's own prompt among them.

Train splits of our tasks, the public instruction sets and what plain text gives by itself, each capped so that
none fills the mixture.
This module knows rows and texts; encoding and batching are in `flan_lora.mini.mixture`.

Source: arXiv:2210.11416 (FLAN: templates per task, answer options, examples-proportional mixing with a cap).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flan_lora.mini import corpus
from flan_lora.mini.corpus import Row
from flan_lora.mini.selfmade import Pair, selfmade_pairs
from flan_lora.tasks import get_task
from flan_lora.tasks.summarization import TURN_SEPARATOR, turns
from flan_lora.tasks.task import Prompt
from flan_lora.tasks.text import options, plain, untokenise


@dataclass(frozen=True)
class Template:
    """A prompt around one long text; `head` and `tail` may name fields in braces."""

    head: str
    body: str
    tail: str
    target: str = "{answer}"

    def fill(self, fields: dict[str, str]) -> Pair:
        head, body, tail, target = (
            part.format(**fields) for part in (self.head, self.body, self.tail, self.target)
        )
        return Pair(Prompt(head, body, tail), target)


@dataclass(frozen=True)
class Mix:
    """One set of the mixture: rows of a source under one of our tasks' prompts, or under templates."""

    source: str
    max_pairs: int
    fields: Callable[[Row], dict[str, str] | None]
    """A row's fields for the templates, or None to leave the row out."""
    templates: tuple[Template, ...]
    task: str | None = None
    """The product task whose own prompt is mixed in, if the columns are that task's."""
    task_share: float = 0.5
    """Share of the rows that take the product's prompt."""


EMOTIONS = get_task("emotion").labels
FEELINGS = ("sad", "happy", "affectionate", "angry", "afraid", "astonished")
"""The emotions in other words: the base learns from every row under these, the labels are left to the adapter."""
SENTIMENTS = ("negative", "positive")
SAMENESS = ("different", "same")


def _emotion(row: Row) -> dict[str, str]:
    return {"text": plain(row["text"]), "answer": EMOTIONS[row["label"]], "options": options(EMOTIONS)}


def _feeling(row: Row) -> dict[str, str]:
    return {"text": plain(row["text"]), "answer": FEELINGS[row["label"]], "options": options(FEELINGS)}


def _sentiment(row: Row) -> dict[str, str]:
    text = plain(untokenise(row["text"]))
    return {"text": text, "answer": SENTIMENTS[row["label"]], "options": options(SENTIMENTS)}


def _squad(row: Row) -> dict[str, str]:
    fields = {name: plain(row[name]) for name in ("context", "question")}
    return {**fields, "answer": plain(row["answers"]["text"][0])}


def _short_answer(row: Row) -> dict[str, str] | None:
    """As `_squad`, without the answers that are whole passages, which TyDi QA has."""
    fields = _squad(row)
    return fields if len(fields["answer"]) <= 120 else None


def _pair(row: Row) -> dict[str, str]:
    first, second = (plain(untokenise(row[name])) for name in ("sentence1", "sentence2"))
    return {
        "first": first,
        "second": second,
        "answer": ("no", "yes")[row["label"]],
        "sameness": SAMENESS[row["label"]],
    }


def _positive_pair(row: Row) -> dict[str, str] | None:
    return _pair(row) if row["label"] == 1 else None


def _dialogue(row: Row) -> dict[str, str] | None:
    lines = [plain(turn) for turn in turns(row["dialogue"])]
    summary = plain(row["summary"])
    if not lines or not summary:
        return None
    return {"dialogue": TURN_SEPARATOR.join(lines), "bare": " ".join(lines), "answer": summary}


MAX_SHORT_PAIRS = {"cornell-movie-review-data/rotten_tomatoes": 9600, "dair-ai/emotion": 400}
"""Source -> pairs of its part of `MIXTURE` in stage three; 600 of any other."""

# Of the rows that our adapters learn from, the base sees a fifth at most under their answers, stages two and three
# together: enough to know what the prompts ask for, and the task itself is left to the adapter. English reading
# comprehension is taken whole: `qa` answers from Hindi contexts.
MIXTURE: tuple[Mix, ...] = (
    Mix(
        "dair-ai/emotion",
        1200,
        _emotion,
        (
            Template("", "{text}", " How does the writer feel? {options}"),
            Template("Which emotion is in this message? ", "{text}", " {options}"),
            Template("emotion: ", "{text}", ""),
        ),
        "emotion",
    ),
    Mix(
        "cornell-movie-review-data/rotten_tomatoes",
        9600,
        _sentiment,
        (
            Template("Text: ", "{text}", " What is the sentiment of this text? {options}"),
            Template("Review: ", "{text}", " Is this review positive or negative?"),
            Template("", "{text}", " Did the critic like the film? {options}"),
            Template("Write a {answer} film review.", "", "", "{text}"),
        ),
    ),
    Mix(
        "rajpurkar/squad",
        11000,
        _squad,
        (
            Template("", "{context}", " {question}"),
            Template("question: {question} context: ", "{context}", ""),
        ),
        "qa",
    ),
    Mix(
        "google-research-datasets/tydiqa",
        1800,
        _short_answer,
        (
            Template("", "{context}", " Answer this question with words of the text: {question}"),
            Template("{question} Text: ", "{context}", ""),
        ),
        "qa",
    ),
    Mix(
        "rajpurkar/squad",
        1000,
        _squad,
        (
            Template('Ask a question to which "{answer}" is the answer. ', "{context}", "", "{question}"),
            Template("answer: {answer} context: ", "{context}", " question:", "{question}"),
        ),
        "question-generation",
    ),
    Mix(
        "google-research-datasets/paws",
        400,
        _pair,
        (
            Template("", "{first} {second}", " Do both say the same? " + options(("no", "yes"))),
            Template("Is the second a paraphrase of the first? 1: ", "{first} 2: {second}", ""),
        ),
        "similarity",
    ),
    Mix(
        "google-research-datasets/paws",
        200,
        _positive_pair,
        (
            Template("Say this in other words: ", "{first}", "", "{second}"),
            Template("paraphrase: ", "{second}", "", "{first}"),
        ),
        "paraphrase",
    ),
    Mix(
        "knkarthick/samsum",
        1200,
        _dialogue,
        (
            Template("", "{dialogue}", " What was said, in short?"),
            Template("summarize: ", "{bare}", ""),
            Template("Dialogue: ", "{dialogue}", " Summary:"),
        ),
        "summarization",
        0.6,
    ),
)

FEELING_MIX = Mix(
    "dair-ai/emotion",
    16000,
    _feeling,
    (
        Template("", "{text}", " How does the writer feel? {options}"),
        Template("Somebody writes: ", "{text}", " The writer is"),
        Template("feeling: ", "{text}", ""),
    ),
)
"""The emotion rows in other words than the adapter's labels."""

SHORT_MIXTURE: tuple[Mix, ...] = (
    FEELING_MIX,
    FEELING_MIX,
    Mix(
        "google-research-datasets/paws",
        4200,
        _pair,
        (
            Template("First: ", "{first} Second: {second}", " Same or different?", "{sameness}"),
            Template("Compare. First: ", "{first} Second: {second}", "", "{sameness}"),
        ),
    ),
    *(replace(mix, max_pairs=min(mix.max_pairs, MAX_SHORT_PAIRS.get(mix.source, 600))) for mix in MIXTURE),
)
"""Stage three: short texts with their classes, the rest of the mixture beside them.

After the first two stages the mean state of a text hardly tells its emotion (0.43 by a linear probe, majority
0.34): 16 million tokens of text do not teach what words mean, labelled rows do.
"""

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
MAX_PAIRS_PER_SET = 2500
MAX_SHORT_PAIRS_PER_SET = 700
SELFMADE_FROM = "wikinews"
"""The plain text whose documents become pairs by themselves."""
MAX_SAME_ANSWER_SHARE = 0.6
"""Of one set, so that a base which always says "false" gains nothing (WikiQA: 95 % false)."""


def _own_pairs(root: Path, mix: Mix, rng: random.Random) -> Iterator[Pair]:
    """Pairs of one of the six tasks' sets, or of its neighbours."""
    rows = list(corpus.read_rows(root, corpus.source(mix.source)))
    rng.shuffle(rows)
    task = get_task(mix.task) if mix.task else None
    num_pairs = 0
    for row in rows:
        fields = mix.fields(row)
        if fields is None:
            continue
        if task is not None and rng.random() < mix.task_share:
            pairs = [Pair(example.prompt, example.target) for example in task.examples(row)]
        else:
            pairs = [rng.choice(mix.templates).fill(fields)]
        yield from pairs
        num_pairs += len(pairs)
        if num_pairs >= mix.max_pairs:
            return


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


def build_pairs(root: Path, seed: int) -> list[Pair]:
    """The mixture of stage two, shuffled; the same for the same files and seed."""
    rng = random.Random(seed)
    pairs = [pair for mix in MIXTURE for pair in _own_pairs(root, mix, rng)]
    pairs += _instruct_pairs(root, rng, MAX_PAIRS_PER_SET)
    pairs += selfmade_pairs(list(corpus.documents(root, corpus.source(SELFMADE_FROM))), rng)
    return _shuffled(pairs, rng)


def build_short_pairs(root: Path, seed: int) -> list[Pair]:
    """The mixture of stage three, shuffled; the same for the same files and seed."""
    rng = random.Random(seed + 1)
    pairs = [pair for mix in SHORT_MIXTURE for pair in _own_pairs(root, mix, rng)]
    return _shuffled([*pairs, *_instruct_pairs(root, rng, MAX_SHORT_PAIRS_PER_SET)], rng)


def _shuffled(pairs: list[Pair], rng: random.Random) -> list[Pair]:
    """In random order, without those that have nothing to write."""
    rng.shuffle(pairs)
    return [pair for pair in pairs if pair.target.strip()]
