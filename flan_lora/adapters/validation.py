"""What a sound adapter folder is: its name, its files, its config, and the base and prompt that it fits.

Only looks, never writes. Checks return lines, so that one error can carry all of them; those of the
tensors stand in weights.py.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from flan_lora.adapters.lora_config import CONFIG, published_config_problems
from flan_lora.adapters.manifest import FileRecord, Manifest, load
from flan_lora.errors import AdapterCorruptError, AdapterError, AdapterMismatchError
from flan_lora.recipe import NAME_PATTERN, Recipe, parse_recipe
from flan_lora.system.files import read_regular
from flan_lora.system.schema import indented, problem_lines
from flan_lora.system.text import shown
from flan_lora.tasks import TASKS

if TYPE_CHECKING:
    from flan_lora.base.load import Base

MANIFEST, WEIGHTS = "manifest.json", "adapter_model.safetensors"
CARD, METRICS = "README.md", "metrics.json"
LOG, PICTURE = "training_log.jsonl", "training_curve.png"
PICKLED_WEIGHTS = "adapter_model.bin"
REQUIRED = (CONFIG, WEIGHTS)
"""What PEFT needs."""
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
"""Loading one of these runs code from it, and plain PEFT would take an adapter_model.bin."""
RESERVED_NAMES = frozenset({"auto", "base", "none", "con", "prn", "aux", "nul"})
"""Words that mean something else where an adapter is asked for, and devices of Windows that cannot be folders."""

LORA_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<kind>A\.weight|B\.weight|magnitude_vector)")
MAX_WEIGHT_BYTES = 16 << 30
"""Rank 256 on every linear of flan-t5-xxl, in fp32, has 11 GB."""
MAX_FILE_BYTES = 64 << 20
"""Of every other file."""
MAX_PROBLEM_LINES = 8
"""Of one message: a damaged file has one for every tensor."""
MAX_ENTRIES, MAX_DEPTH = 10_000, 16
"""Of a folder that is looked through; an adapter's has eight, a run's a few hundred."""


@dataclass(frozen=True)
class StoredAdapter:
    """A published adapter whose files were whole when it was opened."""

    path: Path
    """The PEFT folder."""
    manifest: Manifest

    @property
    def name(self) -> str:
        """Its name, equal to its folder's."""
        return self.manifest.name

    @property
    def size_bytes(self) -> int:
        """All published files but the manifest."""
        return sum(record.size_bytes for record in self.manifest.files.values())

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that it was trained by. Raises RecipeError where this flan_lora cannot read it."""
        return parse_recipe(self.manifest.recipe, where=f"the recipe in {self.path / MANIFEST}")

    def open_base(self, model: str | None = None, *, device: str | None = None) -> Base:
        """The base that it was trained on, loaded as for training.

        Args:
            model: another name or place of the same base (a local copy, say); the fingerprint still decides.

        Raises:
            BaseModelError: as `base.load.open_base`.
        """
        from flan_lora.base.load import open_base

        return open_base(self.recipe.base.at(model), device=device)

    def open_serving_base(self, model: str | None = None, *, device: str | None = None) -> Base:
        """`open_base` for who only serves (`base.serving`)."""
        from flan_lora.base.serving import open_serving_base

        return open_serving_base(self.recipe.base.at(model), device=device)


@dataclass(frozen=True, slots=True)
class BrokenAdapter:
    """A folder that cannot be used as an adapter, and why."""

    name: str
    path: Path
    problems: tuple[str, ...]


# Names and fit


def is_name(name: str) -> bool:
    """Whether a folder of this name can be an adapter's. No name has a separator or begins with a dot."""
    pattern = NAME_PATTERN.removeprefix("^").removesuffix("$")  # '$' would let a trailing newline pass
    return len(name) <= 64 and re.fullmatch(pattern, name) is not None and name.split(".")[0] not in RESERVED_NAMES


