"""``flan-lora batch``: a file of requests to a file of answers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flan_lora.cli.generation import generation_options
from flan_lora.cli.options import adapters_dir_option
from flan_lora.cli.serving import (
    ServingCommand,
    adapter_base_option,
    adapter_option,
    columns_of,
    columns_option,
    scores_option,
)
from flan_lora.errors import DataError
from flan_lora.serving.open_router import find_adapter, open_adapter
from flan_lora.system.ray_cluster import check_ray

if TYPE_CHECKING:
    from flan_lora.serving.batch_answers import BatchOptions
    from flan_lora.serving.batch_file import BatchReport
    from flan_lora.serving.router import Router

FILE = click.Path(dir_okay=False, path_type=Path)
_MAX_SHOWN_ERRORS = 20


@click.command(cls=ServingCommand)
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@adapter_option
@adapter_base_option
@click.option(
    "--propose",
    "max_proposals",
    type=click.IntRange(min=1),
    metavar="N",
    help="question-generation: up to N questions with their answers about each line, surest first.",
)
@scores_option
@columns_option
@generation_options
@click.option("--ray", "on_ray", is_flag=True, help="By actors on the cluster that RAY_ADDRESS names, or here.")
@click.option("--actors", type=click.IntRange(min=1), default=1, show_default=True, help="Engines, with --ray.")
@click.option("--actor-cpus", type=click.FloatRange(min=0), default=1.0, show_default=True, help="With --ray.")
@click.option("--actor-gpus", type=click.FloatRange(min=0), default=0.0, show_default=True, help="With --ray.")
@adapters_dir_option
def batch(
    source: str,
    target: str,
    adapter_name: str,
    base: str | None,
    max_proposals: int | None,
    scores: bool,
    overrides: tuple[str, ...],
    params: Mapping[str, Any],
    on_ray: bool,
    actors: int,
    actor_cpus: float,
    actor_gpus: float,
    adapters_dir: Path,
) -> None:
    """Answer every line of the file IN into the file OUT.

    A line is a text in quotes or an object of the task's inputs, such as {"text": "..."}; "adapter" in it names
    another adapter for this line, "parameters" other ways to generate, such as {"temperature": 0.7}. With
    --propose it needs the passage alone. Answers keep the order of the lines.
    IN and OUT may also be tables (.csv, .tsv, .parquet), whose columns are these fields, and both may be URLs that
    fsspec knows, such as s3://bucket/rows.parquet.
    A line that cannot be answered gets its error, and the exit code is 1. After a kill, the same command goes on
    where it stopped.
    """
    if max_proposals is not None and (scores or params):
        raise click.UsageError(
            "--propose scores by itself, as the adapter was evaluated: no other option beside it."
        )
    from flan_lora.serving.batch_answers import BatchOptions

    asked = partial(
        BatchOptions, columns=columns_of(overrides), scores=scores, max_proposals=max_proposals, params=params
    )
    if not on_ray:
        router, name = open_adapter(adapter_name, adapters_dir, base)
        run_batch(router, source, target, asked(name))
        return
    check_ray()
    from flan_lora.serving.batch_file import answer_file
    from flan_lora.serving.ray_batch import Actors, answer_on_ray

    name, identity = find_adapter(adapter_name, adapters_dir, base)
    answer = partial(
        answer_on_ray,
        source=source,
        options=asked(name),
        adapters_dir=adapters_dir,
        base=base,
        actors=Actors(actors, actor_cpus, actor_gpus),
    )
    _say(answer_file(source, target, asked(name), answer, identity=identity, progress=True), target)


def run_batch(router: Router, source: str, target: str, options: BatchOptions) -> None:
    """Answer a file and say how it went. Raises DataError when a line has no answer."""
    from flan_lora.serving.batch_file import answer_batch
    from flan_lora.serving.completion import AUTO

    identity = "" if options.adapter == AUTO else router.identity(str(options.adapter))
    _say(answer_batch(router, source, target, options, identity=identity, progress=True), target)


def _say(report: BatchReport, target: str) -> None:
    resumed = f", {report.num_resumed:,} lines of them from before" if report.num_resumed else ""
    click.echo(f"{report.num_answers:,} answers in {target}{resumed}", err=True)
    if report.errors:
        shown = "\n".join(f"  {error}" for error in report.errors[:_MAX_SHOWN_ERRORS])
        num_more = len(report.errors) - _MAX_SHOWN_ERRORS
        more = f"\n  and {num_more:,} more" if num_more > 0 else ""
        raise DataError(f"{len(report.errors):,} lines have no answer ({target} says why):\n{shown}{more}")
