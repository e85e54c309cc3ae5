"""``flan-lora train``: the main job, and its dry run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from flan_lora.cli.options import adapters_dir_option, json_option, open_recipe, recipe_options
from flan_lora.cli.output import print_json


@click.command()
@recipe_options
@click.option("--name", help="Publish under this name instead of the recipe's.")
@click.option("--dry-run", is_flag=True, help="Print steps, tokens, truncated share and memory; load no weights.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of the run folder.")
@click.option(
    "--report-to",
    type=click.Choice(["none", "tensorboard", "wandb", "mlflow"]),
    default="none",
    show_default=True,
    help="Also send the run to a tracker; the JSONL log is always written.",
)
@click.option(
    "--run-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Checkpoints and logs of this run. [default: runs/<base>/<name>]",
)
@adapters_dir_option
@json_option
def train(
    recipe_name: str,
    base: str | None,
    data_spec: str | None,
    overrides: tuple[str, ...],
    name: str | None,
    dry_run: bool,
    resume: bool,
    report_to: str,
    run_dir: Path | None,
    adapters_dir: Path,
    as_json: bool,
) -> None:
    """Train, evaluate and publish the adapter of RECIPE."""
    from flan_lora.base.load import base_slug
    from flan_lora.data.sources import open_source
    from flan_lora.training.checks import check_places
    from flan_lora.training.factory import build_adapter, plan

    if name is not None:
        overrides = (*overrides, f"name={json.dumps(name)}")
    recipe = open_recipe(recipe_name, base, overrides)
    source = open_source(data_spec)
    run_dir = run_dir or Path("runs") / base_slug(recipe.base) / recipe.name
    if dry_run:
        planned = plan(recipe, source)
        check_places(recipe, adapters_dir, run_dir, planned.here.num_trainable)
        print_json({**vars(planned.here), "cards": planned.cards}) if as_json else click.echo(planned)
        return
    published = build_adapter(
        recipe,
        source,
        adapters_dir=adapters_dir,
        run_dir=run_dir,
        resume=resume,
        report_to=report_to,
        echo=lambda line: click.echo(line, err=as_json),
    )
    if as_json:
        print_json({"path": published})
