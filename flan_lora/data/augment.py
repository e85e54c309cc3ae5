"""Training rows written otherwise (`data.augment`), anew each epoch: a function of row, seed and epoch.

Rows are changed, not examples: prompt, target and an answer's place follow by themselves.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flan_lora.data.file_formats import Row
from flan_lora.tasks import spelling
from flan_lora.tasks.answers import answer_start, answers_field
from flan_lora.tasks.spelling import Way
from flan_lora.tasks.task import Task

SHARE = 0.35
"""Of the rows that an epoch writes otherwise; the rest stays as it is, so that both spellings are learned."""
WAYS: Mapping[str, Way] = {
    "case": spelling.case,
    "punctuation": spelling.punctuation,
    "contractions": spelling.contractions,
    "emoji": spelling.emoji_or_hashtag,
    "nukta": spelling.nukta,
}
"""Those that change one text; ``speaker_marks`` changes a dialogue and its summary."""
_LETTER_BY_LETTER: Mapping[str, Way] = {"case": spelling.one_case, "nukta": spelling.nukta}
"""What a context and the answers in it can be written in alike."""
_IN_TURNS = {name: spelling.in_turns(way) for name, way in WAYS.items()}


def augmented(row: Row, task: Task, ways: Sequence[str], *, seed: int, epoch: int, place: int) -> Row:
    """The row as an epoch has it: as it is, or in one or two of the ways (names in ``task.augment``).

    An answer stays a part of its context, at its place; where it would not, the row stays as it is.

    Args:
        place: of the row among the training rows: no two rows share their draws.
    """
    rng = random.Random(f"{seed} {epoch} {place}")
    if not ways or rng.random() > SHARE:
        return row
    for name in rng.sample(list(ways), min(rng.choice((1, 1, 2)), len(ways))):
        row = _rewritten(row, task, name, rng)
    return row


def _rewritten(row: Row, task: Task, name: str, rng: random.Random) -> Row:
    columns = task.augment[name]
    if name == "speaker_marks":
        dialogue, summary = columns
        if not isinstance(row[dialogue], str):  # SAMSum has one without
            return row
        written = spelling.speaker_marks(row[dialogue], row[summary], rng)
        return {**row, dialogue: written[0], summary: written[1]}
    has_answers = "answers" in columns
    way = (_LETTER_BY_LETTER if has_answers else _IN_TURNS if "dialogue" in columns else WAYS)[name]
    seed = rng.random()

    def change(text: str) -> str:
        """One spelling in all columns: each draws from the same start."""
        written = way(text, random.Random(seed))
        return written if written.strip() else text

    texts = {name: row[name] for name in columns if name != "answers" and isinstance(row.get(name), str)}
    changed = {**row, **{name: change(text) for name, text in texts.items()}}
    return _with_answers(row, changed, task, change) if has_answers else changed


def _with_answers(row: Row, changed: Row, task: Task, change: Callable[[str], str]) -> Row:
    """The changed row with its answers, each in its context; the row itself where one is not."""
    answers = answers_field(row, "answers", task.name)
    given = answer_start(row, "answers", task.name).get("answer_start")
    texts = [change(answer) for answer in answers]
    context = changed["context"]
    if not all(text.strip() and text in context for text in texts):
        return row
    field: dict[str, Any] = {"text": texts}
    if given is not None:
        start = len(change(row["context"][: int(given)]))
        if not context.startswith(texts[0], start):
            return row
        field["answer_start"] = [start]
    return {**changed, "answers": field}
