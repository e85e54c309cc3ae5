"""``flan-lora train-all``: several recipes in turn, resumable where it stopped, one table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flan_lora.cli.options import adapters_dir_option, base_option, data_option, open_recipe, set_option
from flan_lora.cli.output import duration, print_table, size
from flan_lora.errors import FlanLoraError

if TYPE_CHECKING:
    from flan_lora.data.sources import DataSource
    from flan_lora.recipe import Recipe


@dataclass(frozen=True)
class Result:
    """What became of one recipe."""

    name: str
    status: str
    """trained, resumed, unchanged, or failed."""
    path: Path | None = None
    """The published adapter."""


@click.command("train-all")
@click.argument("recipe_names", metavar="[RECIPE]...", nargs=-1)
@base_option
@data_option
@set_option
@click.option("--force", is_flag=True, help="Train those again whose adapter is published and unchanged.")
@click.option(
    "--runs-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Checkpoints and logs go to <runs-dir>/<base>/<name>.",
)
@adapters_dir_option
def train_all(
    recipe_names: tuple[str, ...],
    base: str | None,
    data_spec: str | None,
    overrides: tuple[str, ...],
    force: bool,
    runs_dir: Path,
    adapters_dir: Path,
) -> None:
    """Train and publish the adapters of several recipes. [default: every recipe that ships]

    A recipe whose adapter is published, of the same recipe, rows and base, is left alone; a run that was cut off
    goes on from its last checkpoint. One that fails does not stop the others.
    """
    from flan_lora.data.sources import open_source
    from flan_lora.recipe_file import known_recipes

    names = recipe_names or tuple(sorted(known_recipes()))
    recipes = [open_recipe(name, base, overrides) for name in names]  # every mistake before the first hour
    source = open_source(data_spec)
    results = []
    for number, recipe in enumerate(recipes, start=1):
        click.echo(f"== {recipe.name} ({number} of {len(recipes)}) ==")
        results.append(_train_one(recipe, source, runs_dir, adapters_dir, force=force))
        click.echo()
    _print_summary(results)
    failed = [result.name for result in results if result.status == "failed"]
    if failed:
        raise FlanLoraError(
            f"{len(failed)} of {len(results)} failed: {', '.join(failed)}.\nSee their errors above."
        )


def _train_one(recipe: Recipe, source: DataSource, runs_dir: Path, adapters_dir: Path, *, force: bool) -> Result:
    """Train, resume or leave alone; only Ctrl-C goes further up."""
    from flan_lora.base.load import base_slug
    from flan_lora.training.factory import build_adapter, is_published, is_resumable

    slug = base_slug(recipe.base)
    run_dir = runs_dir / slug / recipe.name
    try:
        if not force and is_published(recipe, source, adapters_dir):
            click.echo("unchanged: published, of the same recipe, rows and base")
            return Result(recipe.name, "unchanged", adapters_dir / slug / recipe.name)
        resume = is_resumable(recipe, source, run_dir)
        if resume:
            click.echo(f"going on in {run_dir}")
        path = build_adapter(
            recipe, source, adapters_dir=adapters_dir, run_dir=run_dir, resume=resume, echo=click.echo
        )
    except FlanLoraError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise
        click.echo(f"failed: {error}", err=True)
        return Result(recipe.name, "failed")
    return Result(recipe.name, "resumed" if resume else "trained", path)


def _print_summary(results: Sequence[Result]) -> None:
    """One line a recipe: the score that picked it, beside what it must beat."""
    header = ("ADAPTER", "STATUS", "SCORE", "ADAPTER (95 % INTERVAL)", "BARE BASE", "TRIVIAL", "TRAINED", "SIZE")
    print_table(header, [_row(result) for result in results])


def _row(result: Result) -> tuple[str, ...]:
    from flan_lora.adapters.manifest import load, load_metrics

    if result.path is None:
        return (result.name, result.status, *("-",) * 6)
    metrics, manifest = load_metrics(result.path / "metrics.json"), load(result.path / "manifest.json")
    key = metrics.select_on
    own = metrics.adapter[key]
    trivial = [scores[key].value for scores in metrics.baselines.values() if key in scores]
    return (
        result.name,
        result.status,
        key,
        f"{own.value:.4g} ({own.low:.4g} to {own.high:.4g})",
        f"{metrics.base[key].value:.4g}" if key in metrics.base else "-",
        f"{max(trivial):.4g}" if trivial else "-",
        duration(manifest.training.seconds),
        size(manifest.files["adapter_model.safetensors"].size_bytes),
    )
