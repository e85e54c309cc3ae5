"""Options that several commands share, and what they stand for. Knows click and names, imports the rest late."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from flan_lora.data.sources import DataSource
    from flan_lora.recipe import Recipe, Role

Command = TypeVar("Command", bound=Callable[..., object])


class AdapterRoot(click.Path):
    """A folder, or a URL, which stands for its local mirror."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and "://" in value:
            from flan_lora.adapters.remote_store import adapter_root

            return adapter_root(value)
        return super().convert(value, param, ctx)


recipe_argument = click.argument("recipe_name", metavar="RECIPE")
adapter_argument = click.argument("adapter_name", metavar="ADAPTER")

base_option = click.option("--base", metavar="BASE", help="`mini`, a Hub id or a folder, not the recipe's base.")
store_base_option = click.option(
    "--base", metavar="BASE", help="The base whose adapter is meant, where several have one of that name."
)
data_option = click.option(
    "--data",
    "data_spec",
    metavar="DATA",
    help="`sample`, `hub`, a data folder, or your own CSV/JSONL/Parquet. [default: FLAN_LORA_DATA, else the Hub]",
)
set_option = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a field of the recipe, e.g. --set lora.rank=8. Repeatable.",
)
split_option = click.option(
    "--split",
    type=click.Choice(["test", "validation", "all"]),
    help="Rows to score. [default: all of a file of yours, else test]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
adapters_dir_option = click.option(
    "--adapters-dir",
    type=AdapterRoot(),
    default="adapters",
    show_default=True,
    help="Where adapters are published, as <adapters-dir>/<base>/<name>: a folder, s3://, gs://, hf://, ...",
)


def recipe_options(command: Command) -> Command:
    """RECIPE --base --data --set: what every command over a recipe's data takes."""
    for decorate in (set_option, data_option, base_option, recipe_argument):
        command = decorate(command)
    return command


def open_recipe(name: str, base: str | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe and put ``base`` in the place of its base.

    The revision that the recipe pins belongs to the recipe's own base, so another base drops it (``--set
    base.revision=...`` pins the new one).
    """
    from flan_lora.recipe_file import load_recipe

    recipe = load_recipe(name, overrides)
    if base is None or base == recipe.base.model:
        return recipe
    return load_recipe(name, ["base.revision=null", *overrides, f"base.model={json.dumps(base)}"])


def role_of(split: str | None, source: DataSource) -> Role | None:
    """None: every row of the user's file."""
    if split is None:
        return None if source.kind == "file" else "test"
    if split == "all" and source.kind != "file":
        raise click.UsageError(
            "--split all is for a file of yours (--data FILE); a data set has test and validation."
        )
    return None if split == "all" else cast("Role", split)
