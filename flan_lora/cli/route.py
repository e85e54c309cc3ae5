"""``flan-lora route``: which adapter a text belongs to, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flan_lora.cli.options import adapters_dir_option, data_option, json_option
from flan_lora.cli.output import percent, print_json, print_table
from flan_lora.cli.serving import AnsweringCommand, columns_of, columns_option, read_text, serving_base_option
from flan_lora.serving.open_router import open_router
from flan_lora.system.text import shorten

if TYPE_CHECKING:
    from flan_lora.serving.completion import Text
    from flan_lora.serving.router import Router


@click.command(cls=AnsweringCommand)
@click.argument("text", metavar="TEXT|-", required=False)
@click.option("--report", "with_report", is_flag=True, help="Route test texts of all adapters, and count.")
@data_option
@click.option(
    "--rows", "max_rows", type=click.IntRange(min=1), default=200, show_default=True, help="Per adapter."
)
@click.option(
    "--foreign",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Texts for no adapter: one a line, or JSON lines of text and kind. [default: 24 that ship]",
)
@columns_option
@serving_base_option
@adapters_dir_option
@json_option
def route(
    text: str | None,
    with_report: bool,
    data_spec: str | None,
    max_rows: int,
    foreign: Path | None,
    overrides: tuple[str, ...],
    base: str | None,
    adapters_dir: Path,
    as_json: bool,
) -> None:
    """Say which adapter TEXT belongs to, by its content.

    Only adapters with a routing profile are considered (flan-lora adapter fit-routing). With --report: how often
    the choice is right over the test texts of all of them, without instructions; how often it abstains; and how
    many foreign texts it takes.
    """
    if (text is None) != with_report:
        raise click.UsageError("give one TEXT to route (or - for standard input), or --report, and not both.")
    columns_of(overrides)
    router = open_router(adapters_dir, base)
    if text is None:
        _print_report(router, data_spec, max_rows, foreign, overrides, as_json)
        return
    found = router.route(read_text(text))
    if as_json:
        print_json({"adapter": found.adapter, "reason": found.reason, "score": found.score, "best": found.best})
    else:
        click.echo(f"{found.adapter or 'none'}: {found.reason}")


def _print_report(
    router: Router,
    data_spec: str | None,
    max_rows: int,
    foreign: Path | None,
    overrides: Sequence[str],
    as_json: bool,
) -> None:
    from flan_lora.errors import RequestError
    from flan_lora.serving.background import read_background
    from flan_lora.serving.routing_report import report

    if not router.routable():
        raise RequestError(
            "no adapter has a routing profile: fit them first (flan-lora adapter fit-routing ADAPTER)."
        )
    texts = {name: _test_texts(router, name, data_spec, max_rows, overrides) for name in router.routable()}
    found = report(router, texts, None if foreign is None else read_background(foreign))
    if as_json:
        shares = {"accuracy": found.accuracy, "false_accept_share": found.false_accept_share}
        print_json({**shares, "adapters": found.shares, "kinds": found.kinds, "accepted": dict(found.accepted)})
        return
    print_table(
        ("ADAPTER", "TEXTS", "RIGHT", "WRONG", "ABSTAINED", "MOST CONFUSED WITH"),
        [
            (
                share.adapter,
                share.num_texts,
                percent(share.right_share),
                percent(share.wrong_share),
                percent(share.abstained_share),
                share.most_confused_with or "-",
            )
            for share in found.shares
        ],
    )
    click.echo(f"right over all {percent(found.accuracy)}")
    if any(share.kind for share in found.kinds):
        print_table(
            ("FOREIGN KIND", "TEXTS", "TAKEN", "MOSTLY BY"),
            [
                (share.kind or "-", share.num_texts, percent(share.accepted_share), share.mostly_by or "-")
                for share in found.kinds
            ],
        )
    click.echo(f"foreign texts taken {len(found.accepted)} of {found.num_foreign}")
    for foreign_text, name in found.accepted:
        click.echo(f"  {name}: {shorten(foreign_text, 80)}")


def _test_texts(
    router: Router, name: str, data_spec: str | None, max_rows: int, overrides: Sequence[str]
) -> list[Text]:
    """Inputs of an adapter's test examples, as a user would give them."""
    from flan_lora.data.sources import open_source
    from flan_lora.data.splits import load_split
    from flan_lora.training.reevaluate import reading_recipe

    recipe = reading_recipe(router.store.open(name), overrides)
    split = load_split(recipe, "test", open_source(data_spec), max_rows=max_rows)
    wanted = router.inputs(name)  # rows may know more, such as where an answer starts
    inputs = [{column: example.inputs[column] for column in wanted} for example in split.examples]
    return [next(iter(given.values())) if len(given) == 1 else given for given in inputs]
