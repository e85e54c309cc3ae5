"""``flan-lora compare``: the bare base against adapters, and saved answers against each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flan_lora.cli.options import adapters_dir_option, data_option, find_store, json_option, stores
from flan_lora.cli.output import print_json, print_table

if TYPE_CHECKING:
    from flan_lora.adapters.store import Store
    from flan_lora.compare.comparison import Comparison
    from flan_lora.compare.results import Archive
    from flan_lora.recipe import Role


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
@click.option("--split", type=click.Choice(["test", "validation"]), default="test", show_default=True)
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
    split: Role,
    max_rows: int | None,
    table_only: bool,
    reports_dir: Path,
    adapters_dir: Path,
    as_json: bool,
) -> None:
    """Compare the bare base with ADAPTER on the same rows.

    Without ADAPTER: emotion. The base is asked in the wording that does best on validation rows. The report holds
    confusion matrices, calibration, latency, and the rows that fine-tuning fixed and broke.
    """
    if not table_only:
        from flan_lora.adapters.figures import check_matplotlib

        check_matplotlib()  # before the work, not after it
    chosen = _published(adapters_dir, base) if every else [find_store(adapter_name, adapters_dir, base)]
    results = []
    for store, name in chosen:
        options: dict[str, Any] = {"base": base, "role": split, "max_rows": max_rows, "reuse": bool(others)}
        archive, folder = _compare_one(store, name, data_spec, reports_dir, others, options, quiet=as_json)
        if not as_json:
            _print_comparison(archive)
        if not table_only:
            from flan_lora.compare.report import write_report

            path = write_report(folder, archive)
            click.echo(f"\n{path}", err=as_json)
        results.append(_summary(archive))
    if as_json:
        print_json(results if every else results[0])


def _compare_one(
    store: Store,
    name: str,
    data_spec: str | None,
    reports_dir: Path,
    others: tuple[str, ...],
    options: dict[str, Any],
    *,
    quiet: bool,
) -> tuple[Archive, Path]:
    """Answer where needed, then read everything back from the report's folder."""
    from flan_lora.compare.results import find_answers, read_archive
    from flan_lora.compare.run import hold_contest, report_folder
    from flan_lora.data.sources import open_source
    from flan_lora.tasks import get_task

    stored = store.open(name)
    folder = report_folder(reports_dir, stored)
    task = get_task(stored.manifest.task)
    found = [find_answers(spec, task, runs_dir=Path("runs"), base_slug=store.root.name) for spec in others]
    hold_contest(stored, open_source(data_spec), folder, echo=lambda line: click.echo(line, err=quiet), **options)
    return read_archive(folder, found), folder


def _published(adapters_dir: Path, base: str | None) -> list[tuple[Store, str]]:
    """Every sound adapter; an error when there is none."""
    from flan_lora.adapters.validation import StoredAdapter
    from flan_lora.errors import AdapterError

    found = [(s, i.name) for s in stores(adapters_dir, base) for i in s.list() if isinstance(i, StoredAdapter)]
    if not found:
        raise AdapterError(f"there is nothing to compare under {adapters_dir}.\nTrain one: flan-lora train RECIPE")
    return found


def _print_comparison(archive: Archive) -> None:
    """Scores side by side, then a sentence for each contestant."""
    from flan_lora.compare.comparison import verdict

    for comparison in (archive.comparison, archive.reviews):
        if comparison is None:
            continue
        click.echo(f"\n{comparison.task.name}: {comparison.num_rows:,} rows, {comparison.origin}\n")
        print_table(*_score_table(comparison))
        click.echo()
        for duel in comparison.duels:
            click.echo(verdict(comparison, duel))


def _score_table(comparison: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from flan_lora.compare.comparison import p_text
    from flan_lora.tasks.scorers import number, signed

    header = ["SCORE", *(f"{item.name.upper()} (95 % INTERVAL)" for item in comparison.contestants)]
    is_duel = len(comparison.duels) == 1  # more columns would not fit a terminal; the sentences below say it
    rows = []
    for name in comparison.scores[0]:
        found = [scores[name] for scores in comparison.scores]
        cells = [f"{number(s.value)} ({number(s.low)} to {number(s.high)})" for s in found]
        if is_duel:
            gain = comparison.duels[0].differences[name]
            cells.append(f"{signed(gain.value)} ({p_text(gain.p_value)})")
        rows.append((name, *cells))
    return (*header, *(["GAIN"] if is_duel else [])), rows


def _summary(archive: Archive) -> dict[str, Any]:
    """What --json prints: everything but the rows."""
    comparison = archive.comparison
    return {
        "record": archive.record,
        "num_rows": comparison.num_rows,
        "scores": {i.name: s for i, s in zip(comparison.contestants, comparison.scores, strict=True)},
        "duels": [
            {
                "name": duel.name,
                "differences": duel.differences,
                "num_won": len(duel.won),
                "num_lost": len(duel.lost),
                "mcnemar_score": duel.mcnemar_score,
                "mcnemar_p": duel.mcnemar_p,
            }
            for duel in comparison.duels
        ],
    }
