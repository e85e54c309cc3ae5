"""The folder of one comparison, so that it can be scored, drawn and extended again without running anything.

<reports-dir>/<base>-<adapter>/
  results.json                  who answered, which rows, how the base was asked, the training log
  predictions/<name>.jsonl      everybody's answers (evaluation/predictions.py)
  <out of domain>/<name>.jsonl  the same for each further comparison of the task (`Task.out_of_domain`)
  index.html, *.png             written from the files above and nothing else
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, FiniteFloat, ValidationError

from flan_lora.compare.comparison import Comparison, Predictor, compare
from flan_lora.errors import DataError
from flan_lora.evaluation.predictions import read_predictions, write_predictions
from flan_lora.system.files import replace_file
from flan_lora.system.schema import Section
from flan_lora.tasks import get_task
from flan_lora.tasks.task import OutOfDomain, Task

RECORD, PREDICTIONS = "results.json", "predictions"
FORMER_RECORD, FORMER_REVIEWS = "contest.json", "polarity"
"""Of format_version 1: the record's name, and the folder of the answers to film reviews."""


class PredictorRecord(Section):
    """Whose answers a file has."""

    name: str = Field(pattern=r"^[^/\\]+$")
    """Of the file in `predictions/`, without .jsonl."""
    about: str
    """One line for readers."""


class PromptScoreRecord(Section):
    """The bare base under one prompt."""

    prompt: str
    """Its name (`PromptVariant.name`)."""
    example: str
    """The whole prompt around one row."""
    score: FiniteFloat
    """On the validation rows, in the unit of the task's first score."""


class OutOfDomainRecord(Section):
    """One further comparison, on rows of another data set."""

    name: str
    """`OutOfDomain.name` of the task."""
    folder: str = Field(pattern=r"^\w[\w.-]*$")
    """Of its answers, beside `predictions/`."""
    origin: str
    """Where the rows came from, in words."""
    predictors: list[PredictorRecord]
    """The reference first."""
    prompt_scores: list[PromptScoreRecord]
    """Ways to ask the base for the other task's labels, best first, on rows of their own."""
    note: str = ""
    """What a reader must know, e.g. that the base has read these rows."""


class ComparisonRecord(Section):
    """``results.json``."""

    format_version: Literal[2] = 2
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
    """Of the rows (`data.splits.Split.content_hash`)."""
    predictors: list[PredictorRecord]
    """The reference first."""
    prompt_scores: list[PromptScoreRecord]
    """Ways to ask the base, best first."""
    num_prompt_rows: int
    """Validation rows that chose among them."""
    training_log: list[dict[str, Any]] = Field(default_factory=list)
    """Entries of the run's log, where it was kept."""
    baselines: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Trivial predictors' scores from the manifest, where they are of the same rows."""
    out_of_domain: list[OutOfDomainRecord] = Field(default_factory=list)
    """The task's further comparisons whose rows were at hand."""
    device: str
    """Where the answers were generated."""
    quantization: str
    """Of the base, there."""
    versions: dict[str, str]
    """Python and packages."""
    created_at: str
    """UTC."""


@dataclass(frozen=True)
class OutOfDomainResult:
    """One further comparison as read back."""

    spec: OutOfDomain
    record: OutOfDomainRecord
    comparison: Comparison


@dataclass(frozen=True)
class Results:
    """One comparison as read back: the record, and the scored answers."""

    record: ComparisonRecord
    comparison: Comparison
    out_of_domain: tuple[OutOfDomainResult, ...] = ()


