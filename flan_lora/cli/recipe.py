"""``flan-lora recipe``: list, show, validate, and the JSON Schema for editors."""

from __future__ import annotations

from pathlib import Path

import click

from flan_lora.cli.options import base_option, json_option, open_recipe, recipe_argument, set_option
from flan_lora.cli.output import print_json, print_table


@click.group()
def recipe() -> None:
    """The recipes: what makes each adapter special, as YAML."""


@recipe.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the recipes that ship, and those in ./recipes."""
    from flan_lora.recipe_file import known_recipes, load_recipe

    recipes = {name: load_recipe(file) for name, file in known_recipes().items()}
    if as_json:
        print_json({name: recipe.resolved() for name, recipe in recipes.items()})
        return
    print_table(
        ("RECIPE", "TASK", "DATASET", "RANK", "RATE", "EPOCHS", "BATCH", "SOURCE", "TARGET"),
        [
            (
                name,
                recipe.task,
                f"{recipe.data.dataset} ({recipe.data.config})",
                recipe.lora.rank,
                f"{recipe.training.learning_rate:g}",
                f"{recipe.training.epochs:g}",
                recipe.training.batch_size,
                recipe.data.max_source_tokens,
                recipe.data.max_target_tokens,
            )
            for name, recipe in recipes.items()
        ],
    )


@recipe.command()
@recipe_argument
@base_option
@set_option
@click.option("--resolved", is_flag=True, help="Every field spelled out: what a run and a manifest store.")
@json_option
def show(recipe_name: str, base: str | None, overrides: tuple[str, ...], resolved: bool, as_json: bool) -> None:
    """Print a recipe as it is written, or resolved."""
    from flan_lora.recipe_file import find_recipe

    chosen = open_recipe(recipe_name, base, overrides)
    if as_json:
        print_json(chosen.resolved())
    elif resolved or base or overrides:
        import yaml

        click.echo(yaml.safe_dump(chosen.resolved(), sort_keys=False), nl=False)
    else:
        click.echo(find_recipe(recipe_name).read_text(encoding="utf-8"), nl=False)


@recipe.command()
@click.argument("recipe_names", metavar="[RECIPE]...", nargs=-1)
def validate(recipe_names: tuple[str, ...]) -> None:
    """Check recipes and report every problem of every file.

    Without arguments, those that ship and those in ./recipes.
    """
    from flan_lora.errors import RecipeError
    from flan_lora.recipe_file import known_recipes, load_recipe

    problems = []
    for name in recipe_names or sorted(known_recipes()):
        try:
            click.echo(f"{name}: valid, fingerprint {load_recipe(name).fingerprint()[:8]}")
        except RecipeError as error:
            problems.append(str(error))
    if problems:
        raise RecipeError("\n".join(problems))


@recipe.command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file instead.")
def schema(output: Path | None) -> None:
    """Print the JSON Schema of recipes, for editors."""
    import json

    from flan_lora.recipe import RecipeFile
    from flan_lora.system.files import replace_file

    text = json.dumps(RecipeFile.model_json_schema(), indent=2)
    if output is None:
        click.echo(text)
    else:
        replace_file(output, f"{text}\n".encode())
