"""``flan-lora data``: look at the data as the model will see it, before paying for a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flan_lora.cli.options import json_option, open_recipe, recipe_options
from flan_lora.cli.output import print_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from flan_lora.recipe import Recipe


@click.group()
def data() -> None:
    """The data: prompts as the model sees them, lengths, problems."""


@data.command()
@recipe_options
@click.option("-n", "--examples", "num_examples", type=click.IntRange(0), default=3, show_default=True)
@json_option
def inspect(
    recipe_name: str,
    base: str | None,
    data_spec: str | None,
    overrides: tuple[str, ...],
    num_examples: int,
    as_json: bool,
) -> None:
    """Show prompts as the model sees them, lengths and label balance."""
    from flan_lora.data.inspect import inspect as inspect_data
    from flan_lora.data.sources import open_source

    recipe, tokenizer = _with_tokenizer(open_recipe(recipe_name, base, overrides))
    inspection = inspect_data(recipe, open_source(data_spec), tokenizer, num_examples=num_examples)
    if as_json:
        print_json(inspection)
    else:
        click.echo(inspection)


@data.command()
@recipe_options
@json_option
def lint(
    recipe_name: str, base: str | None, data_spec: str | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Check the data against the limits that training enforces.

    Exit code 1 when one is broken, with the remedy.
    """
    from flan_lora.data.lint import lint as lint_data
    from flan_lora.data.sources import open_source

    recipe, tokenizer = _with_tokenizer(open_recipe(recipe_name, base, overrides))
    report = lint_data(recipe, open_source(data_spec), tokenizer)
    if as_json:
        print_json(report)
        raise click.exceptions.Exit(1 if report.errors else 0)
    report.raise_if_errors()
    click.echo(report)


def _with_tokenizer(recipe: Recipe) -> tuple[Recipe, PreTrainedTokenizerBase]:
    """The recipe as it is on its base, in the script that the tokenizer knows."""
    from flan_lora.base.architecture import for_base
    from flan_lora.base.load import open_config, open_tokenizer

    tokenizer = open_tokenizer(recipe.base)
    return for_base(recipe, open_config(recipe.base), tokenizer), tokenizer
