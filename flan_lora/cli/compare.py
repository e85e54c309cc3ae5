"""``flan-lora compare``: the bare base against adapters, and saved answers against each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flan_lora.adapters.stores import find_store, shown_root, stores
from flan_lora.cli.options import (
    adapters_dir_option,
    data_option,
    json_option,
    role_of,
    split_option,
)
from flan_lora.cli.output import print_json, print_table
from flan_lora.cli.serving import columns_of, columns_option

if TYPE_CHECKING:
    from flan_lora.adapters.store import Store
    from flan_lora.compare.comparison import Comparison
    from flan_lora.compare.results import Results
    from flan_lora.data.sources import DataSource


@click.command()
@click.argument("adapter_name", metavar="[ADAPTER]", default="emotion")
@click.option("--all", "every", is_flag=True, help="Compare every published adapter with its base, one by one.")
@click.option(
    "--with",
    "others",
    metavar="[NAME=]RUN_OR_FILE",
    multiple=True,
    help="Add saved answers: predictions (.jsonl), a run's folder or id, another report's folder. Repeatable. "
    "Base and adapter are not run again when the report has their answers to these rows.",
)
@click.option("--base", metavar="BASE", help="The base to load; the adapter must fit it. [default: the adapter's]")
@data_option
@columns_option
@split_option
@click.option("--rows", "max_rows", type=click.IntRange(min=2), help="A seeded sample of the rows. [default: all]")
@click.option("--table-only", is_flag=True, help="Draw no pictures and write no page; needs no matplotlib.")
@click.option(
    "--reports-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("reports"),
    show_default=True,
    help="Answers, page and pictures go to <reports-dir>/<base>-<adapter>.",
)
@adapters_dir_option
@json_option
def compare(
    adapter_name: str,
    every: bool,
    others: tuple[str, ...],
    base: str | None,
    data_spec: str | None,
    overrides: tuple[str, ...],
    split: str | None,
    max_rows: int | None,
    table_only: bool,
    reports_dir: Path,
    adapters_dir: Path,
    as_json: bool,
) -> None:
    """Compare the bare base with ADAPTER on the same rows.

    Without ADAPTER: emotion. The base is asked in the wording that does best on validation rows; of a file of
    yours, all other rows are scored. --set names your columns, e.g. --set data.columns.text=body. The report holds
    confusion matrices, calibration, latency, and the rows that fine-tuning fixed and broke.
    """
    from flan_lora.data.sources import open_source

    if not table_only:
        from flan_lora.adapters.figures import check_matplotlib

        check_matplotlib()  # before the work, not after it
    columns_of(overrides)
    source = open_source(data_spec)
    role = role_of(split, source)
    chosen = _published(adapters_dir, base) if every else [find_store(adapter_name, adapters_dir, base)]
    summaries = []
    for store, name in chosen:
        options: dict[str, Any] = {
            "base": base,
            "role": role,
            "max_rows": max_rows,
            "reuse": bool(others),
            "overrides": overrides,
        }
        results, folder = _compare_one(store, name, source, reports_dir, others, options, quiet=as_json)
        if not as_json:
            _print_comparison(results)
        if not table_only:
            from flan_lora.compare.report import write_report

            path = write_report(folder, results)
            click.echo(f"\n{path}", err=as_json)
        summaries.append(_summary(results))
    if as_json:
        print_json(summaries if every else summaries[0])


def _compare_one(
    store: Store,
    name: str,
    source: DataSource,
    reports_dir: Path,
    others: tuple[str, ...],
    options: dict[str, Any],
    *,
    quiet: bool,
) -> tuple[Results, Path]:
    """Answer where needed, then read everything back from the report's folder."""
    from flan_lora.compare.results import find_answers, read_results
    from flan_lora.compare.run import report_folder, run_comparison
    from flan_lora.system.files import check_writable
    from flan_lora.tasks import get_task

    stored = store.open(name)
    folder = report_folder(reports_dir, stored)
    task = get_task(stored.manifest.task)
    found = [find_answers(spec, task, runs_dir=Path("runs"), base_slug=store.root.name) for spec in others]
    check_writable(folder)  # before the work, not after it
    run_comparison(stored, source, folder, echo=lambda line: click.echo(line, err=quiet), **options)
    return read_results(folder, found), folder


def _published(adapters_dir: Path, base: str | None) -> list[tuple[Store, str]]:
    """Every sound adapter; an error when there is none."""
    from flan_lora.adapters.validation import StoredAdapter
    from flan_lora.errors import AdapterError

    found = [(s, i.name) for s in stores(adapters_dir, base) for i in s.list() if isinstance(i, StoredAdapter)]
    if not found:
        raise AdapterError(
            f"there is nothing to compare under {shown_root(adapters_dir)}.\nTrain one: flan-lora train RECIPE"
        )
    return found


def _print_comparison(results: Results) -> None:
    """Scores side by side, then a sentence for each predictor."""
    from flan_lora.compare.comparison import verdict

    for comparison in (results.comparison, *(item.comparison for item in results.out_of_domain)):
        click.echo(f"\n{comparison.task.name}: {comparison.num_rows:,} rows, {comparison.origin}\n")
        print_table(*_score_table(comparison))
        click.echo()
        for pair in comparison.pairwise:
            click.echo(verdict(comparison, pair))


def _score_table(comparison: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from flan_lora.compare.comparison import p_text
    from flan_lora.tasks.scorers import number, signed

    header = ["SCORE", *(f"{item.name.upper()} (95 % INTERVAL)" for item in comparison.predictors)]
    is_pair = len(comparison.pairwise) == 1  # more columns would not fit a terminal; the sentences below say it
    rows = []
    for name in comparison.scores[0]:
        found = [scores[name] for scores in comparison.scores]
        cells = [f"{number(s.value)} ({number(s.low)} to {number(s.high)})" for s in found]
        if is_pair:
            gain = comparison.pairwise[0].differences[name]
            cells.append(f"{signed(gain.value)} ({p_text(gain.p_value)})")
        rows.append((name, *cells))
    return (*header, *(["GAIN"] if is_pair else [])), rows


def _summary(results: Results) -> dict[str, Any]:
    """What --json prints: everything but the rows."""
    comparison = results.comparison
    return {
        "record": results.record,
        "num_rows": comparison.num_rows,
        "scores": {i.name: s for i, s in zip(comparison.predictors, comparison.scores, strict=True)},
        "pairwise": [
            {
                "name": pair.name,
                "differences": pair.differences,
                "num_won": len(pair.won),
                "num_lost": len(pair.lost),
                "mcnemar_score": pair.mcnemar_score,
                "mcnemar_p": pair.mcnemar_p,
            }
            for pair in comparison.pairwise
        ],
    }
