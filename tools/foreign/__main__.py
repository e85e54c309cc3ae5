"""``python -m tools.foreign``: measure published adapters on the foreign sets, and write the figures down."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from flan_lora.errors import DataError, FlanLoraError
from flan_lora.serving.router import Router
from flan_lora.tasks.scorers import Score, number
from tools.foreign.measure import Measured, Scores, measure
from tools.foreign.sets import ForeignSet, Places, chosen, examples_of

FOLDER = click.Path(path_type=Path)


@click.command()
@click.option("--data", type=FOLDER, required=True, help="Local data root.")
@click.option("--packages", type=FOLDER, required=True, help="Folder with the source packages (docs/foreign).")
@click.option("--adapters", type=FOLDER, default=Path("adapters/mini"), show_default=True)
@click.option("--base", default="mini", show_default=True)
@click.option("--out", type=FOLDER, default=Path("docs/foreign/mini.json"), show_default=True)
@click.option("--rows", default=300, show_default=True, help="Of each set, at most.")
@click.option("--only", multiple=True, help="A set's name; the other sets' figures stay as they are in --out.")
def main(
    data: Path, packages: Path, adapters: Path, base: str, out: Path, rows: int, only: tuple[str, ...]
) -> None:
    """Score each task's adapter, its bare base and trivial baselines on rows that none of them ever read."""
    try:
        run(Places(data, packages), adapters, base, out, rows, only)
    except FlanLoraError as error:
        raise click.ClickException(str(error)) from error


def run(places: Places, adapters: Path, base: str, out: Path, num_rows: int, only: Sequence[str]) -> None:
    """Measure, print a line per set, and write them to ``out``; the docs take their tables from it."""
    sets = chosen(only)
    old = {entry["name"]: entry for entry in _read(out)["sets"]} if only else {}
    router = Router.open(adapters, base=base)
    published = router.published()
    if missing := sorted({one.task for one in sets} - set(published)):
        raise DataError(
            f"{adapters} has no adapter called {', '.join(missing)}.\n  there is  {', '.join(published)}"
        )
    for one in sets:
        measured = measure(router, one, one.task, examples_of(one, places, num_rows))
        old[one.name] = entry_of(
            one, measured, router.manifest(one.task).files["adapter_model.safetensors"].sha256
        )
        click.echo(_line(one, measured))
        _write(out, base, old.values())


def _write(path: Path, base: str, entries: Iterable[dict[str, Any]]) -> None:
    """After each set: what was measured is kept if a later one fails."""
    order = [one.name for one in chosen(())]
    document = {"base": base, "sets": sorted(entries, key=lambda entry: order.index(entry["name"]))}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def entry_of(one: ForeignSet, measured: Measured, weights: str) -> dict[str, Any]:
    """A set's figures as JSON: the headline scores, and which weights had them."""

    def headlines(scores: Scores) -> dict[str, dict[str, float]]:
        return {name: _rounded(scores[name]) for name in one.headlines if name in scores}

    return {
        "name": one.name,
        "task": one.task,
        "kind": one.kind,
        "about": one.about,
        "licence": one.licence,
        "num_rows": measured.num_rows,
        "adapter_sha256": weights,
        "adapter": headlines(measured.adapter),
        "bare_base": headlines(measured.base),
        "baselines": {name: headlines(scores) for name, scores in measured.baselines.items()},
    }


def _rounded(score: Score) -> dict[str, float]:
    return {name: round(getattr(score, name), 4) for name in ("value", "low", "high")}


def _line(one: ForeignSet, measured: Measured) -> str:
    name = one.headlines[0]
    beside = {"bare base": measured.base, **measured.baselines}
    others = ", ".join(f"{who} {number(scores[name].value)}" for who, scores in beside.items() if name in scores)
    own = measured.adapter[name]
    return f"{one.name}: {one.task} {name} {number(own.value)} ({number(own.low)} to {number(own.high)}); {others}"


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {"sets": []}
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


if __name__ == "__main__":
    main()
