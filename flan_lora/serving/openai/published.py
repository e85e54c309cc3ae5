"""The adapters that a store has now, without reading what has not changed since.

Opening an adapter hashes all its files; a request only needs to know that the folder is the one of before. A
manifest is written last and never altered, so its inode and time say that.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import MANIFEST, StoredAdapter, is_name
from flan_lora.base.load import Base
from flan_lora.errors import AdapterError, UnknownAdapterError


@dataclass(frozen=True, slots=True)
class _Seen:
    identity: tuple[int, int, int]
    """Inode, time and size of the manifest."""
    found: StoredAdapter | AdapterError


class PublishedAdapters:
    """By name, for one base. Any number of threads may use it."""

    def __init__(self, store: Store, base: Base) -> None:
        self._store, self._base = store, base
        self._lock = threading.Lock()
        self._seen: dict[str, _Seen] = {}

    def get(self, name: str) -> StoredAdapter:
        """The adapter as it is published now.

        Raises:
            UnknownAdapterError: nothing of that name, which includes everything that is no name, is published.
            AdapterError: what is published cannot be served.
        """
        if not is_name(name):
            raise UnknownAdapterError(f"{name!r} is no adapter's name.")
        identity = self._identity(name)
        with self._lock:
            seen = self._seen.get(name)
        if seen is None or identity is None or seen.identity != identity:
            seen = _Seen(identity or (0, 0, 0), self._open(name))
            with self._lock:
                if identity is None or isinstance(seen.found, UnknownAdapterError):
                    self._seen.pop(name, None)  # names that do not exist are not kept: anybody can make them up
                else:
                    self._seen[name] = seen
        if isinstance(seen.found, AdapterError):
            raise type(seen.found)(str(seen.found)) from seen.found
        return seen.found

    def all(self) -> list[StoredAdapter]:
        """Those that can be served, by name."""
        root = self._store.root
        names = sorted(entry.name for entry in os.scandir(root) if is_name(entry.name)) if root.is_dir() else []
        found = []
        for name in names:
            try:
                found.append(self.get(name))
            except AdapterError:
                continue  # damaged, or of another base: `flan-lora adapter list` says why
        return found

    def _open(self, name: str) -> StoredAdapter | AdapterError:
        try:
            return self._store.open(name, fingerprint=self._base.fingerprint, base_name=self._base.spec.model)
        except AdapterError as error:
            return error

    def _identity(self, name: str) -> tuple[int, int, int] | None:
        try:
            status = (self._store.root / name / MANIFEST).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
