"""What a published adapter is, as data: base and fingerprint, recipe, rows, scores, sha256 of every file.

A manifest holds no local path and no user name: build it from `portable_base_name` and `portable_recipe`, what
is left of a path after that is refused.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AliasChoices,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    field_validator,
    model_validator,
)

from flan_lora.errors import AdapterCorruptError
from flan_lora.recipe import NAME_PATTERN
from flan_lora.system.documents import DocumentError, parse_json
from flan_lora.system.files import read_regular
from flan_lora.system.schema import Section, indented, problem_lines
from flan_lora.system.text import shown

FORMAT_VERSION: Literal[1] = 1
"""Raise it when a reader of the old format would misread the new one."""
SHA256_PATTERN = r"^[0-9a-f]{64}$"
MAX_BYTES = 4_000_000
"""Of a manifest or metrics; they have 5,000 to 30,000."""
VERSIONED_PACKAGES = ("flan-lora", "torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets")

# A path at the start of a string or behind a space, quote, bracket, comma or '='; and any file: URL.
_LOCAL_PATH = re.compile(r"""(?:^|[\s'"=(\[,])(?:/[^\s/]|~[/\\]|[A-Za-z]:[\\/]|\\\\)|\bfile:/""")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")

_RECIPE_FIELDS = {
    "base": {"model"},
    "lora": {"rank", "alpha", "target_modules", "use_dora", "use_rslora"},
}
"""What checks and cards read of a recipe, whatever version of the schema wrote it."""

Document = TypeVar("Document", bound="Section")


class FileRecord(Section):
    """One published file."""

    sha256: str = Field(pattern=SHA256_PATTERN)
    """Of the whole file, lower-case hex."""
    size_bytes: int = Field(ge=0)
    """Its length; a truncated file is told from an altered one by it."""

    @classmethod
    def of(cls, content: bytes) -> FileRecord:
        """The record of a file with this content."""
        return cls(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


class ScoreRecord(Section):
    """A score and its 95 % interval. Reads `tasks.scorers.Score` too: ``ScoreRecord.model_validate(score)``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, from_attributes=True)

    value: FiniteFloat
    """Over all rows."""
    low: FiniteFloat
    """Lower end of the 95 % bootstrap interval."""
    high: FiniteFloat
    """Upper end."""


Scores = dict[str, ScoreRecord]


class BaseRecord(Section):
    """The frozen base that the adapter was trained against, and fits."""

    model: str = Field(min_length=1)
    """Hub id, `mini`, or the last part of a local folder's name."""
    revision: str | None = None
    """Commit or tag on the Hub, as in the recipe."""
    fingerprint: str = Field(min_length=8)
    """`base.fingerprint.fingerprint` of the weights; the same however they are loaded."""
    quantization: Literal["int8", "nf4", "bf16", "fp32"]
    """How the base was loaded for training."""


class AdditionRecord(Section):
    """What an auxiliary source added to the training rows. Reads `data.mixing.Addition`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, from_attributes=True)

    origin: str
    """In words, without a local path."""
    datasets: tuple[str, ...]
    """Hub ids of what its rows are made of."""
    num_rows: int = Field(ge=0)
    """Rows that it added, before `data.max_train_rows`."""
    num_held_out: int = Field(0, ge=0)
    """Left out: they share an article with validation or test."""
    num_repeated: int = Field(0, ge=0)
    """Left out: train had the same row already."""
    num_unmatched: int = Field(0, ge=0)
    """Left out: no row with their id in `question_from`."""
    is_missing: bool = False
    """An optional source that was not to be had."""


class DataRecord(Section):
    """The rows. The hash tells whether another run used the same ones."""

    kind: Literal["hub", "local", "file", "sample"]
    """Where rows came from; for `file` and `sample` the recipe's dataset names only their shape."""
    origin: str
    """In words, without a local path, e.g. ``dair-ai/emotion split@train``."""
    content_hash: str
    """sha256 over the training rows (`data.splits.Split.content_hash`)."""
    also: tuple[AdditionRecord, ...] = ()
    """What auxiliary sources added; their rows count among the training rows."""
    num_train_rows: int = Field(ge=0)
    """Examples the adapter learned from."""
    num_validation_rows: int = Field(ge=0)
    """Examples that picked the checkpoint."""
    num_test_rows: int = Field(ge=0)
    """Examples behind the scores."""


class TrainingRecord(Section):
    """How the run went."""

    num_steps: int = Field(ge=0)
    """Optimizer steps done."""
    best_step: int = Field(ge=0)
    """The step whose weights these are."""
    seconds: float = Field(ge=0.0, allow_inf_nan=False)
    """Wall clock of the training, evaluations included."""
    device: str
    """E.g. ``cpu`` or ``cuda (NVIDIA H200)``."""
    precision: str
    """Autocast of the forward pass as it ran: bf16 or fp32."""
    seed: int = Field(ge=0)
    """`training.seed` of the recipe."""
    select_on: str | None = None
    """The score that picked the checkpoint."""
    best_score: FiniteFloat | None = None
    """That score on the validation rows at `best_step`."""
    num_trainable: int | None = Field(None, ge=1)
    """Trained parameters."""


class PartRecord(Section):
    """One adapter of a composition."""

    name: str = Field(pattern=NAME_PATTERN, max_length=64)
    """Its published name."""
    weight: FiniteFloat
    """Of its update in the mix."""
    sha256: str = Field(pattern=SHA256_PATTERN)
    """Of its weights file."""


class CompositionRecord(Section):
    """Of an adapter that was not trained: a mix of others, cut to one update (`composition`, LoraHub)."""

    parts: tuple[PartRecord, ...] = Field(min_length=1)
    """The mix."""
    num_evaluations: int = Field(ge=1)
    """Mixes that were tried."""
    loss: FiniteFloat
    """Of the mix on the rows that its weights were searched on (nats per target token)."""
    base_loss: FiniteFloat
    """Of the bare base on them."""
    relative_error: float = Field(ge=0.0, allow_inf_nan=False)
    """What cutting the sum to one rank loses: ||mix - merged|| / ||mix||, Frobenius, over all linears."""
    equal_share: float = Field(ge=0.0, le=1.0)
    """Of the test rows that it answers word for word as the mix does."""


class Manifest(Section):
    """``manifest.json``: written last, so a folder without a readable one was never published."""

    format_version: Literal[1] = 1
    """Of this file."""
    name: str = Field(pattern=NAME_PATTERN, max_length=64)
    """The adapter's name, equal to its folder's."""
    task: str
    """Key in `tasks.TASKS`."""
    task_version: int = Field(ge=1)
    """`Task.version` at training time; another version has another prompt, parser or labels."""
    base: BaseRecord
    """The frozen base."""
    recipe: dict[str, Any]
    """The resolved recipe (`portable_recipe`)."""
    recipe_fingerprint: str = Field(pattern=SHA256_PATTERN)
    """`Recipe.fingerprint()`."""
    data: DataRecord
    """The rows."""
    training: TrainingRecord
    """How the run went."""
    composition: CompositionRecord | None = None
    """Where it was composed of other adapters; `training` then counts no step."""
    scores: Scores
    """The adapter on the test rows."""
    base_scores: Scores = Field(default_factory=dict)
    """The bare base on the same rows."""
    baseline_scores: dict[str, Scores] = Field(default_factory=dict)
    """Trivial predictors on the same rows, by name."""
    label_temperature: float = Field(1.0, ge=1e-4, le=1e4)
    """What serving divides the logits of a task's labels by (`Metrics.calibration` says how it was found)."""
    versions: dict[str, str]
    """Python and the packages that shape the result (`installed_versions`)."""
    created_at: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
    """UTC (`utc_now`)."""
    files: dict[Annotated[str, Field(pattern=r"^\w[\w.-]*$")], FileRecord] = Field(default_factory=dict)
    """Every published file but the manifest itself; filled in by `Store.publish`."""

    @field_validator("recipe")
    @classmethod
    def _has_base_and_lora(cls, recipe: dict[str, Any]) -> dict[str, Any]:
        for section, fields in _RECIPE_FIELDS.items():
            given = recipe.get(section)
            missing = fields - (given.keys() if isinstance(given, dict) else set())
            if missing:
                raise ValueError(f"the recipe is not resolved: {section} has no {', '.join(sorted(missing))}")
        return recipe

    @model_validator(mode="after")
    def _no_local_path(self) -> Manifest:
        for location, text in _strings(self.model_dump(mode="json")):
            if _LOCAL_PATH.search(text):
                raise ValueError(f"{shown(location)[1:-1]} holds a local path: {shown(text)}")
        return self


class ExampleRecord(Section):
    """A text written for the card, and what was answered to it; no row of a data set."""

    inputs: dict[str, str] = Field(min_length=1)
    """The task's inputs."""
    expected: str = Field(validation_alias=AliasChoices("expected", "hoped_for"))
    """What a person would answer; adapters published before 2026-12 call it ``hoped_for``."""
    adapter: str
    """What the adapter answered."""
    base: str
    """What the bare base answered under the same prompt."""


class CalibrationRecord(Section):
    """How far the probabilities of the labels can be believed, before and after a temperature."""

    temperature: float = Field(gt=0.0, allow_inf_nan=False)
    """Fitted on validation rows; the same number as `Manifest.label_temperature`."""
    num_rows: int = Field(ge=1)
    """Validation rows that it was fitted on."""
    ece_before: float = Field(ge=0.0, le=1.0)
    """Expected calibration error on the test rows as the model has it (`calibration.Calibration.error`)."""
    ece_after: float = Field(ge=0.0, le=1.0)
    """The same with the temperature; it may be larger, and is what is served nevertheless."""


class Metrics(Section):
    """``metrics.json``: the final evaluation, in full.

    Every score is {"value", "low", "high"} under its metric's own name (accuracy 0..1, rouge_l 0..100)::

        {"format_version": 1, "task": "emotion", "select_on": "macro_f1",
         "split": "test", "num_rows": 2000, "origin": "dair-ai/emotion split@test", "seconds": 12.3,
         "adapter": {"accuracy": {"value": 0.91, "low": 0.90, "high": 0.92}, ...},
         "base": {"accuracy": {...}, ...},
         "baselines": {"majority": {"accuracy": {...}, ...}, ...}}
    """

    format_version: Literal[1] = 1
    """Of this file."""
    task: str
    """Key in `tasks.TASKS`."""
    select_on: str
    """The score to read first; the key of it is in every block."""
    split: str
    """Role or Hub name of the scored split."""
    num_rows: int = Field(ge=1)
    """Scored examples."""
    origin: str
    """Where the rows came from, in words, without a local path."""
    seconds: float = Field(ge=0.0, allow_inf_nan=False)
    """Wall clock of the adapter's own evaluation."""
    adapter: Scores = Field(min_length=1)
    """The adapter."""
    base: Scores = Field(default_factory=dict)
    """The bare base; empty when it was not run."""
    baselines: dict[str, Scores] = Field(default_factory=dict)
    """Trivial predictors by name."""
    calibration: CalibrationRecord | None = None
    """Of the adapter's label probabilities; none for tasks without labels."""
    examples: list[ExampleRecord] = Field(default_factory=list)
    """The examples of the task's card, answered."""


def dump(document: Manifest | Metrics) -> str:
    """Canonical JSON: sorted keys, two spaces, UTF-8, trailing newline; equal documents give equal bytes."""
    values = document.model_dump(mode="json")
    return json.dumps(values, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def load(path: Path) -> Manifest:
    """Read a ``manifest.json``.

    Raises:
        AdapterCorruptError: the file is missing, not JSON, of another format version, or not of the schema;
            the text lists every problem.
    """
    return _load(path, Manifest)


def load_metrics(path: Path) -> Metrics:
    """Read a ``metrics.json``; raises like `load`."""
    return _load(path, Metrics)


def portable_base_name(model: str) -> str:
    """What may be published of `base.model`: a Hub id as it is, of a local folder the last part of its name."""
    if model == "mini" or (_HUB_ID.fullmatch(model) and not Path(model).exists()):
        return model
    return Path(model).expanduser().resolve().name or "local"


def portable_recipe(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `Recipe.resolved()` whose base is named as `portable_base_name` does."""
    base = dict(resolved["base"])
    return {**resolved, "base": {**base, "model": portable_base_name(base["model"])}}


def installed_versions() -> dict[str, str]:
    """Python and the packages of `VERSIONED_PACKAGES` that are installed; imports none of them."""
    versions = {"python": platform.python_version()}
    for package in VERSIONED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def utc_now() -> str:
    """The time for `created_at`, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _load(path: Path, schema: type[Document]) -> Document:
    """Parse, check the version before the fields (a newer file has other fields), then the fields."""
    try:
        values = parse_json(read_regular(path, MAX_BYTES))
    except FileNotFoundError as error:
        raise AdapterCorruptError(f"{path} is missing. {_REPAIR}") from error
    except (OSError, DocumentError) as error:
        raise AdapterCorruptError(f"{path} is not readable as JSON: {error}. {_REPAIR}") from error
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise AdapterCorruptError(
            f"{path} has format_version {shown(version)}, expected {FORMAT_VERSION}. "
            "It is damaged, or was written by another version of flan_lora: use that version, or publish again."
        )
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        lines = indented(problem_lines(error, schema))
        raise AdapterCorruptError(f"{path} does not follow the format:\n{lines}\n{_REPAIR}") from error


_REPAIR = "Restore the folder from its origin, or train and publish again."


def _strings(value: Any, location: str = "") -> Iterator[tuple[str, str]]:
    """Every string below a JSON value with its dotted location, keys of mappings included."""
    if isinstance(value, str):
        yield location or "the whole", value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            below = f"{location}.{key}" if location else str(key)
            yield below, str(key)
            yield from _strings(item, below)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _strings(item, f"{location}[{index}]")
