"""The stores of several bases under one adapter root. Imports late: every command reads this file."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flan_lora.adapters.store import Store


def stores(adapters_dir: Path, base: str | None = None) -> list[Store]:
    """The store of every base under ``adapters_dir``, or of one base."""
    from flan_lora.adapters.remote_store import bases_of, store_at

    if base is not None:
        from flan_lora.base.load import base_slug
        from flan_lora.recipe import BaseSection

        return [store_at(adapters_dir / base_slug(BaseSection(model=base)))]
    return [store_at(adapters_dir / name) for name in bases_of(adapters_dir)]


def shown_root(adapters_dir: Path) -> str:
    """An adapter root as the user named it: its URL, where it is the mirror of one."""
    from flan_lora.adapters.remote_store import remote_of

    remote = remote_of(adapters_dir)
    return str(adapters_dir) if remote is None else remote.shown


def find_store(name: str, adapters_dir: Path, base: str | None = None) -> tuple[Store, str]:
    """The store that holds an adapter, and the adapter's name there.

    ``name`` is a name, looked for under every base unless ``base`` says which, or the path of a published folder.

    Raises:
        UnknownAdapterError: no base has an adapter of that name.
        AdapterError: several bases have one.
    """
    from flan_lora.adapters.remote_store import store_at
    from flan_lora.adapters.validation import check_name
    from flan_lora.errors import AdapterError, UnknownAdapterError

    with suppress(OSError, ValueError):  # longer than a path may be, or with a null character: then it is none
        if (Path(name) / "manifest.json").is_file():
            folder = Path(name).resolve()
            return store_at(folder.parent), folder.name
    check_name(name)
    searched = stores(adapters_dir, base)
    homes = [store for store in searched if store.has(name)]
    if len(homes) == 1:
        return homes[0], name
    if homes:
        bases = ", ".join(store.root.name for store in homes)
        raise AdapterError(f"{len(homes)} bases have an adapter {name!r}: {bases}.\nSay which with --base.")
    known = [f"{store.root.name}/{item.name}" for store in searched for item in store.list()]
    raise UnknownAdapterError(
        f"no adapter {name!r}{f' for base {base}' if base else ''} under {shown_root(adapters_dir)}.\n"
        f"  published  {', '.join(known) or 'none'}\n"
        "Train one (flan-lora train RECIPE), or say where it lies (--adapters-dir)."
    )
