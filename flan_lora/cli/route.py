"""``flan-lora route``: which adapter a text belongs to, and why; and the router that serving commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flan_lora.cli.options import adapters_dir_option, data_option, json_option, stores
from flan_lora.cli.output import percent, print_json, print_table
from flan_lora.system.text import shorten

if TYPE_CHECKING:
    from flan_lora.serving.completion import Text
    from flan_lora.serving.router import Router

serving_base_option = click.option(
    "--base", metavar="BASE", help="`mini`, a Hub id or a folder. [default: the base that has adapters]"
)


@click.command()
@click.argument("text", metavar="TEXT|-", required=False)
@click.option("--report", "with_report", is_flag=True, help="Route test texts of all adapters, and count.")
@data_option
@click.option(
    "--rows", "max_rows", type=click.IntRange(min=1), default=200, show_default=True, help="Per adapter."
)
@click.option(
    "--foreign",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    metavar="FILE",
    help="Texts for no adapter, one a line. [default: 24 that ship]",
)
@serving_base_option
@adapters_dir_option
@json_option
def route(
    text: str | None,
    with_report: bool,
    data_spec: str | None,
    max_rows: int,
    foreign: Path | None,
    base: str | None,
    adapters_dir: Path,
    as_json: bool,
) -> None:
    """Say which adapter TEXT belongs to, by its content.

    Only adapters with a routing profile are considered (flan-lora adapter fit-routing). With --report: how often
    the choice is right over the test texts of all of them, without instructions; how often it abstains; and how
    many foreign texts it takes.
    """
    from flan_lora.errors import RequestError

    if (text is None) != with_report:
        raise RequestError("give one TEXT to route (or - for standard input), or --report, and not both.")
    router = open_router(adapters_dir, base)
    if text is None:
        _print_report(router, data_spec, max_rows, foreign, as_json)
        return
    found = router.route(sys.stdin.read().strip() if text == "-" else text)
    if as_json:
        print_json({"adapter": found.adapter, "reason": found.reason, "score": found.score, "best": found.best})
    else:
        click.echo(f"{found.adapter or 'none'}: {found.reason}")


def _print_report(
    router: Router, data_spec: str | None, max_rows: int, foreign: Path | None, as_json: bool
) -> None:
    from flan_lora.errors import RequestError
    from flan_lora.serving.routing_report import FOREIGN, report

    if not router.routable():
        raise RequestError(
            "no adapter has a routing profile: fit them first (flan-lora adapter fit-routing ADAPTER)."
        )
    texts = {name: _test_texts(router, name, data_spec, max_rows) for name in router.routable()}
    lines = FOREIGN if foreign is None else [line for line in foreign.read_text("utf-8").splitlines() if line]
    found = report(router, texts, lines)
    if as_json:
        shares = {"accuracy": found.accuracy, "false_accept_share": found.false_accept_share}
        print_json({**shares, "adapters": found.shares, "accepted": dict(found.accepted)})
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
    click.echo(f"foreign texts taken {len(found.accepted)} of {found.num_foreign}")
    for foreign_text, name in found.accepted:
        click.echo(f"  {name}: {shorten(foreign_text, 80)}")


def _test_texts(router: Router, name: str, data_spec: str | None, max_rows: int) -> list[Text]:
    """Inputs of an adapter's test examples, as a user would give them."""
    from flan_lora.data.sources import open_source
    from flan_lora.data.splits import load_split
    from flan_lora.recipe import Recipe

    recipe = Recipe.model_validate(router.manifest(name).recipe)
    split = load_split(recipe, "test", open_source(data_spec), max_rows=max_rows)
    wanted = router.inputs(name)  # rows may know more, such as where an answer starts
    inputs = [{column: example.inputs[column] for column in wanted} for example in split.examples]
    return [next(iter(given.values())) if len(given) == 1 else given for given in inputs]


def open_router(adapters_dir: Path, base: str | None) -> Router:
    """A router over the adapters of one base, loaded as they were trained.

    Raises:
        AdapterError: no base has adapters, or several have and ``base`` does not say which.
    """
    from flan_lora.adapters.validation import StoredAdapter
    from flan_lora.errors import AdapterError
    from flan_lora.serving.router import Router

    found = {
        store: item
        for store in stores(adapters_dir, base)
        for item in reversed(store.list())
        if isinstance(item, StoredAdapter)
    }
    if not found:
        where = f" for base {base}" if base else ""
        raise AdapterError(f"no adapters{where} under {adapters_dir}. Train one: flan-lora train RECIPE")
    if len(found) > 1:
        names = ", ".join(store.root.name for store in found)
        raise AdapterError(f"{len(found)} bases have adapters: {names}.\nSay which with --base.")
    ((store, item),) = found.items()
    return Router.open(store.root, item.open_base(base))
