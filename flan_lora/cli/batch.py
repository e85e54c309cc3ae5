"""``flan-lora batch``: a file of requests to a file of answers."""

from __future__ import annotations

from collections.abc import Mapping
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
from flan_lora.serving.open_router import open_adapter

if TYPE_CHECKING:
    from flan_lora.serving.router import Router

FILE = click.Path(dir_okay=False, path_type=Path)
_MAX_SHOWN_ERRORS = 20


@click.command(cls=ServingCommand)
@click.argument("source", metavar="IN", type=FILE)
@click.argument("target", metavar="OUT", type=FILE)
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
@adapters_dir_option
def batch(
    source: Path,
    target: Path,
    adapter_name: str,
    base: str | None,
    max_proposals: int | None,
    scores: bool,
    overrides: tuple[str, ...],
    params: Mapping[str, Any],
    adapters_dir: Path,
) -> None:
    """Answer every line of the JSONL file IN into the JSONL file OUT.

    A line is a text in quotes or an object of the task's inputs, such as {"text": "..."}; "adapter" in it names
    another adapter for this line, "parameters" other ways to generate, such as {"temperature": 0.7}. With
    --propose it needs the passage alone. Answers keep the order of the lines.
    A line that cannot be answered gets its error, and the exit code is 1. After a kill, the same command goes on
    where it stopped.
    """
    if max_proposals is not None and (scores or params):
        raise click.UsageError(
            "--propose scores by itself, as the adapter was evaluated: no other option beside it."
        )
    columns = columns_of(overrides)
    router, name = open_adapter(adapter_name, adapters_dir, base)
    run_batch(
        router, name, source, target, columns=columns, scores=scores, max_proposals=max_proposals, params=params
    )


def run_batch(
    router: Router,
    adapter: str,
    source: Path,
    target: Path,
    *,
    columns: Mapping[str, str],
    scores: bool,
    max_proposals: int | None,
    params: Mapping[str, Any],
) -> None:
    """Answer a file and say how it went. Raises DataError when a line has no answer."""
    from flan_lora.errors import DataError
    from flan_lora.serving.batch_file import BatchOptions, answer_batch
    from flan_lora.serving.completion import AUTO

    identity = "" if adapter == AUTO else router.identity(adapter)
    options = BatchOptions(adapter, scores, max_proposals, columns, params)
    report = answer_batch(router, source, target, options, identity=identity, progress=True)
    resumed = f", {report.num_resumed:,} lines of them from before" if report.num_resumed else ""
    click.echo(f"{report.num_answers:,} answers in {target}{resumed}", err=True)
    if report.errors:
        shown = "\n".join(f"  {error}" for error in report.errors[:_MAX_SHOWN_ERRORS])
        num_more = len(report.errors) - _MAX_SHOWN_ERRORS
        more = f"\n  and {num_more:,} more" if num_more > 0 else ""
        raise DataError(f"{len(report.errors):,} lines have no answer ({target} says why):\n{shown}{more}")