def check_name(name: str) -> None:
    """Refuse what cannot be an adapter's name: paths, hidden and reserved names. Raises AdapterError."""
    if is_name(name):
        return
    if name.split(".")[0] in RESERVED_NAMES:
        raise AdapterError(f"{name!r} is a reserved name; choose another, e.g. {'my-' + name!r}.")
    raise AdapterError(
        f"{shown(name)} is not an adapter name.\n"
        "  expected  1 to 64 lower-case letters, digits, '.', '-' and '_', a letter or digit at both ends\n"
        "Give the adapter's name, not a path; the folder of adapters is set on its own."
    )


def check_fits(manifest: Manifest, fingerprint: str | None, base_name: str | None = None) -> None:
    """Raise AdapterMismatchError when an adapter belongs to another base (if one is given) or prompt version."""
    is_other_base = fingerprint is not None and fingerprint != manifest.base.fingerprint
    if not is_other_base and not prompt_problems(manifest):
        return
    task, trained_on = TASKS.get(manifest.task), manifest.base
    serving_on = base_name or ("this base" if is_other_base else trained_on.model)
    width = max(len(trained_on.model), len(serving_on))
    what, remedy = "this base", "serve the base it was trained on"
    if not is_other_base:
        what, remedy = "this flan_lora", f"use flan_lora {manifest.versions.get('flan-lora', 'of its time')}"
    raise AdapterMismatchError(
        f"adapter {manifest.name!r} does not fit {what}.\n"
        f"  trained on  {trained_on.model:{width}} @ {trained_on.fingerprint[:8]}, "
        f"prompt version {manifest.task_version}\n"
        f"  serving on  {serving_on:{width}} @ {(fingerprint or trained_on.fingerprint)[:8]}, "
        f"prompt version {task.version if task else f'unknown (no task {manifest.task!r})'}\n"
        f"Retrain it (flan-lora train recipes/{manifest.name}.yaml) or {remedy}."
    )


def prompt_problems(manifest: Manifest) -> list[str]:
    """One line when the task is gone or its prompt has changed since the training."""
    task = TASKS.get(manifest.task)
    if task is None:
        return [f"{MANIFEST}: task {manifest.task!r} is not one of this flan_lora ({', '.join(TASKS)})"]
    if task.version != manifest.task_version:
        return [
            f"{MANIFEST}: trained with prompt version {manifest.task_version}, this flan_lora has {task.version}"
        ]
    return []


# A folder as it lies


@dataclass(frozen=True, slots=True)
class Inspected:
    """A published folder as it was found."""

    manifest: Manifest | None
    """None where it cannot be read."""
    problems: list[str]
    """Every one that shows without reading tensors."""
    contents: Mapping[str, bytes | None]
    """File -> the bytes that were checked; None where there is no such file."""


def inspect(path: Path, root: Path) -> Inspected:
    """Read and check a folder. Links are followed only within ``root``, the store."""
    entries, problems = entries_below(path)
    if links := _links_outside([path, *entries], root):
        return Inspected(None, links, {})
    if not path.is_dir():
        return Inspected(None, [f"{path} is not a folder"], {})
    problems += pickles(path, entries)
    try:
        manifest = load(path / MANIFEST)
    except AdapterCorruptError as error:
        return Inspected(None, [*problems, str(error)], {})
    if manifest.name != path.name:
        problems.append(f"{MANIFEST}: names adapter {manifest.name!r}, but the folder is {path.name!r}")
    problems += recipe_problems(manifest)
    contents, unreadable = read_contents(path, sorted({*REQUIRED, *manifest.files}))
    problems += unreadable
    for name, content in contents.items():
        problems += file_problems(name, content, manifest.files.get(name))
    problems = problems or published_config_problems(contents[CONFIG] or b"", manifest)
    return Inspected(manifest, problems, contents)


