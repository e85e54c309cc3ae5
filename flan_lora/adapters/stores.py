"""The stores of several bases under one adapter root. Imports late: every command reads this file."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flan_lora.adapters.store import Store


def stores(adapters_dir: Path, base: str | None = None) -> list[Store]:
    """The store of every base under ``adapters_dir``, or of one base."""
    from flan_lora.adapters.store import Store

    if base is not None:
        from flan_lora.base.load import base_slug
        from flan_lora.recipe import BaseSection

        return [Store(adapters_dir / base_slug(BaseSection(model=base)))]
    folders = sorted(adapters_dir.iterdir()) if adapters_dir.is_dir() else []
    return [Store(folder) for folder in folders if folder.is_dir()]


def find_store(name: str, adapters_dir: Path, base: str | None = None) -> tuple[Store, str]:
    """The store that holds an adapter, and the adapter's name there.

    ``name`` is a name, looked for under every base unless ``base`` says which, or the path of a published folder.

    Raises:
        UnknownAdapterError: no base has an adapter of that name.
        AdapterError: several bases have one.
    """
    from flan_lora.adapters.store import Store
    from flan_lora.adapters.validation import check_name
    from flan_lora.errors import AdapterError, UnknownAdapterError

    with suppress(OSError, ValueError):  # longer than a path may be, or with a null character: then it is none
        if (Path(name) / "manifest.json").is_file():
            folder = Path(name).resolve()
            return Store(folder.parent), folder.name
    check_name(name)
    searched = stores(adapters_dir, base)
    homes = [store for store in searched if (store.root / name).is_dir()]
    if len(homes) == 1:
        return homes[0], name
    if homes:
        bases = ", ".join(store.root.name for store in homes)
        raise AdapterError(f"{len(homes)} bases have an adapter {name!r}: {bases}.\nSay which with --base.")
    known = [f"{store.root.name}/{item.name}" for store in searched for item in store.list()]
    raise UnknownAdapterError(
        f"no adapter {name!r}{f' for base {base}' if base else ''} under {adapters_dir}.\n"
        f"  published  {', '.join(known) or 'none'}\n"
        "Train one (flan-lora train RECIPE), or say where it lies (--adapters-dir)."
    )
