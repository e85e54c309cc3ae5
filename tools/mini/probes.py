"""What the panel asks a base: short questions to text that no stage reads, and our tasks' validation rows.

A probe is a source and the text that should follow; whoever measures decides how (`panel`). Gaps and
continuations are marked with T5's first sentinel, so a base that has only read plain text understands them.
This module knows texts and rows; never a token or a tensor.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from flan_lora.tasks import get_task
from flan_lora.tasks.baselines import sentences
from flan_lora.tasks.task import Example, Prompt
from tools.mini import corpus

GAP = "<extra_id_0>"
PASSAGE_CHARS = 800
PASSAGES_PER_KIND = 16
GAPS_PER_PROBE = 64
ROWS_PER_TASK = 32
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][\w'-]{2,}(?=[ ,.;])")
"""A word inside a sentence that begins with a capital."""

TASK_FILES: dict[str, tuple[str, str]] = {
    "emotion": ("emotion", "dair-ai__emotion/split/validation.jsonl"),
    "summarization": ("summarization", "knkarthick__samsum/default/validation.jsonl"),
    "question-generation": ("question-generation", "rajpurkar__squad/plain_text/validation.jsonl"),
    "paraphrase": ("paraphrase", "google-research-datasets__paws/labeled_final/validation.jsonl"),
    "similarity": ("similarity", "google-research-datasets__paws/labeled_final/validation.jsonl"),
    "qa hindi": ("qa", "facebook__mlqa/mlqa.hi.en/validation.jsonl"),
    "qa english": ("qa", "facebook__mlqa/mlqa.en.en/validation.jsonl"),
}
"""Name in the panel -> task, and the rows that it is asked about."""


@dataclass(frozen=True)
class Probe:
    """A source and what should be written: behind a sentinel where `is_gap`, as an answer where not."""

    prompt: Prompt
    target: str
    is_gap: bool = True


def load_passages(root: Path, cache: Path) -> dict[str, list[str]]:
    """Kind -> passages of text that no stage reads; kept in ``cache``, as finding them reads every source."""
    if not cache.exists():
        found = {kind: passages(root, kind) for kind in (*corpus.HELD_OUT, *corpus.UNREAD)}
        partial = cache.with_suffix(".partial")
        partial.write_text(json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")
        partial.replace(cache)
    kept: dict[str, list[str]] = json.loads(cache.read_text(encoding="utf-8"))
    return kept


def passages(root: Path, kind: str, count: int = PASSAGES_PER_KIND) -> list[str]:
    """Pieces of held-out text of one kind, about `PASSAGE_CHARS` long, spread evenly over what there is."""
    if kind in corpus.UNREAD:
        documents: Iterator[str] = corpus.documents(root, corpus.UNREAD[kind], held_out=None)
        text = " ".join(islice(documents, 4 * count))
    else:
        parts = [
            " ".join(corpus.documents(root, corpus.source(name), held_out=True)) for name in corpus.HELD_OUT[kind]
        ]
        text = " ".join(part[: 4 * count * PASSAGE_CHARS] for part in parts)
    stride = max(PASSAGE_CHARS, len(text) // count)
    starts = range(0, len(text) - PASSAGE_CHARS + 1, stride)
    return [text[start : start + PASSAGE_CHARS].partition(" ")[2].rpartition(" ")[0] for start in starts][:count]


def continuations(texts: Sequence[str]) -> list[Probe]:
    """The last quarter of every passage, asked for from the rest."""
    probes = []
    for text in texts:
        prefix, _, suffix = text[3 * len(text) // 4 :].partition(" ")
        probes.append(Probe(Prompt("", text[: 3 * len(text) // 4] + prefix, f" {GAP}"), suffix))
    return probes


def last_words(texts: Sequence[str]) -> list[Probe]:
    """The last word of a passage that ends with a sentence."""
    probes = []
    for text in texts:
        for passage in (text[:400], text[400:]):
            end = re.match(r"(.{150,}) ([A-Za-z]{3,})[.!?](?: |$)", passage, re.DOTALL)
            if end is not None:
                probes.append(Probe(Prompt("", end.group(1), f" {GAP}"), end.group(2)))
    return probes[:GAPS_PER_PROBE]


def clozes(texts: Sequence[str]) -> list[Probe]:
    """A name blanked out that stands in another sentence of the passage too."""
    probes = []
    for text in texts:
        parts = sentences(text)
        for index, sentence in enumerate(parts):
            rest = " ".join(parts[:index] + parts[index + 1 :])
            name = next((name for name in _NAME.findall(sentence) if name in rest.split()), None)
            if name is not None:
                head, _, tail = sentence.partition(name)
                before, after = " ".join([*parts[:index], head]), " ".join([tail, *parts[index + 1 :]])
                probes.append(Probe(Prompt("", before.rstrip(), f" {GAP}{after}"), name))
                break
    return probes[:GAPS_PER_PROBE]


def copies(texts: Sequence[str], rng: random.Random) -> list[Probe]:
    """Three words of a list of shuffled words, asked for inside its copy: no knowledge of English helps."""
    words = [word for text in texts for word in text.split() if word.isalpha()]
    probes = []
    for _ in range(GAPS_PER_PROBE):
        drawn = rng.sample(words, 30)
        start = rng.randrange(5, 22)
        head = " ".join([*drawn, "|", *drawn[:start]])
        tail = " ".join(drawn[start + 3 :])
        probes.append(Probe(Prompt("", head, f" {GAP} {tail}"), " ".join(drawn[start : start + 3])))
    return probes


def task_examples(root: Path, name: str, count: int = ROWS_PER_TASK) -> list[Example]:
    """Validation examples of a task, spread evenly over the file."""
    task, path = TASK_FILES[name]
    with (root / path).open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    examples = [
        example for row in rows[:: max(1, len(rows) // (2 * count))] for example in get_task(task).examples(row)
    ]
    return examples[:: max(1, len(examples) // count)][:count]


def answers(examples: Sequence[Example]) -> list[Probe]:
    """A task's own answers under its own prompt."""
    return [Probe(example.prompt, example.target, is_gap=False) for example in examples]


def all_probes(root: Path, found: Mapping[str, list[str]], seed: int = 0) -> dict[str, list[Probe]]:
    """Name -> probes, the same for the same data root, passages and seed."""
    probes = {f"continuation, {kind}": continuations(texts) for kind, texts in found.items()}
    known = [text for kind in ("news", "novels", "wiki", "textbooks") for text in found[kind]]
    probes["last word"] = last_words(known + found["unread news"])
    probes["cloze"] = clozes(found["news"] + found["wiki"] + found["textbooks"] + found["unread news"])
    probes["copying"] = copies(known, random.Random(seed))
    probes |= {f"answers, {name}": answers(task_examples(root, name)) for name in TASK_FILES}
    return probes
