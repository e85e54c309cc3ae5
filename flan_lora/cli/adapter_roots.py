"""``flan-lora adapter pull`` and ``publish``: adapters between this machine and an adapter root at a URL."""

from __future__ import annotations

from pathlib import Path

import click

from flan_lora.adapters.stores import find_store, shown_root, stores
from flan_lora.cli.options import AdapterRoot, adapters_dir_option, json_option, store_base_option
from flan_lora.cli.output import print_json


@click.command()
@click.argument("adapter_names", metavar="[ADAPTER]...", nargs=-1)
@store_base_option
@adapters_dir_option
@json_option
def pull(adapter_names: tuple[str, ...], base: str | None, adapters_dir: Path, as_json: bool) -> None:
    """Fetch adapters of a root at a URL into the cache, and check them. [default: all of them]

    Whatever needs an adapter fetches it itself; this is for machines that have to start fast, or without network.
    """
    from flan_lora.adapters.validation import StoredAdapter

    chosen = [find_store(name, adapters_dir, base) for name in adapter_names] or [
        (store, item.name)
        for store in stores(adapters_dir, base)
        for item in store.list()
        if isinstance(item, StoredAdapter)
    ]
    paths = [store.open(name).path for store, name in chosen]
    if as_json:
        print_json({"paths": paths})
        return
    for path in paths:
        click.echo(f"{path.parent.name}/{path.name}: {path}")
    if not paths:
        click.echo(f"No adapters under {shown_root(adapters_dir)}.")


@click.command()
@click.argument("adapter_name", metavar="ADAPTER")
@click.argument("root", metavar="ROOT", type=AdapterRoot())
@store_base_option
@adapters_dir_option
@json_option
def publish(adapter_name: str, root: Path, base: str | None, adapters_dir: Path, as_json: bool) -> None:
    """Publish ADAPTER in another adapter root, a folder or a URL.

    It takes the place of one of its name there: readers find the old adapter or the new one, never half of one.
    """
    from flan_lora.adapters.remote_store import store_at

    store, name = find_store(adapter_name, adapters_dir, base)
    stored = store.open(name)
    target = store_at(root / store.root.name)
    target.publish(stored.path, stored.manifest)
    place = f"{target.place}/{name}"
    print_json({"published": place}) if as_json else click.echo(f"published {place}")
