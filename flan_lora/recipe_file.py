"""A YAML recipe on disk, or one that ships: found, read, overrides and the values for its base merged in."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from flan_lora.errors import RecipeError
from flan_lora.recipe import BaseSection, Recipe, parse_recipe
from flan_lora.system.documents import DocumentError, parse_yaml
from flan_lora.system.files import read_regular
from flan_lora.system.schema import indented
from flan_lora.system.text import shown, suggest

_MAX_FILE_BYTES = 400_000


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a YAML recipe, or a recipe by name from the recipes that ship (`emotion`), and apply overrides.

    What the file says under ``for_base`` about the base in use is merged in, and is part of the result.

    Args:
        path: a file, or the bare name of one of `known_recipes`.
        overrides: ``key.path=value`` strings; values are YAML (``training.learning_rate=3e-5``).

    Raises:
        RecipeError: the file is missing or invalid; the text lists every problem of the file.
    """
    file = find_recipe(path)
    values = _read_yaml(file)
    if not isinstance(values, dict):
        raise RecipeError(f"{file} is not a recipe: expected a mapping of sections, got {type(values).__name__}.")
    overrides = list(overrides)
    for_base = values.pop("for_base", {})
    wanted = apply_overrides(values, overrides)
    if not isinstance(for_base, dict):
        raise RecipeError(f"{file}: for_base: expected base.model -> sections, got {shown(for_base)}.")
    base = wanted.get("base", {})
    model = base.get("model", BaseSection().model) if isinstance(base, dict) else None
    over = for_base.get(model, {}) if isinstance(model, str) else {}
    if not isinstance(over, dict):
        raise RecipeError(f"{file}: for_base.{model}: expected sections, got {shown(over)}.")
    return parse_recipe(apply_overrides(_merged(values, over), overrides), where=str(file))


def _read_yaml(file: Path) -> Any:
    """A recipe's file as plain values."""
    try:
        return parse_yaml(read_regular(file, _MAX_FILE_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise RecipeError(f"{file} cannot be read: {error}.\nGive a YAML file that you may read.") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file} is not UTF-8: {error.reason} at byte {error.start}.") from error
    except DocumentError as error:
        raise RecipeError(f"{file} is not readable as YAML:\n{indented(error.problems)}") from error


def known_recipes() -> dict[str, Path]:
    """Recipe name -> file: those of the checkout or the wheel, then ./recipes, which wins."""
    package = Path(__file__).parent
    folders = (package.parent / "recipes", package / "recipes", Path("recipes"))
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.yaml"))}


def find_recipe(path: str | Path) -> Path:
    """The file a user means: as given, or a known recipe by its name."""
    given = Path(path)
    with suppress(OSError, ValueError):  # longer than a name may be, or with a null character: no file at any rate
        if given.is_file():
            return given
    known = known_recipes()
    if str(path) in known:
        return known[str(path)]
    raise RecipeError(
        f"no recipe at {shown(str(path))}{suggest(str(path), known)}.\n"
        "Give a YAML file, or the name of a recipe that ships: flan-lora recipe list"
    )


def apply_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of ``values`` with each ``a.b=c`` set; c is read as YAML."""
    result = copy.deepcopy(dict(values))
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not all(part.strip() for part in key.split(".")):
            raise RecipeError(f"--set {override}: expected key.path=value, e.g. training.learning_rate=3e-5.")
        *sections, leaf = key.strip().split(".")
        node = result
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise RecipeError(f"--set {override}: {section!r} is a value, not a section.")
        try:
            node[leaf] = parse_yaml(text)
        except DocumentError as error:
            raise RecipeError(
                f"--set {shown(override)}: the value is not readable as YAML. Quote it, or check its brackets.\n"
                f"{indented(error.problems)}"
            ) from error
    return result


def _merged(values: Any, over: Any) -> Any:
    """Mappings merged key by key; of anything else the second."""
    if not isinstance(values, dict) or not isinstance(over, dict):
        return over
    return values | {key: _merged(values.get(key), value) for key, value in over.items()}
