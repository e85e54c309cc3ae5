"""What a sound adapter folder is: its name, its files, its config, and the base and prompt that it fits.

Only looks, never writes. Checks return lines, so that one error can carry all of them; those of the
tensors stand in weights.py.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flan_lora.adapters.manifest import FileRecord, Manifest, load
from flan_lora.errors import AdapterCorruptError, AdapterError, AdapterMismatchError
from flan_lora.recipe import NAME_PATTERN
from flan_lora.tasks import TASKS

if TYPE_CHECKING:
    pass

MANIFEST, CONFIG, WEIGHTS = "manifest.json", "adapter_config.json", "adapter_model.safetensors"
CARD, METRICS = "README.md", "metrics.json"
LOG, PICTURE = "training_log.jsonl", "training_curve.png"
REQUIRED = (CONFIG, WEIGHTS)
"""What PEFT needs."""
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
"""Loading one of these runs code from it, and plain PEFT would take an adapter_model.bin."""
RESERVED_NAMES = frozenset({"auto", "base", "none", "con", "prn", "aux", "nul"})
"""Words that mean something else where an adapter is asked for, and devices of Windows that cannot be folders."""

LORA_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<kind>A\.weight|B\.weight|magnitude_vector)")
PLAIN_INITS = (True, False, None, "gaussian")
"""Values of init_lora_weights that leave the base alone; PiSSA, OLoRA and their like change it."""
_MAX_LINES = 8


@dataclass(frozen=True, slots=True)
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
        f"{name!r} is not an adapter name.\n"
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
    if links := _links_outside(path, root):
        return Inspected(None, links, {})
    if not path.is_dir():
        return Inspected(None, [f"{path} is not a folder"], {})
    problems = pickles(path)
    try:
        manifest = load(path / MANIFEST)
    except AdapterCorruptError as error:
        return Inspected(None, [*problems, str(error)], {})
    if manifest.name != path.name:
        problems.append(f"{MANIFEST}: names adapter {manifest.name!r}, but the folder is {path.name!r}")
    contents = {name: read_or_none(path / name) for name in sorted({*REQUIRED, *manifest.files})}
    for name, content in contents.items():
        problems += file_problems(name, content, manifest.files.get(name))
    problems = problems or _published_config_problems(contents[CONFIG] or b"", manifest)
    return Inspected(manifest, problems, contents)


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


def read_or_none(path: Path) -> bytes | None:
    """A file's bytes, None where there is no such file."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return None


def pickles(path: Path) -> list[str]:
    """Files below a folder that would run code when loaded."""
    found = sorted(entry for entry in path.rglob("*") if entry.suffix.lower() in PICKLE_SUFFIXES)
    return [f"{entry.relative_to(path)}: pickled weights are never loaded, only {WEIGHTS} is" for entry in found]


def _links_outside(path: Path, root: Path) -> list[str]:
    """Symlinks that leave the store. Nothing behind one is read."""
    inside = root.resolve()
    links = [entry for entry in (path, *path.rglob("*")) if entry.is_symlink()]
    return [
        f"{link.relative_to(root)}: a link out of the store, to {os.readlink(link)}"
        for link in links
        if not link.resolve().is_relative_to(inside)
    ]


# adapter_config.json


def canonical_config(config: Mapping[str, Any], manifest: Manifest) -> bytes:
    """adapter_config.json as it is published: equal adapters give equal bytes, and no local path leaks.

    PEFT writes target_modules in the order of a set, and the base as the folder that it was loaded from.
    """
    fixed = {
        "target_modules": sorted(config["target_modules"]),
        "base_model_name_or_path": manifest.base.model,
        "revision": manifest.base.revision,
        "inference_mode": True,
    }
    return (json.dumps({**config, **fixed}, sort_keys=True, indent=2) + "\n").encode()


