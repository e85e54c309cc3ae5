"""The foreign sets: what each is, whose it is, and its rows as examples of a task.

No adapter and no base read any of them: `tools/mini/corpus.py` lists what the base reads, a test compares. Some
are our own test rows in spellings that no training applies. Which of a set's rows are asked is a seeded sample.
"""

from __future__ import annotations

import html
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from flan_lora.data.file_formats import read_rows
from flan_lora.data.mixing import sample
from flan_lora.errors import DataError
from flan_lora.samples import SAMPLES_PATH
from flan_lora.tasks import get_task
from flan_lora.tasks.baselines import sentences
from flan_lora.tasks.task import Example
from tools.foreign.packages import BIG_BENCH, VADER, read_member
from tools.foreign.pairs import make_pairs
from tools.foreign.spoilt import long_vowels, typos

Rows = list[dict[str, Any]]
SURE = 1.0
"""Mean ratings (-4 to 4) beyond it are positive or negative; what is nearer to 0 is not asked."""
_TASKS = "bigbench-1.0.0/bigbench/benchmark_tasks"


@dataclass(frozen=True)
class Places:
    """Where the rows lie."""

    data: Path
    """Local data root (MLQA; and what must not be in a set)."""
    packages: Path
    """Folder of the source packages."""


@dataclass(frozen=True)
class ForeignSet:
    """Rows of one kind for one task."""

    name: str
    task: str
    about: str
    """For the table: what it is and from where."""
    licence: str
    examples: Callable[[Places], list[Example]]
    headlines: tuple[str, ...]
    """Scores worth a line in the table, of the task or of the measure."""
    kind: Literal["others", "spoilt", "made"] = "others"
    """Rows of other people's sets; our test rows in other spellings; or the bundled rows."""
    as_sentiment: bool = False
    """An emotion set whose rows are only positive or negative: labels are mapped (`Task.out_of_domain`)."""


def examples_of(one: ForeignSet, places: Places, num_rows: int, seed: int = 0) -> list[Example]:
    """A seeded sample of the set's rows, keys of its own."""
    drawn = sample(one.examples(places), num_rows, seed)
    return [replace(example, key=f"{one.name}-{number}") for number, example in enumerate(drawn)]


# Feelings


def _rated(places: Places, member: str) -> Iterator[tuple[str, str]]:
    """(text, sentiment) of VADER's rated texts, where the raters are sure."""
    folder = f"vaderSentiment-{VADER.version}/additional_resources/hutto_ICWSM_2014.tar.gz"
    text = read_member(places.packages, VADER, folder, f"hutto_ICWSM_2014/{member}_GroundTruth.txt")
    for line in text.splitlines():
        _, value, words = line.split("\t", 2)
        if abs(float(value)) >= SURE:
            yield html.unescape(words), "positive" if float(value) > 0 else "negative"


def _sentiments(rows: Sequence[tuple[str, str]]) -> list[Example]:
    """Examples of the emotion task whose reference is a sentiment."""
    task = get_task("emotion")
    return [
        Example(str(number), task.prompt({"text": text}), label, (label,), {"text": text})
        for number, (text, label) in enumerate(rows)
    ]


def _tweets(places: Places) -> list[Example]:
    return _sentiments(list(_rated(places, "tweets")))


def _letters(text: str) -> str:
    return re.sub(r"[^a-z]", "", html.unescape(text).lower())


def _film_reviews(places: Places) -> list[Example]:
    """Those that the base did not read: neither their beginning nor their end is one of its training rows."""
    path = places.data / "cornell-movie-review-data__rotten_tomatoes" / "default" / "train.jsonl"
    read = [_letters(row["text"]) for row in read_rows(path)]
    known = {part for text in read for part in (text[:30], text[-30:])}
    rows = _rated(places, "movieReviewSnippets")
    return _sentiments([row for row in rows if not {_letters(row[0])[:30], _letters(row[0])[-30:]} & known])