def write_results(
    folder: Path,
    record: ComparisonRecord,
    predictors: Sequence[Predictor],
    out_of_domain: Sequence[Sequence[Predictor]] = (),
) -> None:
    """Save answers, then the record: a folder without a readable record was not finished.

    Args:
        out_of_domain: the answers of each of ``record.out_of_domain``.
    """
    for name in (RECORD, FORMER_RECORD):
        (folder / name).unlink(missing_ok=True)
    others = zip([item.folder for item in record.out_of_domain], out_of_domain, strict=True)
    for name, answered in ((PREDICTIONS, predictors), *others):
        for predictor in answered:
            write_predictions(folder / name / f"{predictor.name}.jsonl", predictor.predictions)
    text = json.dumps(record.model_dump(mode="json"), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    replace_file(folder / RECORD, text.encode())


def read_results(folder: Path, extra: Sequence[Predictor] = ()) -> Results:
    """Read a folder and score it, with further predictors if any.

    Raises:
        DataError: no readable record, answers are missing, or rows do not pair up.
    """
    record = read_record(folder)
    task = get_task(record.task)
    predictors = [*_predictors(folder / PREDICTIONS, record.predictors), *extra]
    comparison = compare(task, predictors, split=record.role, origin=record.origin)
    specs = {spec.name: spec for spec in task.out_of_domain}
    if unknown := [item.name for item in record.out_of_domain if item.name not in specs]:
        raise DataError(
            f"{folder / RECORD}: task {task.name} has no comparison {unknown[0]!r} "
            f"(it has {', '.join(specs) or 'none'}).\nCompare again: flan-lora compare ADAPTER"
        )
    others = (_read_out_of_domain(folder, specs[item.name], item) for item in record.out_of_domain)
    return Results(record, comparison, tuple(others))


def _read_out_of_domain(folder: Path, spec: OutOfDomain, record: OutOfDomainRecord) -> OutOfDomainResult:
    answers = _predictors(folder / record.folder, record.predictors)
    return OutOfDomainResult(spec, record, compare(spec.task, answers, split=spec.name, origin=record.origin))


def read_record(folder: Path) -> ComparisonRecord:
    """The record of a folder, of format_version 2 or 1; DataError where there is none that can be read."""
    path = record_path(folder)
    try:
        return ComparisonRecord.model_validate(_upgraded(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read: {reason}.\nCompare again: flan-lora compare ADAPTER") from error


def record_path(folder: Path) -> Path:
    """Where a folder's record lies, or would."""
    former = folder / FORMER_RECORD
    return former if former.is_file() and not (folder / RECORD).is_file() else folder / RECORD


_FORMER_NAMES = {
    "contestants": "predictors",
    "trials": "prompt_scores",
    "wording": "prompt",
    "num_trial_rows": "num_prompt_rows",
}
_VERBATIM = ("training_log", "baselines", "versions")
"""Fields whose keys are data."""


def _upgraded(values: Any) -> Any:
    """A record of format_version 1 in the words of version 2; anything else as it is."""
    if not isinstance(values, dict) or values.get("format_version") != 1:
        return values
    upgraded = {**_renamed(values), "format_version": 2}
    reviews = upgraded.pop("reviews", None)
    if reviews is not None:
        upgraded["out_of_domain"] = [{**reviews, "name": "film-reviews", "folder": FORMER_REVIEWS}]
    return upgraded


def _renamed(value: Any) -> Any:
    """Keys of version 1 under their names of version 2, at any depth."""
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        _FORMER_NAMES.get(key, key): item if key in _VERBATIM else _renamed(item) for key, item in value.items()
    }


def is_current(folder: Path, expected: Mapping[str, str]) -> bool:
    """Whether a folder's saved answers are of this very adapter, base and rows."""
    try:
        record = read_record(folder)
    except DataError:
        return False
    return all(getattr(record, name) == value for name, value in expected.items())


# Answers of others


def find_answers(spec: str, task: Task, *, runs_dir: Path, base_slug: str) -> Predictor:
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
    return Predictor(name or _short_name(path, file), about, read_predictions(file))


def _answers_in(folder: Path, task: Task, spec: str) -> tuple[Path, str]:
    """The adapter's answers in the folder of a comparison (results.json) or of a run (recipe.json)."""
    if record_path(folder).is_file():
        record = read_record(folder)
        found = record.task, record.predictors[-1].name, f"from the comparison of {record.adapter}"
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
    return folder / PREDICTIONS / f"{name}.jsonl", about


def _short_name(path: Path, file: Path) -> str:
    """What a legend can hold: the file's name, or that of a folder."""
    return path.stem if path == file else path.name


def _predictors(folder: Path, records: Sequence[PredictorRecord]) -> list[Predictor]:
    return [
        Predictor(record.name, record.about, read_predictions(folder / f"{record.name}.jsonl"))
        for record in records
    ]