def recipe_problems(manifest: Manifest) -> list[str]:
    """Where the recipe in a manifest is none, or speaks of another task or base than the manifest does."""
    if manifest.task not in TASKS:  # `prompt_problems` says so; a recipe of an unknown task is none
        return []
    try:
        recipe = Recipe.model_validate(manifest.recipe)
    except ValidationError as error:
        return [f"{MANIFEST}: recipe.{line}" for line in problem_lines(error, Recipe)]
    pairs = {"task": (recipe.task, manifest.task), "base": (recipe.base.model, manifest.base.model)}
    return [
        f"{MANIFEST}: the recipe's {what} is {shown(said)}, but the record says {shown(recorded)}"
        for what, (said, recorded) in pairs.items()
        if said != recorded
    ]


def read_contents(folder: Path, names: Iterable[str]) -> tuple[dict[str, bytes | None], list[str]]:
    """File -> its bytes, None where there is no such file or none that can be read; and why it cannot."""
    contents: dict[str, bytes | None] = {}
    problems = []
    for name in names:
        try:
            contents[name] = read_regular(folder / name, MAX_WEIGHT_BYTES if name == WEIGHTS else MAX_FILE_BYTES)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            contents[name] = None
        except OSError as error:
            contents[name] = None
            problems.append(f"{name}: cannot be read: {error.strerror or error}")
    return contents, problems


def file_problems(name: str, content: bytes | None, record: FileRecord | None) -> list[str]:
    """One published file against its record; ``content`` None when it is not there."""
    if record is None:
        return [f"{MANIFEST}: lists no {name}"]
    if content is None:
        return [f"{name}: missing (expected {record.size_bytes} bytes, sha256 {record.sha256})"]
    got = hashlib.sha256(content).hexdigest()
    if got == record.sha256:
        return []
    what = "truncated or altered" if len(content) < record.size_bytes else "altered"
    return [
        f"{name}: {what}\n"
        f"    expected  sha256 {record.sha256}, {record.size_bytes} bytes\n"
        f"    got       sha256 {got}, {len(content)} bytes"
    ]


def entries_below(folder: Path) -> tuple[list[Path], list[str]]:
    """Every file, folder and link below a folder, sorted, links not followed; and where that cannot be told."""
    found: list[Path] = []
    problems, left = [], [(folder, 0)]
    while left and len(found) <= MAX_ENTRIES:
        place, depth = left.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    found.append(Path(entry.path))
                    if entry.is_dir(follow_symlinks=False):
                        left.append((found[-1], depth + 1))
                    if len(found) > MAX_ENTRIES:
                        problems.append(f"over {MAX_ENTRIES:,} files below the folder")
                        break
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            problems.append(f"{shown(str(place.relative_to(folder)))}: cannot be read: {error.strerror}")
        if depth > MAX_DEPTH:
            problems.append(f"folders over {MAX_DEPTH} deep below the folder")
            break
    return sorted(found), problems


def pickles(path: Path, entries: Iterable[Path] | None = None) -> list[str]:
    """Files below a folder that would run code when loaded.

    Args:
        entries: below it, where they are known.
    """
    problems: list[str] = []
    if entries is None:
        entries, problems = entries_below(path)
    found = [entry for entry in entries if entry.suffix.lower() in PICKLE_SUFFIXES]
    return problems + [
        f"{entry.relative_to(path)}: pickled weights are never loaded, only {WEIGHTS} is" for entry in found
    ]


def _links_outside(entries: Iterable[Path], root: Path) -> list[str]:
    """Symlinks that leave the store. Nothing behind one is read."""
    inside = os.path.realpath(root)
    return [
        f"{link.relative_to(root)}: a link out of the store, to {os.readlink(link)}"
        for link in entries
        # realpath, not resolve: of a link to itself it gives the link, where resolve raises
        if link.is_symlink() and not Path(os.path.realpath(link)).is_relative_to(inside)
    ]


# Texts


def corrupt(headline: str, problems: Iterable[str], next_step: str) -> AdapterCorruptError:
    """The error that carries all problems of one folder."""
    lines = list(problems)
    count = f"{len(lines)} problem{'s' if len(lines) != 1 else ''}"
    return AdapterCorruptError(f"{headline} ({count}):\n{indented(lines, MAX_PROBLEM_LINES)}\n{next_step}")