def config_problems(content: bytes, manifest: Manifest) -> list[str]:
    """Where adapter_config.json departs from the recipe, or asks for what is not a plain LoRA update."""
    try:
        config = json.loads(content)
    except ValueError as error:
        return [f"{CONFIG}: not readable as JSON: {error}"]
    if not isinstance(config, dict):
        return [f"{CONFIG}: expected an object, got {type(config).__name__}"]
    expected = _expected_config(manifest)
    problems = [
        f"{CONFIG}: {key} is {config.get(key)!r}, expected {value!r}"
        for key, value in expected.items()
        if (config.get(key) or None) != (value or None)
    ]
    modules, named = config.get("target_modules"), manifest.recipe["lora"]["target_modules"]
    if not isinstance(modules, list) or sorted(modules) != sorted(named):
        problems.append(f"{CONFIG}: target_modules is {modules!r}, expected {named!r}")
    if config.get("init_lora_weights") not in PLAIN_INITS:
        init = config["init_lora_weights"]  # PiSSA, OLoRA and their like change the base under every other adapter
        problems.append(f"{CONFIG}: init_lora_weights {init!r} changes the weights of the base, expected True")
    return problems + _base_problems(manifest)


def _expected_config(manifest: Manifest) -> dict[str, Any]:
    """Fields with one right value. Ranks per module, or whole modules beside A and B, would not stack."""
    lora = manifest.recipe["lora"]
    absent = ("rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication", "lora_bias")
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_2_SEQ_LM",
        "r": lora["rank"],
        "lora_alpha": lora["alpha"],
        "use_dora": lora["use_dora"],
        "use_rslora": lora["use_rslora"],
        "bias": "none",
        **dict.fromkeys(absent),
    }


def _published_config_problems(content: bytes, manifest: Manifest) -> list[str]:
    problems = config_problems(content, manifest)
    if not problems and (base := json.loads(content).get("base_model_name_or_path")) != manifest.base.model:
        problems = [f"{CONFIG}: base_model_name_or_path is {base!r}, expected {manifest.base.model!r}"]
    return problems


def _base_problems(manifest: Manifest) -> list[str]:
    base = manifest.recipe["base"]["model"]
    if base == manifest.base.model:
        return []
    return [f"{MANIFEST}: the recipe's base is {base!r}, but the record says {manifest.base.model!r}"]


def is_target(module: str, config: Mapping[str, Any]) -> bool:
    """Whether PEFT adapts a linear: its path ends in one of target_modules, or matches the regex as a whole."""
    targets = config["target_modules"]
    if isinstance(targets, str):
        return targets == "all-linear" or re.fullmatch(targets, module) is not None
    return any(module == target or module.endswith(f".{target}") for target in targets)


def module_rank(module: str, config: Mapping[str, Any]) -> int:
    """Rank of a module's update: of the first pattern that fits it, else the adapter's."""
    return int(_of_pattern("rank_pattern", module, config, config["r"]))


def module_scaling(module: str, config: Mapping[str, Any]) -> float:
    """alpha / r (LoRA) or alpha / sqrt(r) (rsLoRA, arXiv:2312.03732), patterns applied."""
    rank = module_rank(module, config)
    alpha = float(_of_pattern("alpha_pattern", module, config, config["lora_alpha"]))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_pattern(field: str, module: str, config: Mapping[str, Any], default: float) -> float:
    """PEFT's rule: a pattern is a regex for the end of the module's path, and the first that fits wins."""
    for pattern, value in (config.get(field) or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return float(value)
    return default


# Texts


def corrupt(headline: str, problems: Iterable[str], next_step: str) -> AdapterCorruptError:
    """The error that carries all problems of one folder."""
    lines = list(problems)
    count = f"{len(lines)} problem{'s' if len(lines) != 1 else ''}"
    return AdapterCorruptError(f"{headline} ({count}):\n{indented(lines)}\n{next_step}")


def indented(problems: list[str]) -> str:
    """One line per problem, the first eight of them and a count."""
    left = len(problems) - _MAX_LINES
    return "\n".join(
        [*(f"  {line}" for line in problems[:_MAX_LINES]), *([f"  and {left} more"] if left > 0 else [])]
    )
