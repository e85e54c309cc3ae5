"""``flan-lora eval``: score a published adapter again, or the bare base on its rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flan_lora.adapters.stores import find_store
from flan_lora.cli.options import (
    adapter_argument,
    adapters_dir_option,
    data_option,
    json_option,
    role_of,
    set_option,
    split_option,
)
from flan_lora.cli.output import duration, print_json, print_table

if TYPE_CHECKING:
    from flan_lora.evaluation.evaluate import Evaluation


@click.command("eval")
@adapter_argument
@click.option("--base", metavar="BASE", help="The base to load; the adapter must fit it. [default: the adapter's]")
@data_option
@set_option
@split_option
@click.option("--base-only", is_flag=True, help="Score the bare base, without the adapter.")
@click.option(
    "--predictions",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write every prediction to this JSONL file.",
)
@adapters_dir_option
@json_option
def evaluate(
    adapter_name: str,
    base: str | None,
    data_spec: str | None,
    overrides: tuple[str, ...],
    split: str | None,
    base_only: bool,
    predictions: Path | None,
    adapters_dir: Path,
    as_json: bool,
) -> None:
    """Score ADAPTER on its own rows or a file of yours, with 95 % intervals.

    Every row of your file is scored; test and validation are those of its division for training. --set names your
    columns as for training, e.g. --set data.columns.text=body.
    """
    from flan_lora.data.sources import open_source
    from flan_lora.evaluation.predictions import write_predictions
    from flan_lora.system.files import check_writable_file
    from flan_lora.training.reevaluate import reevaluate

    if predictions is not None:
        check_writable_file(predictions)  # before the work, not after it
    store, name = find_store(adapter_name, adapters_dir, base)
    stored, source = store.open(name), open_source(data_spec)
    role = role_of(split, source)
    evaluation = reevaluate(stored, source, role=role, base=base, base_only=base_only, overrides=overrides)
    if as_json:
        print_json({key: value for key, value in vars(evaluation).items() if key != "predictions"})
    else:
        _print_scores(evaluation, source.description if role is None else evaluation.split)
    if predictions is not None:  # last: a disk that is full by now does not take the scores
        write_predictions(predictions, evaluation.predictions)


def _print_scores(evaluation: Evaluation, place: str) -> None:
    click.echo(f"{evaluation.task}, {evaluation.num_rows:,} rows of {place}, {duration(evaluation.seconds)}")
    print_table(
        ("SCORE", "VALUE", "95 % INTERVAL"),
        [(key, f"{s.value:.4g}", f"{s.low:.4g} to {s.high:.4g}") for key, s in evaluation.scores.items()],
    )
    for note in vars(evaluation).get("notes", ()):
        click.echo(note)
