"""``flan-lora compose``: weights of a mix of published adapters for a new task, from a few rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flan_lora.cli.options import (
    adapters_dir_option,
    data_option,
    json_option,
    set_option,
)
from flan_lora.cli.output import duration, percent, print_json, print_table

if TYPE_CHECKING:
    from flan_lora.composition.compose import Composition


@click.command()
@click.option("--task", "task", required=True, help="Whose prompt, parser and scores: emotion, summarization, ...")
@data_option
@set_option
@click.option(
    "--rows",
    "num_rows",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Rows to search on; 5 to 50.",
)
@click.option("--test-data", metavar="DATA", help="Other rows to compare on. [default: the rest of DATA]")
@click.option(
    "--test-rows", type=click.IntRange(min=1), default=200, show_default=True, help="Rows to compare on, at most."
)
@click.option(
    "--adapter", "names", multiple=True, metavar="NAME", help="Compose only these; repeatable. [default: all]"
)
@click.option("--base", metavar="BASE", help="The base to load; the adapters must fit it. [default: theirs]")
@click.option(
    "--budget", type=click.IntRange(min=1), default=40, show_default=True, help="Evaluations of the search."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the rows and the LoRA.")
@click.option(
    "--few-shot-steps",
    type=click.IntRange(min=0),
    default=40,
    show_default=True,
    help="Steps of the LoRA that is trained on the same rows to compare with; 0 = none.",
)
@click.option("--publish", "publish_as", metavar="NAME", help="Publish the mix as one adapter of this name.")
@click.option(
    "--rank", type=click.IntRange(1, 256), help="Of the published adapter. [default: the parts' largest]"
)
@adapters_dir_option
@json_option
def compose(
    task: str,
    data_spec: str | None,
    overrides: tuple[str, ...],
    num_rows: int,
    test_data: str | None,
    test_rows: int,
    names: tuple[str, ...],
    base: str | None,
    budget: int,
    seed: int,
    few_shot_steps: int,
    publish_as: str | None,
    rank: int | None,
    adapters_dir: Path,
    as_json: bool,
) -> None:
    """Mix published adapters for a new task, from a few labelled rows.

    The weights of the mix are searched without gradients (LoraHub, arXiv:2307.13269), and compared on other rows
    with the best adapter alone, the bare base and a LoRA that is trained on the same few rows.
    Needs: pip install 'flan-lora[compose]'.

    \b
      flan-lora compose --task summarization --data notes.jsonl
      flan-lora generate --adapter '{"summarization": 0.9, "qa": -0.2}' --task summarization "..."
    """
    from flan_lora.composition.compose import ComposeOptions
    from flan_lora.composition.compose import compose as run
    from flan_lora.composition.search import SearchSettings
    from flan_lora.data.sources import open_source

    options = ComposeOptions(num_rows, test_rows, SearchSettings(budget), seed, few_shot_steps, publish_as, rank)
    composition = run(
        task,
        open_source(data_spec),
        adapters_dir=_one_store(adapters_dir, base),
        names=names,
        base=base,
        held_out_source=None if test_data is None else open_source(test_data),
        overrides=overrides,
        options=options,
        echo=lambda line: click.echo(line, err=True),
    )
    if as_json:
        print_json(composition)
    else:
        _print(composition)


def _one_store(adapters_dir: Path, base: str | None) -> Path:
    """Where the adapters of the one base lie."""
    from flan_lora.adapters.stores import stores
    from flan_lora.errors import AdapterError

    found = [store.root for store in stores(adapters_dir, base) if store.list()]
    if not found:
        raise AdapterError(f"no adapters under {adapters_dir} to compose. Train some: flan-lora train RECIPE")
    if len(found) > 1:
        bases = ", ".join(root.name for root in found)
        raise AdapterError(f"{len(found)} bases have adapters: {bases}.\nSay which with --base.")
    return found[0]


def _print(composition: Composition) -> None:
    """The mix, the scores and what was published."""
    found, key = composition.search, composition.select_on
    click.echo(f"searched {len(found.evaluated)} mixes in {duration(composition.search_seconds)}")
    print_table(
        ("ADAPTER", "WEIGHT"), [(name, f"{weight:.3f}") for name, weight in composition.adapter_mix.items()]
    )
    if composition.compared:
        click.echo(f"\n{key} on {composition.num_held_out:,} rows that the search has not seen")
        print_table(
            ("WHO", "VALUE", "95 % INTERVAL", "AGAINST THE MIX", "95 % INTERVAL"), _score_rows(composition)
        )
    else:
        click.echo("\nNo rows are left to compare on: give --test-data, or search on fewer (--rows).")
    if (merged := composition.merged) is not None:
        name, error = merged.largest_error
        click.echo(
            f"\nmerged to rank {merged.rank}: {percent(merged.relative_error)} of the update is lost, at most "
            f"{percent(error)} of a linear's ({name}); {percent(merged.equal_share)} of the answers are those "
            "of the mix\n"
            f"published {composition.published}"
        )
    if composition.adapter_mix:
        mix = json.dumps(dict(composition.adapter_mix))
        click.echo(
            f"\nserve it\n  flan-lora generate --adapter '{mix}' --task {composition.task} ...\n"
            f'  POST /v1/completions  {{"model": "{composition.base}", "adapter_mix": {mix}, '
            f'"task": "{composition.task}", ...}}'
        )


def _score_rows(composition: Composition) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for each in composition.compared:
        score, gain = each.scores[composition.select_on], each.against_mix.get(composition.select_on)
        beside = ("-", "-") if gain is None else (f"{gain.value:+.4g}", f"{gain.low:+.4g} to {gain.high:+.4g}")
        rows.append((each.name, f"{score.value:.4g}", f"{score.low:.4g} to {score.high:.4g}", *beside))
    return rows
