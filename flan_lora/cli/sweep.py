"""``flan-lora sweep``: many trainings of one recipe, and which values of its fields score best."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flan_lora.cli.options import json_option, open_recipe, recipe_options
from flan_lora.cli.output import print_json, print_table
from flan_lora.errors import FlanLoraError

if TYPE_CHECKING:
    from flan_lora.training.sweep.results import Results


@click.command()
@recipe_options
@click.option("--grid", "grids", metavar="KEY=V,V", multiple=True, help="Try each of these values. Repeatable.")
@click.option(
    "--log",
    "logs",
    metavar="KEY=LOW..HIGH",
    multiple=True,
    help="Draw from a range, evenly in the logarithm: training.learning_rate=1e-4..3e-3. Repeatable.",
)
@click.option(
    "--uniform", "uniforms", metavar="KEY=LOW..HIGH", multiple=True, help="Draw from a range. Repeatable."
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Draws of the ranges for each combination of the grid.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draws.")
@click.option("--no-early-stopping", is_flag=True, help="Train every trial to its end.")
@click.option(
    "--reduction-factor",
    type=click.IntRange(min=2),
    default=3,
    show_default=True,
    help="Early stopping (ASHA): one of so many trials goes on at each rung.",
)
@click.option(
    "--min-evaluations",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Early stopping: evaluations before the first rung.",
)
@click.option(
    "--ray", "use_ray", is_flag=True, help="Train on the workers of a Ray cluster, or on this machine's."
)
@click.option(
    "--workers",
    "num_workers",
    type=click.IntRange(min=1),
    help="With --ray: processes, each with a base. [default: one a GPU, else one per 4 processors]",
)
@click.option(
    "--sweep-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Journal, run folders and results. [default: runs/sweeps/<base>/<name>]",
)
@json_option
def sweep(
    recipe_name: str,
    base: str | None,
    data_spec: str | None,
    overrides: tuple[str, ...],
    grids: tuple[str, ...],
    logs: tuple[str, ...],
    uniforms: tuple[str, ...],
    samples: int,
    seed: int,
    no_early_stopping: bool,
    reduction_factor: int,
    min_evaluations: int,
    use_ray: bool,
    num_workers: int | None,
    sweep_dir: Path | None,
    as_json: bool,
) -> None:
    """Train RECIPE with many values of some fields, and rank them.

    The score is the recipe's own, on validation.

    \b
      flan-lora sweep emotion --grid lora.rank=4,16 --log training.learning_rate=1e-4..3e-3 --samples 4

    A sweep that was cut off goes on when the same command is given again; more --samples add trials.
    """
    from flan_lora.base.load import base_slug
    from flan_lora.data.sources import open_source
    from flan_lora.training.sweep import run
    from flan_lora.training.sweep.dials import parse_grid, parse_range
    from flan_lora.training.sweep.ray_workers import Resources
    from flan_lora.training.sweep.study import Stopping

    if num_workers is not None and not use_ray:
        raise click.UsageError("--workers are those of a Ray cluster: give --ray too.")
    recipe = open_recipe(recipe_name, base, overrides)
    dials = [parse_grid(text) for text in grids]
    dials += [parse_range("log", text) for text in logs] + [parse_range("uniform", text) for text in uniforms]
    results = run.sweep(
        recipe,
        dials,
        open_source(data_spec),
        sweep_dir=sweep_dir or Path("runs") / "sweeps" / base_slug(recipe.base) / recipe.name,
        sampling=run.Sampling(samples, seed),
        stopping=None if no_early_stopping else Stopping(min_evaluations, reduction_factor),
        ray=Resources(num_workers) if use_ray else None,
        echo=lambda line: click.echo(line, err=as_json),
    )
    if as_json:
        print_json({"select_on": results.select_on, "trials": results.trials, "best_recipe": results.best_path})
    else:
        _print(results)
    if results.best is None:
        raise FlanLoraError(f"no trial of {len(results.trials)} was trained to its end; see their errors above.")


def _print(results: Results) -> None:
    """The table, the best first, and the way on."""
    from flan_lora.tasks.scorers import number
    from flan_lora.training.sweep.dials import shown_value

    keys = list(results.trials[0].values)
    rows = [
        (
            trial.number,
            *(shown_value(trial.values[key]) for key in keys),
            "-" if trial.score is None else number(trial.score),
            trial.num_evaluations,
            trial.status,
        )
        for trial in results.trials
    ]
    print_table(("TRIAL", *keys, results.select_on.upper(), "EVALUATIONS", "STATUS"), rows)
    for trial in results.trials:
        if trial.error:
            click.echo(f"trial {trial.number} failed: {trial.error}")
    if results.best is not None:
        click.echo(f"the best as a recipe: flan-lora train {results.best_path}")