def _spoilt(
    task: str, path: str, column: str, way: Callable[[str, random.Random], str]
) -> Callable[[Places], list[Example]]:
    """Our own test rows in a spelling that no training applies."""

    def examples(places: Places) -> list[Example]:
        rows = read_rows(places.data / f"{path}.jsonl")
        spoilt = [{**row, column: way(row[column], random.Random(place))} for place, row in enumerate(rows)]
        return [example for row in spoilt for example in get_task(task).examples(row)]

    return examples


# Bundled rows, written for this project


def _bundled(task: str, path: str) -> Callable[[Places], list[Example]]:
    return lambda _: [
        example for row in read_rows(SAMPLES_PATH / f"{path}.jsonl") for example in get_task(task).examples(row)
    ]


# Sentences and articles


def _big_bench(places: Places, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(read_member(places.packages, BIG_BENCH, f"{_TASKS}/{name}/task.json"))[
        "examples"
    ]
    return rows


def _news(places: Places) -> list[Example]:
    """Articles as lines, so that the first lines are the turns."""
    task, rows = get_task("summarization"), _big_bench(places, "gem/xsum")
    return [
        example
        for row in rows
        if row["input"].count("\n") >= 3 and len(row["input"]) < 3000
        for example in task.examples({"dialogue": row["input"], "summary": row["target"]})
    ]


def _rewrites(places: Places) -> list[Example]:
    """Each sentence once, all of its rewrites as references."""
    task = get_task("paraphrase")
    found = []
    for row in _big_bench(places, "gem/asset"):
        targets = tuple(dict.fromkeys(row["target"]))
        first = task.examples({"sentence1": row["input"], "sentence2": targets[0], "label": "yes"})[0]
        found.append(replace(first, references=targets))
    return found


def _pairs(places: Places) -> list[Example]:
    task = get_task("similarity")
    rows = make_pairs([row["target"] for row in _big_bench(places, "gem/asset")], num_pairs=300)
    return [example for row in rows for example in task.examples(row)]


# Questions


def _mlqa(places: Places, config: str) -> Rows:
    rows: Rows = list(read_rows(places.data / "facebook__mlqa" / config / "validation.jsonl"))
    return rows


def _english_questions(places: Places) -> list[Example]:
    """MLQA's English articles, for an adapter that read none of it."""
    task = get_task("question-generation")
    return [example for row in _mlqa(places, "mlqa.en.en") for example in task.examples(row)]


def _unread_articles(places: Places) -> list[Example]:
    """MLQA's English articles without those that the `qa` adapter learns from."""
    from flan_lora.data.sources import DataSource
    from flan_lora.data.splits import load_split
    from flan_lora.recipe_file import load_recipe

    train = load_split(load_recipe("qa", ["base.model=mini"]), "train", DataSource("local", places.data))
    read = {example.inputs["context"] for example in train.examples}
    rows = [row for row in _mlqa(places, "mlqa.en.en") if row["context"] not in read]
    return [example for row in rows for example in get_task("qa").examples(row)]


def _hindi_questions(places: Places) -> list[Example]:
    """Hindi passages with Hindi questions, without the passages of MLQA's validation rows, which we train on."""
    known = {_start(row["context"]) for config in ("mlqa.hi.en", "mlqa.hi.hi") for row in _mlqa(places, config)}
    found = []
    for row in _big_bench(places, "hindi_question_answering"):
        question = sentences(row["input"])[-1]
        context = row["input"].rstrip().removesuffix(question).strip()
        answers = row["target"] if isinstance(row["target"], list) else [row["target"]]
        fits = question.endswith("?") and len(question) < 250 and 100 < len(context) < 1500
        if fits and answers[0] in context and _start(context) not in known:
            found += get_task("qa").examples({"context": context, "question": question, "answers": answers})
    return found


def _start(text: str) -> str:
    return re.sub(r"\W+", "", text)[:60]


_OURS = "written for this project"
SETS: tuple[ForeignSet, ...] = (
    ForeignSet(
        "tweets",
        "emotion",
        "tweets, positive or negative (vaderSentiment 2.5)",
        "MIT",
        _tweets,
        ("accuracy",),
        as_sentiment=True,
    ),
    ForeignSet(
        "film reviews",
        "emotion",
        "sentences of film reviews that `mini` did not read (vaderSentiment 2.5)",
        "MIT; texts are their writers'",
        _film_reviews,
        ("accuracy",),
        as_sentiment=True,
    ),
    ForeignSet(
        "typos",
        "emotion",
        "test rows, a letter lost or moved in a sixth of the words",
        "education and research",
        _spoilt("emotion", "dair-ai__emotion/split/test", "text", typos),
        ("accuracy", "macro_f1"),
        kind="spoilt",
    ),
    ForeignSet(
        "long vowels",
        "emotion",
        "test rows, vowels that go on (sooo) in a sixth of the words",
        "education and research",
        _spoilt("emotion", "dair-ai__emotion/split/test", "text", long_vowels),
        ("accuracy", "macro_f1"),
        kind="spoilt",
    ),
    ForeignSet(
        "made emotions",
        "emotion",
        "bundled rows, six labels",
        _OURS,
        _bundled("emotion", "dair-ai__emotion/split/test"),
        ("accuracy", "macro_f1"),
        kind="made",
    ),
    ForeignSet(
        "made chats",
        "summarization",
        "bundled chats",
        _OURS,
        _bundled("summarization", "knkarthick__samsum/default/test"),
        ("rouge_l", "rouge_1"),
        kind="made",
    ),
    ForeignSet(
        "chats with typos",
        "summarization",
        "test rows, a letter lost or moved in a sixth of the words",
        "CC BY-NC-ND 4.0",
        _spoilt("summarization", "knkarthick__samsum/default/test", "dialogue", typos),
        ("rouge_l", "rouge_1"),
        kind="spoilt",
    ),
    ForeignSet(
        "news articles",
        "summarization",
        "BBC articles, one sentence each (XSum in bigbench 1.0.0)",
        "texts are the BBC's",
        _news,
        ("rouge_l", "rouge_1"),
    ),
    ForeignSet(
        "rewrites",
        "paraphrase",
        "Wikipedia sentences, ten people's rewrites (ASSET in bigbench 1.0.0)",
        "CC BY-NC 4.0",
        _rewrites,
        ("ibleu", "copy_share"),
    ),
    ForeignSet(
        "pairs of rewrites",
        "similarity",
        "two rewrites, or one with another name, number or sentence (made from ASSET)",
        "CC BY-NC 4.0",
        _pairs,
        ("auc", "accuracy"),
    ),
    ForeignSet(
        "made pairs",
        "similarity",
        "bundled pairs",
        _OURS,
        _bundled("similarity", "google-research-datasets__paws/labeled_final/test"),
        ("auc", "accuracy"),
        kind="made",
    ),
    ForeignSet(
        "English questions",
        "qa",
        "English Wikipedia, articles that the adapter did not read (MLQA en.en)",
        "CC BY-SA 3.0",
        _unread_articles,
        ("f1", "exact_match"),
    ),
    ForeignSet(
        "Hindi questions",
        "qa",
        "Hindi passages and questions (bigbench 1.0.0), none of MLQA's validation rows",
        "CC BY-SA",
        _hindi_questions,
        ("f1", "exact_match"),
    ),
    ForeignSet(
        "English passages",
        "question-generation",
        "English Wikipedia (MLQA en.en)",
        "CC BY-SA 3.0",
        _english_questions,
        ("rouge_l", "bleu"),
    ),
)


def chosen(names: Sequence[str]) -> tuple[ForeignSet, ...]:
    """The sets of these names, all without names. Raises DataError for an unknown one."""
    known = {one.name: one for one in SETS}
    if unknown := [name for name in names if name not in known]:
        raise DataError(f"no foreign set is called {', '.join(unknown)}.\n  known  {', '.join(known)}")
    return tuple(known[name] for name in names) if names else SETS
