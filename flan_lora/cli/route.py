"""``flan-lora route``: which adapter a text belongs to, and why; and the router that serving commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flan_lora.cli.options import adapters_dir_option, json_option, stores
from flan_lora.cli.output import print_json

if TYPE_CHECKING:
    from flan_lora.router import Router

serving_base_option = click.option(
    "--base", metavar="BASE", help="`mini`, a Hub id or a folder. [default: the base that has adapters]"
)


@click.command()
@click.argument("text", metavar="TEXT|-")
@serving_base_option
@adapters_dir_option
@json_option
def route(text: str, base: str | None, adapters_dir: Path, as_json: bool) -> None:
    """Say which adapter TEXT belongs to, by its content.

    Only adapters with a signature are considered (flan-lora adapter sign).
    """
    router = open_router(adapters_dir, base)
    found = router.route(sys.stdin.read().strip() if text == "-" else text)
    if as_json:
        print_json({"adapter": found.adapter, "reason": found.reason, "score": found.score, "best": found.best})
    else:
        click.echo(f"{found.adapter or 'none'}: {found.reason}")


def open_router(adapters_dir: Path, base: str | None) -> Router:
    """A router over the adapters of one base, loaded as they were trained.

    Raises:
        AdapterError: no base has adapters, or several have and ``base`` does not say which.
    """
    from flan_lora.base import open_base
    from flan_lora.errors import AdapterError
    from flan_lora.recipe import Recipe
    from flan_lora.router import Router
    from flan_lora.store import StoredAdapter

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
    spec = Recipe.model_validate(item.manifest.recipe).base
    return Router.open(store.root, open_base(spec if base is None else spec.model_copy(update={"model": base})))
