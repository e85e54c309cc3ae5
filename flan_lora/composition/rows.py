"""The rows of a composition: a few to search on, and others, never among those, to compare on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flan_lora.adapters.validation import StoredAdapter
from flan_lora.data.mixing import sample
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import Split, load_split, load_whole_file
from flan_lora.recipe import BaseSection, Recipe, parse_recipe
from flan_lora.recipe_file import apply_overrides, known_recipes, load_recipe
from flan_lora.tasks import get_task

_WHERE = "the task's recipe with --set"


@dataclass(frozen=True)
class FewRows:
    """Rows of a task that no adapter was trained on."""

    search: Split
    """What weights are searched on, and the few-shot adapter learns from."""
    held_out: Split | None
    """What is compared on; None where there are no others."""


def task_recipe(
    task: str, base: BaseSection, adapters: Sequence[StoredAdapter], overrides: Sequence[str] = ()
) -> Recipe:
    """How the rows of a task are read, asked and answered: as by its published adapter, else as its recipe says.

    Columns, auxiliary sources and augmentation of that adapter's own rows are left out. Of several adapters of the
    task it is that of the task's name, else the first by name, which is whose limits a mix is served with.

    Raises:
        RecipeError: no adapter and no recipe has this task, or an override is not valid.
    """
    own = [item for item in adapters if item.manifest.task == task]
    chosen = min(own, key=lambda item: (item.name != task, item.name), default=None)
    found = _own_recipe(task, base) if chosen is None else chosen.recipe
    data = found.data.model_copy(update={"columns": {}, "encoding": None, "also": (), "augment": ()})
    values = found.model_copy(update={"base": base, "data": data}).resolved()
    return parse_recipe(apply_overrides(values, overrides), where=_WHERE)


def _own_recipe(task: str, base: BaseSection) -> Recipe:
    """The recipe of the task's name, or of a task that has none (one of the user's) the defaults."""
    get_task(task)
    if task in known_recipes():
        return load_recipe(task, [f"base.model={json.dumps(base.model)}"])
    return parse_recipe({"name": task, "task": task, "data": {"dataset": "none"}}, where=_WHERE)


def read_rows(
    recipe: Recipe,
    source: DataSource,
    *,
    num_rows: int,
    max_held_out: int | None,
    seed: int,
    held_out_source: DataSource | None = None,
) -> FewRows:
    """A seeded sample of rows to search on, and the rest.

    Of a user's file both are its rows, as far as they go. Of a data set the search takes rows of train, and the
    others are those of test. A held-out row whose prompt is one of the search is left out.

    Args:
        num_rows: to search on.
        max_held_out: a seeded sample of the others, for a quick look; None: all.
        held_out_source: other rows to compare on; of a file all of them.

    Raises:
        DataError: rows cannot be found, read or used by the task.
    """
    seeded = recipe.model_copy(update={"training": recipe.training.model_copy(update={"seed": seed})})
    search = _rows(seeded, source, "train", num_rows)
    others = _rows(seeded, held_out_source or source, "test", None)
    known = {str(example.prompt) for example in search.examples}
    new = [example for example in others.examples if str(example.prompt) not in known]
    kept = tuple(sample(new, max_held_out, seed))
    return FewRows(search, replace(others, examples=kept, num_rows=len(kept)) if kept else None)


def _rows(recipe: Recipe, source: DataSource, role: str, max_rows: int | None) -> Split:
    if source.kind == "file":
        return load_whole_file(recipe, source, max_rows=max_rows)
    return load_split(recipe, "train" if role == "train" else "test", source, max_rows=max_rows)
