"""Which adapters a router knows: published ones by name, folders under names of the user's own.

Names come from the store of one base; weights go to the engine's adapter cache when they are first asked for.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from flan_lora.adapters.manifest import Manifest
from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import RESERVED_NAMES, StoredAdapter
from flan_lora.adapters.weights import Source, open_folder
from flan_lora.base.load import Base
from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.lease import AdapterStatus, Lease
from flan_lora.errors import AdapterError, UnknownAdapterError
from flan_lora.serving.prompts import ServingConfig
from flan_lora.system.text import closest
from flan_lora.tasks import get_task

Found = TypeVar("Found")

_OWN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class AdapterRegistry:
    """The adapters of one base by name. Any number of threads may use it."""

    def __init__(self, base: Base, store: Store, cache: AdapterCache) -> None:
        self.store = store
        self._base, self._cache = base, cache
        self._lock = threading.Lock()
        self._configs: dict[str, ServingConfig] = {}
        self._task_configs: dict[str, tuple[str | None, ServingConfig]] = {}
        self._folders: dict[str, Source] = {}  # loaded by path: known as long as they are loaded

    # Into and out of service

    def load(self, name: str, path: str | Path | None = None, *, task: str | None = None) -> None:
        """`Router.load`."""
        if path is not None:
            _check_own_name(name)
            self._add_folder(name, Path(path), task)
        with self.lease([name]):
            pass

    def unload(self, name: str) -> None:
        """`Router.unload`."""
        with self._lock:
            self._folders.pop(name, None)
            self._configs.pop(name, None)
            self._task_configs.clear()
        self._cache.unload(name)

    def pin(self, name: str) -> None:
        """Keep an adapter in its slot."""
        self.make_known(name)
        self._cache.pin(name)

    def unpin(self, name: str) -> None:
        """Let an adapter be evicted again."""
        self._cache.unpin(name)

    def status(self) -> list[AdapterStatus]:
        """Every adapter that has been asked for, and where it is."""
        return self._cache.status()

    # What is known of an adapter

    def config_of_task(self, task: str) -> tuple[str | None, ServingConfig]:
        """How the bare base is asked for a task: as its published adapter is, so that the two can be compared.

        Of several adapters of the task, as the one of the task's name, else as the first by name. Without any: in
        the task's prompt, greedily, 512 tokens at most. Returns (the adapter's name, its config).
        """
        with self._lock:
            known = self._task_configs.get(task)
        if known is None:
            items = [item for item in self.published() if item.manifest.task == task]
            chosen = min(items, key=lambda item: (item.name != task, item.name), default=None)
            known = (None, ServingConfig(get_task(task)))
            if chosen is not None:
                known = (chosen.name, ServingConfig.of(chosen))
            with self._lock:
                self._task_configs[task] = known
        return known

    def config(self, name: str) -> ServingConfig:
        """How an adapter is asked. Raises what `Store.open` raises."""
        with self._lock:
            config = self._configs.get(name)
        if config is None:
            config = ServingConfig.of(self.open(name))
            with self._lock:
                self._configs[name] = config
        return config

    def open(self, name: str) -> StoredAdapter:
        """A published adapter that fits this base. Raises what `Store.open` raises."""
        return self._published(self.store.open, name)

    def manifest(self, name: str) -> Manifest:
        """Of a published adapter. Raises what `Store.open` raises."""
        return self.open(name).manifest

    def published(self) -> list[StoredAdapter]:
        """The store's sound adapters, loaded or not."""
        return [item for item in self.store.list() if isinstance(item, StoredAdapter)]

    # Leases

    def make_known(self, name: str) -> None:
        """Hand an adapter to the cache when it is first asked for.

        Raises:
            UnknownAdapterError: it is neither loaded nor published.
            AdapterError: it cannot be served.
        """
        if name in self._cache.names():
            return
        with self._lock:
            source = self._folders.get(name)
        if source is not None:
            self._cache.add(source)
        else:
            self._cache.add(*self._published(self.store.read, name))

    @contextmanager
    def lease(self, names: Sequence[str]) -> Iterator[Lease]:
        """A lease on adapters, known or published; one that is just being unloaded is awaited and opened anew."""
        with ExitStack() as stack:
            while True:
                for name in names:
                    self.make_known(name)
                try:
                    lease = stack.enter_context(self._cache.lease(names))
                    break
                except UnknownAdapterError:
                    continue  # unloaded between the two lines above
            yield lease

    def has_room(self, names: set[str]) -> bool:
        """Whether one batch may use these adapters."""
        return self._cache.has_room(names)

    def _add_folder(self, name: str, folder: Path, task: str | None) -> None:
        if (folder / "manifest.json").is_file():
            stored, files = self._published(Store(folder.resolve().parent).read, folder.resolve().name)
            renamed = stored.manifest.model_copy(update={"name": name})
            source: Source = replace(stored, manifest=renamed)
        else:
            source, files = open_folder(name, folder)
        self._cache.add(source, files)
        with self._lock:
            self._folders[name] = source
            self._configs[name] = ServingConfig.of(source, task)

    def _published(self, find: Callable[..., Found], name: str) -> Found:
        """What ``Store.open`` or ``Store.read`` finds for this base; errors for a name know the loaded ones."""
        try:
            return find(name, fingerprint=self._base.fingerprint, base_name=self._base.spec.model)
        except UnknownAdapterError as error:
            loaded = self._cache.names()
            if (close := closest(name, loaded)) is not None:
                raise UnknownAdapterError(f"{error}\nOf the loaded ones, {close!r} is close.") from error
            raise


def _check_own_name(name: str) -> None:
    """Of a folder that is loaded under a name of the user's. Raises AdapterError."""
    if not isinstance(name, str) or not _OWN_NAME.fullmatch(name):
        raise AdapterError(
            f"{name!r} cannot be an adapter's name.\n"
            "  expected  1 to 64 letters, digits, '.', '-' and '_', a letter or digit first\n"
            "The folder is the second argument: load(name, path)."
        )
    if name.split(".")[0].casefold() in RESERVED_NAMES:
        raise AdapterError(f"{name!r} is a reserved name; choose another, e.g. {'my-' + name!r}.")
