"""A router over what an adapter root holds, on the base that its adapters were trained on. Imports late."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flan_lora.adapters.stores import find_store, shown_root, stores
from flan_lora.system.quick_start import started

if TYPE_CHECKING:
    from flan_lora.adapters.store import Store
    from flan_lora.adapters.validation import StoredAdapter
    from flan_lora.serving.router import Router


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


def find_adapter(name: str, adapters_dir: Path, base: str | None) -> tuple[str, str]:
    """The name that an adapter has in its store, and its `Router.identity`, without a base; none of ``auto``.

    Raises:
        FlanLoraError: no such adapter, several of that name, or its folder is damaged.
    """
    from flan_lora.serving.completion import AUTO
    from flan_lora.serving.router import identity_of

    if name == AUTO:
        return AUTO, ""
    store, found = find_store(name, adapters_dir, base)
    manifest = store.open(found).manifest
    return found, identity_of(manifest.base.fingerprint, manifest)


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
        raise AdapterError(
            f"no adapters{where} under {shown_root(adapters_dir)}. Train one: flan-lora train RECIPE"
        )
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

    router = Router.open(store.root, stored.open_serving_base(base, device=device), **limits)
    started()
    return router
