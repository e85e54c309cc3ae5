"""The folder of one training run: resolved recipe, checkpoints, step log, staged adapter. Never sees a tensor.

<run_dir>/
  recipe.json        the resolved recipe; a resumed run must have the same one
  origin.json        the base's fingerprint and the hash of the training rows; the same there
  log.jsonl          one line per logged step and evaluation
  checkpoints/       checkpoint-<step>/, as the Hugging Face Trainer writes them
  staged/            the finished adapter, until it is published
  done.json          written last; its presence means that training finished. It has the sha256 of the weights that
                     this run staged: nothing else is published with its scores
Beside it, while a process works there, .<name>.lock says which.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flan_lora.adapters.training_log import log_text, read_training_log
from flan_lora.adapters.validation import MAX_WEIGHT_BYTES, WEIGHTS, StoredAdapter
from flan_lora.errors import TrainingError
from flan_lora.recipe import Recipe, resolve
from flan_lora.system.documents import DocumentError, parse_json
from flan_lora.system.files import disk_errors, read_regular, replace_file
from flan_lora.system.lock import sole_owner

_MAX_BYTES = 4_000_000
_MAX_STATE_BYTES = 1 << 30
DONE_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "num_steps": int,
    "best_step": int,
    "best_score": (int, float),
    "seconds": (int, float),
    "precision": str,
    "num_trainable": int,
    "weights_sha256": str,
}
"""Of done.json, with their types."""
CHECKPOINT_FILES = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run's checkpoints belong to beside its recipe: names and paths stay when weights or rows change."""

    base: str
    """Fingerprint of the base."""
    rows: str
    """sha256 over the training rows (`data.splits.Split.content_hash`)."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training run's folder."""

    path: Path

    @property
    def recipe_path(self) -> Path:
        return self.path / "recipe.json"

    @property
    def origin_path(self) -> Path:
        return self.path / "origin.json"

    @property
    def log_path(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def checkpoints_dir(self) -> Path:
        return self.path / "checkpoints"

    @property
    def staged_dir(self) -> Path:
        return self.path / "staged"

    @property
    def done_path(self) -> Path:
        return self.path / "done.json"

    def write_done(self, facts: Mapping[str, Any]) -> None:
        """Say that training finished, with the facts of `DONE_FIELDS`; atomically, and after all else."""
        _write(self.done_path, facts)

    def read_done(self) -> dict[str, Any]:
        """What `write_done` wrote; run folders of before have no ``weights_sha256``.

        Raises:
            TrainingError: the file is damaged.
        """
        facts: dict[str, Any] = _read(self.done_path)
        is_whole = isinstance(facts, dict) and all(
            isinstance({"weights_sha256": "", **facts}.get(name), kind) for name, kind in DONE_FIELDS.items()
        )
        if not is_whole or not facts.keys() <= DONE_FIELDS.keys():
            raise TrainingError(
                f"{self.done_path} is damaged: expected {', '.join(DONE_FIELDS)}.\n"
                "Remove it: then --resume goes on from the last whole checkpoint, if there is one."
            )
        return facts

    def staged_weights(self) -> bytes:
        """The bytes of the finished adapter's weights. Raises TrainingError where they are gone."""
        try:
            return read_regular(self.staged_dir / WEIGHTS, MAX_WEIGHT_BYTES)
        except OSError as error:
            raise TrainingError(
                f"the finished weights in {self.staged_dir} cannot be read: {error}.\n"
                f"Remove {self.done_path}: then --resume goes on from the last whole checkpoint, if there is one."
            ) from error

    def is_of(self, origin: Origin) -> bool:
        """Whether it was started on this base and these rows."""
        return bool(_read(self.origin_path) == asdict(origin))

    def last_checkpoint(self, world_size: int = 1) -> Path | None:
        """The newest checkpoint that was written to its end, or none.

        A killed process can leave half a checkpoint. trainer_state.json is the last file the Trainer writes, so a
        folder whose state parses, names its own step and has every other file is whole.
        """
        folders = sorted(self.checkpoints_dir.glob("checkpoint-*"), key=step_of, reverse=True)
        return next((folder for folder in folders if _is_whole(folder, world_size)), None)

    def read_log(self) -> list[dict[str, Any]]:
        """The step log; a torn last line (killed while writing) is left out."""
        return list(_read_json_lines(self.log_path))

    def rewind_log(self, step: int) -> None:
        """Drop what was logged after ``step``: those steps are trained again."""
        kept = [entry for entry in self.read_log() if entry["step"] <= step]
        replace_file(self.log_path, "".join(json.dumps(entry) + "\n" for entry in kept).encode())


def start_run(path: Path, recipe: Recipe, origin: Origin) -> Run:
    """A fresh run in ``path``; what a previous run left there is moved to ``path``.1, .2, ..., never deleted."""
    if path.exists() and any(path.iterdir()):
        path.rename(_free_name(path))
    run = Run(path)
    run.checkpoints_dir.mkdir(parents=True)
    _write(run.origin_path, asdict(origin))
    _write(run.recipe_path, recipe.resolved())
    return run


def resume_run(path: Path, recipe: Recipe, origin: Origin) -> Run:
    """The run in ``path``, to be continued with the same recipe, on the same base and rows.

    Once its training has ended, the ``evaluation`` section may differ: the trained weights are scored and
    published with the new one.

    Raises:
        TrainingError: nothing to resume there, or recipe, base or rows differ (the text lists what).
    """
    run = Run(path)
    if not run.recipe_path.is_file():
        raise TrainingError(f"nothing to resume in {path}: no recipe.json there.\nStart the run without --resume.")
    before = resolve(_read(run.recipe_path))
    changed = list(_differences(before, recipe.resolved()))
    is_trained = run.done_path.is_file()
    if changed and not (is_trained and all(key.startswith("evaluation.") for key, *_ in changed)):
        lines = "\n".join(f"  {key}: was {old!r}, is {new!r}" for key, old, new in changed)
        raise TrainingError(
            f"the run in {path} was started with another recipe:\n{lines}\n"
            "Resume with the values it was started with, or start afresh without --resume."
        )
    stood_on = _read(run.origin_path)
    if moved := list(_differences(stood_on if isinstance(stood_on, dict) else {}, asdict(origin))):
        what = {"base": "the base's weights", "rows": "the training rows"}
        lines = "\n".join(
            f"  {what.get(key, key)}: were {_start(old)}, are {_start(new)}" for key, old, new in moved
        )
        raise TrainingError(
            f"the run in {path} was started on something else (sha256):\n{lines}\n"
            "Its checkpoints belong to that. Bring it back, or start afresh without --resume."
        )
    if changed:
        _write(run.recipe_path, recipe.resolved())
    return run


def _start(digest: object) -> str:
    """Of a sha256; a file that was edited by hand may hold anything."""
    return digest[:12] if isinstance(digest, str) and digest else "unknown"


def can_resume(path: Path, recipe: Recipe) -> bool:
    """Whether ``path`` holds a run of this very recipe that was cut off: before its end, or before publishing.

    Whether it stands on the same base and rows is for `Run.is_of` to say.
    """
    run = Run(path)
    if not run.recipe_path.is_file() or not run.checkpoints_dir.is_dir():  # publishing removes the checkpoints
        return False
    with suppress(TrainingError):
        return bool(resolve(_read(run.recipe_path)) == recipe.resolved())
    return False


@contextmanager
def sole_use(path: Path) -> Iterator[None]:
    """Keep every other process out of a run's folder, until the end of this one at the latest.

    The lock lies beside the folder, which a fresh start moves away.

    Raises:
        BusyError: another process trains there; the text says which, where and since when.
        DiskError: the lock cannot be made.
    """
    place = Path(os.path.realpath(path))  # two ways to name one folder are one lock
    with disk_errors(f"the run folder {path}"):
        place.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with disk_errors(f"the run folder {path}"):
            stack.enter_context(sole_owner(place.with_name(f".{place.name}.lock"), f"the run folder {path}"))
        yield


def _read(path: Path) -> Any:
    """The file's JSON; empty where there is no file.

    Raises:
        TrainingError: the file is damaged.
    """
    try:
        return parse_json(read_regular(path, _MAX_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, DocumentError) as error:
        raise TrainingError(
            f"{path} is damaged: {error}.\nRestore it, or start the run afresh without --resume."
        ) from error


def _write(path: Path, values: Any) -> None:
    replace_file(path, (json.dumps(values, indent=2) + "\n").encode())


def _differences(before: Any, after: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Leaves that differ between two nested dicts, as (dotted key, before, after)."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from _differences(before.get(key), after.get(key), f"{prefix}.{key}" if prefix else key)
    elif before != after:
        yield prefix, before, after


def _is_whole(folder: Path, world_size: int) -> bool:
    """Every file is there and the state, written last, is complete and belongs to this folder."""
    rng_files = ["rng_state.pth"] if world_size == 1 else [f"rng_state_{rank}.pth" for rank in range(world_size)]
    if not all((folder / name).is_file() for name in (*CHECKPOINT_FILES, *rng_files)):
        return False
    try:
        state = parse_json(read_regular(folder / "trainer_state.json", _MAX_STATE_BYTES))
    except (OSError, DocumentError):
        return False
    return isinstance(state, dict) and state.get("global_step") == step_of(folder)


def step_of(folder: Path) -> int:
    """The step in a checkpoint folder's name; -1 for a folder of another name."""
    suffix = folder.name.removeprefix("checkpoint-")
    return int(suffix) if suffix.isdigit() else -1


def _free_name(path: Path) -> Path:
    number = 1
    while path.with_name(f"{path.name}.{number}").exists():
        number += 1
    return path.with_name(f"{path.name}.{number}")


def _read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for line in path.read_bytes().split(b"\n"):
        with suppress(ValueError, RecursionError):
            entry = json.loads(line)  # not `parse_json`: a norm of a gradient may be NaN
            if isinstance(entry, dict) and isinstance(entry.get("step"), int):
                yield entry
                continue
        return


def training_log(stored: StoredAdapter, runs_dir: Path) -> list[dict[str, Any]]:
    """An adapter's training log: published with it, else of a run folder with its very recipe; else empty."""
    if published := read_training_log(stored):
        return published
    run = Run(runs_dir / stored.path.parent.name / stored.name)
    try:
        if resolve(_read(run.recipe_path)) != stored.recipe.resolved():
            return []
    except TrainingError:  # a damaged folder has no log to show
        return []
    return [json.loads(line) for line in log_text(run.read_log()).splitlines()]
