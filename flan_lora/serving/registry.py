"""Which adapters a router knows: published ones by name, folders under names of the user's own.

Names come from the store of one base; weights go to the engine's adapter cache when they are first asked for. What
is published anew, and a plain folder that is written anew, is noticed with the next request for it: that one gets
the new weights, in the new prompt, and those that were asked before get the old ones.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from flan_lora.adapters.manifest import Manifest
from flan_lora.adapters.remote_store import store_at
from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import MANIFEST, REQUIRED, RESERVED_NAMES, StoredAdapter, check_name
from flan_lora.adapters.weights import PlainFolder, Source, base_linears, bind_to_base, open_folder
from flan_lora.base.architecture import has_devanagari
from flan_lora.base.load import Base
from flan_lora.base.quantised import weight_of
from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.lease import AdapterStatus
from flan_lora.errors import AdapterCorruptError, AdapterError, UnknownAdapterError
from flan_lora.serving.prompts import ServingConfig
from flan_lora.system.text import closest

Found = TypeVar("Found")
Stamp = tuple[int, ...] | None
"""Of files on disk: another one means that they may be other files. None: one of them is not there now."""

_WRITING_S = 3.0
"""A plain folder is written file by file. One that cannot be read, and changed so lately, is not whole yet."""
_OWN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class KnownAdapter:
    """What a name stands for."""

    source: Source
    config: ServingConfig
    home: Path
    """The folder that it lies in."""
    stamp: Stamp
    is_loaded: bool = False
    """Whether it is known only because it was loaded from a folder."""

    @property
    def is_plain(self) -> bool:
        """Whether it is a PEFT folder without a manifest."""
        return isinstance(self.source, PlainFolder)

    @property
    def is_current(self) -> bool:
        """Whether its home still has what was read. A home that is gone, or being replaced, changes nothing."""
        return (found := self.stamp_now) is None or found == self.stamp

    @property
    def stamp_now(self) -> Stamp:
        """Of its files as they lie there."""
        return _stamp_of_plain(self.home) if self.is_plain else _stamp(self.home)


class AdapterRegistry:
    """The adapters of one base by name. Any number of threads may use it."""

    def __init__(self, base: Base, store: Store, cache: AdapterCache) -> None:
        self.store = store
        self._base, self._cache = base, cache
        self._lock, self._replacing = threading.Lock(), threading.Lock()
        self._known: dict[str, KnownAdapter] = {}
        self._of_tasks: dict[str, str | None] = {}
        self._listing: Stamp = None

    # Into and out of service

    def load(self, name: str, path: str | Path | None = None, *, task: str | None = None) -> None:
        """`Router.load`."""
        if path is not None:
            _check_own_name(name)
            self._add_folder(name, Path(path), task)
        self._when_ready(name, self._bring_in)

    def unload(self, name: str) -> None:
        """`Router.unload`."""
        with self._lock:
            self._known.pop(name, None)
        self._cache.unload(name)

    def pin(self, name: str) -> None:
        """Keep an adapter in its slot."""
        self._when_ready(name, self._cache.pin)

    def unpin(self, name: str) -> None:
        """Let an adapter be evicted again."""
        self._cache.unpin(name)

    def status(self) -> list[AdapterStatus]:
        """Every adapter that has been asked for, and where it is."""
        return self._cache.status()

    # What is known of an adapter

    def find(self, name: str) -> KnownAdapter:
        """What a name stands for now. Raises what `Store.open` raises."""
        with self._lock:
            known = self._known.get(name)
        if known is not None and known.is_current:
            return known
        try:
            found = self._open_again(name, known)
        except UnknownAdapterError:
            if known is None:
                raise
            return known  # between the two renames of a publish, or removed: who has it loaded keeps it
        except AdapterError:
            if known is None or not known.is_plain or not _is_being_written(known.home):
                raise
            return known  # until it is whole
        with self._lock:
            is_gone = found.is_loaded and name not in self._known  # unloaded meanwhile
            if not is_gone:
                self._known[name] = found
        return self.find(name) if is_gone else found

    def ready(self, name: str) -> KnownAdapter:
        """`find`, and have the cache know the adapter and its weights, so that a request for it can be submitted.

        Raises:
            UnknownAdapterError: it is neither loaded nor published.
            AdapterError: it cannot be served.
        """
        known = self.find(name)
        if self._cache.source(name) is not known.source:
            with self._replacing:  # one at a time, or an old version could come back over a new one
                known = self._hand_over(name, self.find(name))
        try:
            self._cache.read_in(name)
        except UnknownAdapterError:  # unloaded since; one of the store comes back
            return self.ready(name)
        except AdapterCorruptError:  # published anew since, perhaps
            if known.is_current:
                raise
            return self.ready(name)
        return known

    def open(self, name: str) -> StoredAdapter:
        """A published adapter that fits this base. Raises what `Store.open` raises."""
        return self._published(self.store.open, name)

    def manifest(self, name: str) -> Manifest:
        """Of a published adapter. Raises what `Store.open` raises."""
        return self.open(name).manifest

    def published(self) -> list[StoredAdapter]:
        """The store's sound adapters, loaded or not."""
        return [item for item in self.store.list() if isinstance(item, StoredAdapter)]

    def listing(self) -> Stamp:
        """Changes whenever an adapter is published or removed."""
        return _stamp(self.store.root)

    def of_task(self, task: str) -> tuple[str | None, ServingConfig]:
        """How the bare base is asked for a task: as its published adapter is, so that the two can be compared.

        Of several adapters of the task, as the one of the task's name, else as the first by name. Without any: in
        the task's prompt, greedily, 512 tokens at most. Returns (the adapter's name, its config).
        """
        listing = self.listing()
        with self._lock:
            if listing != self._listing:
                self._of_tasks, self._listing = {}, listing
            is_known, name = task in self._of_tasks, self._of_tasks.get(task)
        if not is_known:
            of_task = [item.name for item in self.published() if item.manifest.task == task]
            name = min(of_task, key=lambda each: (each != task, each), default=None)
            with self._lock:
                self._of_tasks[task] = name
        return (
            (None, ServingConfig.of_task(task, romanise=self._romanise))
            if name is None
            else (name, self.find(name).config)
        )

    # Reading

    @cached_property
    def _romanise(self) -> bool:
        """Where no manifest says it."""
        return not has_devanagari(self._base.tokenizer)

    def _when_ready(self, name: str, act: Callable[[str], None]) -> None:
        """Act on an adapter in the cache; again when it was unloaded before that."""
        while True:
            self.ready(name)
            try:
                return act(name)
            except UnknownAdapterError:
                continue

    def _bring_in(self, name: str) -> None:
        with self._cache.lease([name]):
            pass

    def _hand_over(self, name: str, known: KnownAdapter) -> KnownAdapter:
        """Make the cache know a version. What was unloaded meanwhile, and no store has, stays unloaded."""
        self._cache.replace(known.source)
        known = replace(known, source=self._cache.source(name) or known.source)
        with self._lock:
            is_gone = known.is_loaded and name not in self._known
            if not is_gone:
                self._known[name] = known
        if is_gone:
            with suppress(UnknownAdapterError):
                self._cache.unload(name)
            return self.find(name)
        return known

    def _open_again(self, name: str, known: KnownAdapter | None) -> KnownAdapter:
        """What lies in the home of an adapter, or in the store."""
        if known is not None and known.is_plain:
            return self._open_plain_again(name, known)
        check_name(name if known is None else known.home.name)  # a name, never a path
        home = self.store.root / name if known is None else known.home
        stamp = _stamp(home)  # before reading: what is published meanwhile is noticed the next time
        source = _named(self._published(self._store_of(home).open, home.name), name)
        if known is not None and known.source == source:  # touched, and no more
            return replace(known, stamp=stamp)
        is_loaded = known is not None and known.is_loaded
        return KnownAdapter(source, ServingConfig.of(source), home, stamp, is_loaded)

    def _store_of(self, home: Path) -> Store:
        """The store that an adapter lies in: our own, or another one where it was loaded from a folder."""
        return self.store if home.parent == self.store.root else store_at(home.parent)

    def _open_plain_again(self, name: str, known: KnownAdapter) -> KnownAdapter:
        """What lies in a plain folder now. Raises what `open_folder` and `bind_to_base` raise."""
        stamp = known.stamp_now
        source, files = open_folder(name, known.home)
        if known.source == source:  # touched, and no more
            return replace(known, stamp=stamp)
        bind_to_base(name, files, base_linears(self._base.model), weight_of(self._base.model))
        return replace(known, source=source, stamp=stamp)

    def _add_folder(self, name: str, folder: Path, task: str | None) -> None:
        home = folder.resolve()
        with self._lock:
            before = self._known.get(name)
        if (home / MANIFEST).is_file():
            stamp = _stamp(home)
            stored, files = self._published(self._store_of(home).read, home.name)
            source: Source = _named(stored, name)
            known = KnownAdapter(source, ServingConfig.of(source), home, stamp, is_loaded=True)
        else:
            home = folder.absolute()  # not resolved: a link that is set to another folder is noticed
            stamp = _stamp_of_plain(home)
            source, files = open_folder(name, home)
            config = ServingConfig.of(source, task, romanise=self._romanise)
            known = KnownAdapter(source, config, home, stamp, is_loaded=True)
        if before is not None and before.home == home and self._cache.source(name) is before.source:
            with self._replacing:
                self._cache.replace(source, files)
        else:
            self._cache.add(source, files)
        with self._lock:
            self._known[name] = replace(known, source=self._cache.source(name) or source)

    def _published(self, find: Callable[..., Found], name: str) -> Found:
        """What ``Store.open`` or ``Store.read`` finds for this base; errors for a name know the loaded ones."""
        try:
            return find(name, fingerprint=self._base.fingerprint, base_name=self._base.spec.model)
        except UnknownAdapterError as error:
            loaded = self._cache.names()
            if (close := closest(name, loaded)) is not None:
                raise UnknownAdapterError(f"{error}\nOf the loaded ones, {close!r} is close.") from error
            raise


def _named(stored: StoredAdapter, name: str) -> StoredAdapter:
    """Under the name that it is asked for by."""
    return (
        stored
        if stored.name == name
        else replace(stored, manifest=stored.manifest.model_copy(update={"name": name}))
    )


def _stamp(path: Path) -> Stamp:
    """Of a folder's manifest; of a folder without one, of itself."""
    for file in (path / MANIFEST, path):
        try:
            found = file.stat()
        except OSError:
            continue
        return found.st_mtime_ns, found.st_ino, found.st_size
    return None


def _stamp_of_plain(folder: Path) -> Stamp:
    """Of PEFT's two files in it."""
    try:
        found = [(folder / file).stat() for file in REQUIRED]
    except OSError:
        return None
    return tuple(value for each in found for value in (each.st_mtime_ns, each.st_ino, each.st_size))


def _is_being_written(folder: Path) -> bool:
    """Whether one of a plain folder's files changed a moment ago, or is not there."""
    try:
        changed = max((folder / file).stat().st_mtime for file in REQUIRED)
    except OSError:
        return True
    return time.time() - changed < _WRITING_S


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
