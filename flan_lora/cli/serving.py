"""What the serving commands share: their options, and the router that they open."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flan_lora.cli.options import find_store, stores

if TYPE_CHECKING:
    from flan_lora.adapters.store import Store
    from flan_lora.adapters.validation import StoredAdapter
    from flan_lora.serving.router import Router

serving_base_option = click.option(
    "--base", metavar="BASE", help="`mini`, a Hub id or a folder. [default: the base that has adapters]"
)
adapter_base_option = click.option(
    "--base", metavar="BASE", help="The base to load; the adapter must fit it. [default: the adapter's]"
)
adapter_option = click.option(
    "--adapter",
    "adapter_name",
    required=True,
    metavar="ADAPTER",
    help="Name or folder of an adapter; `auto` chooses one for each text by its content.",
)
scores_option = click.option(
    "--scores",
    is_flag=True,
    help="Add the answer's log-probability, and calibrated probabilities of a task's labels.",
)
columns_option = click.option(
    "--set",
    "overrides",
    metavar="data.columns.INPUT=NAME",
    multiple=True,
    help="Your own name for an input of the task, e.g. --set data.columns.text=body. Repeatable.",
)


def columns_of(overrides: Sequence[str]) -> Mapping[str, str]:
    """Task input -> the user's name for it, as ``train --set data.columns.text=body`` says it.

    Raises:
        click.UsageError: another key, or no name.
    """
    columns = {}
    for override in overrides:
        key, _, name = override.partition("=")
        column = key.strip().removeprefix("data.columns.")
        if column == key.strip() or not column or not name.strip():
            raise click.UsageError(
                f"--set {override}: only data.columns.INPUT=NAME here, e.g. --set data.columns.text=body."
            )
        columns[column] = name.strip()
    return columns


def read_text(text: str) -> str:
    """A text as given, or standard input for ``-``."""
    return sys.stdin.read().strip() if text == "-" else text


def open_adapter(name: str, adapters_dir: Path, base: str | None) -> tuple[Router, str]:
    """A router on an adapter's base, and the adapter's name there; the adapter is ready.

    Args:
        name: of a published adapter, the path of its folder, or ``auto``.

    Raises:
        FlanLoraError: no such adapter, several of that name, or it cannot be served.
    """
    from flan_lora.serving.completion import AUTO

    if name == AUTO:
        return open_router(adapters_dir, base), AUTO
    store, found = find_store(name, adapters_dir, base)
    router = _open(store, store.open(found), base)
    router.load(found)
    return router, found


def open_router(adapters_dir: Path, base: str | None, *, device: str | None = None, **limits: Any) -> Router:
    """A router over the adapters of one base, loaded as they were trained.

    Args:
        limits: num_slots, batch_size and max_waiting of `Router`.

    Raises:
        AdapterError: no base has adapters, or several have and ``base`` does not say which.
    """
    from flan_lora.adapters.validation import StoredAdapter
    from flan_lora.errors import AdapterError

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
    return _open(store, item, base, device, **limits)


def _open(
    store: Store, stored: StoredAdapter, base: str | None, device: str | None = None, **limits: Any
) -> Router:
    """The base as this adapter was trained on it, or another name or place of it."""
    from flan_lora.serving.router import Router

    return Router.open(store.root, stored.open_serving_base(base, device=device), **limits)
