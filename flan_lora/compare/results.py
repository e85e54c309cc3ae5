"""The folder of one comparison, so that it can be scored, drawn and extended again without running anything.

<reports-dir>/<base>-<adapter>/
  contest.json                who answered, which rows, how the base was asked, the training log
  predictions/<name>.jsonl    everybody's answers (predictions.py)
  polarity/<name>.jsonl       the same for film reviews, where they were at hand
  index.html, *.png           written from the files above and nothing else

Knows JSON and files; never a model or a picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, FiniteFloat, ValidationError

from flan_lora.compare.comparison import Comparison, Contestant, compare
from flan_lora.compare.out_of_domain import TASK as POLARITY
from flan_lora.errors import DataError
from flan_lora.evaluation.predictions import read_predictions, write_predictions
from flan_lora.system.files import replace_file
from flan_lora.system.schema import Section
from flan_lora.tasks import get_task
from flan_lora.tasks.task import Task

RECORD = "contest.json"
ROWS, REVIEWS = "predictions", "polarity"
"""Folders of answers: to the task's rows, and to film reviews."""


class ContestantRecord(Section):
    """Whose answers a file has."""

    name: str = Field(pattern=r"^[^/\\]+$")
    """Of the file in `predictions/`, without .jsonl."""
    about: str
    """One line for readers."""


class TrialRecord(Section):
    """The bare base under one wording."""

    wording: str
    """Its name."""
    example: str
    """A whole prompt of that wording."""
    score: FiniteFloat
    """On the validation rows, in the unit of the task's first score."""


class ReviewsRecord(Section):
    """The comparison on film reviews."""

    origin: str
    """Where the reviews came from, in words."""
    contestants: list[ContestantRecord]
    """The reference first."""
    trials: list[TrialRecord]
    """Ways to ask the base for the sentiment, best first, on reviews of their own."""
    note: str = ""
    """What a reader must know, e.g. that the base has read these rows."""


class ContestRecord(Section):
    """``contest.json``."""

    format_version: Literal[1] = 1
    """Of this file."""
    adapter: str
    """Its published name."""
    task: str
    """Key in `tasks.TASKS`."""
    base: str
    """Name of the base, as in the manifest."""
    base_fingerprint: str
    """Of its weights."""
    adapter_sha256: str
    """Of its weights file."""
    role: str
    """Which rows: validation or test."""
    origin: str
    """Where they came from, in words."""
    content_hash: str
    """Of the rows (`data.Split.content_hash`)."""
    contestants: list[ContestantRecord]
    """The reference first."""
    trials: list[TrialRecord]
    """Ways to ask the base, best first."""
    num_trial_rows: int
    """Validation rows that chose among them."""
    training_log: list[dict[str, Any]] = Field(default_factory=list)
    """Entries of the run's log, where it was kept."""
    baselines: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Trivial predictors' scores from the manifest, where they are of the same rows."""
    reviews: ReviewsRecord | None = None
    """Film reviews, for the emotion task."""
    device: str
    """Where the answers were generated."""
    quantization: str
    """Of the base, there."""
    versions: dict[str, str]
    """Python and packages."""
    created_at: str
    """UTC."""


@dataclass(frozen=True)
class Archive:
    """One comparison as read back: the record, and the scored answers."""

    record: ContestRecord
    comparison: Comparison
    reviews: Comparison | None


def write_archive(
    folder: Path, record: ContestRecord, rows: Sequence[Contestant], reviews: Sequence[Contestant] = ()
) -> None:
    """Save answers, then the record: a folder without a readable record was not finished."""
    (folder / RECORD).unlink(missing_ok=True)
    for name, contestants in ((ROWS, rows), (REVIEWS, reviews)):
        for contestant in contestants:
            write_predictions(folder / name / f"{contestant.name}.jsonl", contestant.predictions)
    text = json.dumps(record.model_dump(mode="json"), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    replace_file(folder / RECORD, text.encode())


def read_archive(folder: Path, extra: Sequence[Contestant] = ()) -> Archive:
    """Read a folder and score it, with further contestants if any.

    Raises:
        DataError: no readable record, answers are missing, or rows do not pair up.
    """
    record = read_record(folder)
    comparison = compare(
        get_task(record.task),
        [*_contestants(folder / ROWS, record.contestants), *extra],
        split=record.role,
        origin=record.origin,
    )
    reviews = record.reviews
    if reviews is None:
        return Archive(record, comparison, None)
    answers = _contestants(folder / REVIEWS, reviews.contestants)
    return Archive(record, comparison, compare(POLARITY, answers, split="reviews", origin=reviews.origin))


def read_record(folder: Path) -> ContestRecord:
    """``contest.json`` of a folder; DataError where there is none that can be read."""
    path = folder / RECORD
    try:
        return ContestRecord.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read: {reason}.\nCompare again: flan-lora compare ADAPTER") from error


def is_current(folder: Path, expected: Mapping[str, str]) -> bool:
    """Whether a folder's saved answers are of this very adapter, base and rows."""
    try:
        record = read_record(folder)
    except DataError:
        return False
    return all(getattr(record, name) == value for name, value in expected.items())


# Answers of others


def find_answers(spec: str, task: Task, *, runs_dir: Path, base_slug: str) -> Contestant:
    """Saved answers by what a user calls them: ``[NAME=]FILE.jsonl``, the folder of a run or report, a run's id.

    A run's id is the path of its folder below ``runs_dir`` (or below ``runs_dir``/<base>); of a run the adapter's
    answers to its test rows are taken.

    Raises:
        DataError: nothing of that name, or of another task.
    """
    name, separator, place = spec.partition("=")
    if not separator:
        name, place = "", spec
    path = next((p for p in (Path(place), runs_dir / place, runs_dir / base_slug / place) if p.exists()), None)
    if path is None:
        raise DataError(
            f"--with {spec}: no such file, folder or run.\n"
            f"  looked at  {place}, {runs_dir / place}, {runs_dir / base_slug / place}\n"
            "Give predictions (flan-lora eval NAME --predictions FILE.jsonl), a run's folder or a report's."
        )
    file, about = (path, f"saved answers, {path.name}") if path.is_file() else _answers_in(path, task, spec)
    return Contestant(name or _short_name(path, file), about, read_predictions(file))


def _answers_in(folder: Path, task: Task, spec: str) -> tuple[Path, str]:
    """The adapter's answers in the folder of a comparison (contest.json) or of a run (recipe.json)."""
    if (folder / RECORD).is_file():
        record = read_record(folder)
        found = record.task, record.contestants[-1].name, f"from the comparison of {record.adapter}"
    elif (folder / "recipe.json").is_file():
        recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
        found = recipe["task"], recipe["name"], f"run of {recipe['name']}, rank {recipe['lora']['rank']}"
    else:
        raise DataError(
            f"--with {spec}: {folder} is neither a run (recipe.json) nor a comparison ({RECORD}).\n"
            "Give a predictions file, or the folder that train wrote (runs/<base>/<name>)."
        )
    of_task, name, about = found
    if of_task != task.name:
        raise DataError(
            f"--with {spec}: that is task {of_task!r}, not {task.name!r}.\nCompare answers to one task."
        )
    return folder / ROWS / f"{name}.jsonl", about


def _short_name(path: Path, file: Path) -> str:
    """What a legend can hold: the file's name, or that of a folder."""
    return path.stem if path == file else path.name


def _contestants(folder: Path, records: Sequence[ContestantRecord]) -> list[Contestant]:
    return [
        Contestant(record.name, record.about, read_predictions(folder / f"{record.name}.jsonl"))
        for record in records
    ]
