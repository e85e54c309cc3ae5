"""The folder of one training run: resolved recipe, checkpoints, step log, staged adapter. Never sees a tensor.

<run_dir>/
  recipe.json        the resolved recipe; a resumed run must have the same one
  log.jsonl          one line per logged step and evaluation
  checkpoints/       checkpoint-<step>/, as the Hugging Face Trainer writes them
  staged/            the finished adapter, until it is published
  done.json          written last; its presence means that training finished
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flan_lora.errors import TrainingError
from flan_lora.files import replace_file
from flan_lora.recipe import Recipe

CHECKPOINT_FILES = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")


@dataclass(frozen=True, slots=True)
class Run:
    """One training run's folder."""

    path: Path

    @property
    def recipe_path(self) -> Path:
        return self.path / "recipe.json"

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


def start_run(path: Path, recipe: Recipe) -> Run:
    """A fresh run in ``path``; what a previous run left there is moved to ``path``.1, .2, ..., never deleted."""
    if path.exists() and any(path.iterdir()):
        path.rename(_free_name(path))
    run = Run(path)
    run.checkpoints_dir.mkdir(parents=True)
    replace_file(run.recipe_path, (json.dumps(recipe.resolved(), indent=2) + "\n").encode())
    return run


def resume_run(path: Path, recipe: Recipe) -> Run:
    """The run in ``path``, to be continued with the same recipe.

    Once its training has ended, the ``evaluation`` section may differ: the trained weights are scored and
    published with the new one.

    Raises:
        TrainingError: nothing to resume there, or the recipe differs (the text lists the fields).
    """
    run = Run(path)
    if not run.recipe_path.is_file():
        raise TrainingError(f"nothing to resume in {path}: no recipe.json there.\nStart the run without --resume.")
    before = json.loads(run.recipe_path.read_text(encoding="utf-8"))
    changed = list(_differences(before, recipe.resolved()))
    if changed and run.done_path.is_file() and all(key.startswith("evaluation.") for key, *_ in changed):
        replace_file(run.recipe_path, (json.dumps(recipe.resolved(), indent=2) + "\n").encode())
    elif changed:
        lines = "\n".join(f"  {key}: was {old!r}, is {new!r}" for key, old, new in changed)
        raise TrainingError(
            f"the run in {path} was started with another recipe:\n{lines}\n"
            "Resume with the values it was started with, or start afresh without --resume."
        )
    return run


def can_resume(path: Path, recipe: Recipe) -> bool:
    """Whether ``path`` holds a run of this very recipe that was cut off: before its end, or before publishing."""
    run = Run(path)
    if not run.recipe_path.is_file() or not run.checkpoints_dir.is_dir():  # publishing removes the checkpoints
        return False
    return bool(json.loads(run.recipe_path.read_text(encoding="utf-8")) == recipe.resolved())


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
        state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except ValueError:
        return False
    return bool(state.get("global_step") == step_of(folder))


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
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return
