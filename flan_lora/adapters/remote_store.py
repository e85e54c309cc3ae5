"""Adapter roots that are no local folder, each mirrored into one: so the rest of the package reads local files.

A root of a URL has a mirror in the cache (`adapter_root`); below it lies a folder per base, as under adapters/.
An adapter comes into the mirror when it is asked for, whole or not at all, each file checked against the sha256 in
the manifest.

How a publish survives a crash without renames, which object storage does not have:

    <root>/<base>/<name>/.versions/<id>/<file>   1. all files, under a name of their own
    <root>/<base>/<name>/manifest.json           2. one PUT: from here it is published. <id> is of its sha256
    <root>/<base>/<name>/<file>                  3. copies, so that the folder is PEFT's for whoever downloads it

Until 2 the old adapter is whole, from then on the new one; a folder without a manifest is no adapter. A folder
that was copied there by other means has no .versions, and is read as it is.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from flan_lora.adapters.manifest import Manifest, load
from flan_lora.adapters.remote_folder import RemoteFolder, is_url
from flan_lora.adapters.store import PUBLISHED, Listing, Problems, Store
from flan_lora.adapters.validation import (
    MANIFEST,
    MAX_FILE_BYTES,
    MAX_WEIGHT_BYTES,
    WEIGHTS,
    BrokenAdapter,
    StoredAdapter,
    check_name,
    is_name,
    prompt_problems,
)
from flan_lora.errors import AdapterCorruptError, DiskError, FlanLoraError, RemoteError
from flan_lora.system.cache_dir import default_cache_dir
from flan_lora.system.files import disk_errors, read_regular, replace_file

ORIGIN = ".origin.json"
"""In a mirror: the URL that it mirrors."""
_ATTEMPTS = 3
"""Of a download while somebody publishes anew."""
REFRESH_S = 10.0
"""Between looks at the remote root while its adapters are served."""

log = logging.getLogger(__name__)


def adapter_root(place: str | Path) -> Path:
    """The local folder of an adapter root: itself, or the mirror of a URL. Asks nobody.

    Raises:
        RemoteError: no installed package reads such a URL; the text says which to install.
        DiskError: the cache cannot be written.
    """
    if isinstance(place, Path) or not is_url(place):
        return Path(place)
    remote = RemoteFolder(place)
    remote.check()
    digest = hashlib.sha256(remote.url.encode()).hexdigest()[:16]
    mirror = _mirrors() / digest
    with disk_errors(f"the mirror of {remote.shown}, {mirror}", "Name another place with FLAN_LORA_CACHE."):
        if not (mirror / ORIGIN).is_file():
            mirror.mkdir(parents=True, exist_ok=True)
            replace_file(mirror / ORIGIN, (json.dumps({"url": remote.url}) + "\n").encode())
    return mirror


def _mirrors() -> Path:
    return (default_cache_dir() or _temporary_cache()) / "adapters"


@cache
def _temporary_cache() -> Path:
    """A folder of this process's, where there is to be no cache."""
    temporary = tempfile.mkdtemp(prefix="flan_lora-")
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return Path(temporary)


def remote_of(root: Path) -> RemoteFolder | None:
    """What a folder of `adapter_root` mirrors; None: it is a local root."""
    if root.parent != _mirrors():  # a folder of somebody's does not send us elsewhere
        return None
    try:
        return RemoteFolder(json.loads((root / ORIGIN).read_bytes())["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def place_of(root: Path) -> str:
    """What names an adapter root on every machine: its URL, or the absolute path."""
    remote = remote_of(root)
    return str(root.absolute()) if remote is None else remote.url


def store_at(root: str | Path) -> Store:
    """The store of one base, <adapter root>/<base slug>: local, or remote where its root is a mirror.

    Takes a URL too. Raises what `adapter_root` raises.
    """
    if isinstance(root, str) and is_url(root):
        above, _, slug = root.rstrip("/").rpartition("/")
        root = adapter_root(above) / slug
    root = Path(root)
    remote = remote_of(root.parent)
    return Store(root) if remote is None else RemoteStore(root, remote.child(root.name))


def bases_of(root: Path) -> list[str]:
    """Folder names of the bases under an adapter root. Raises RemoteError."""
    remote = remote_of(root)
    if remote is not None:
        return [name for name in remote.folders() if not name.startswith(".")]
    return [folder.name for folder in sorted(root.iterdir()) if folder.is_dir()] if root.is_dir() else []


def check_writable(root: Path) -> None:
    """Raise RemoteError where a remote store refuses to be written: before a training, not after it."""
    store = store_at(root)
    if isinstance(store, RemoteStore):
        store.remote.check_writable()


class RemoteStore(Store):
    """A `Store` whose adapters lie elsewhere; ``root`` is the mirror."""

    def __init__(self, root: Path, remote: RemoteFolder) -> None:
        super().__init__(root)
        self.remote = remote
        self.place = remote.shown
        self._stamps: dict[str, Any] = {}
        self._known: dict[str, tuple[Any, StoredAdapter | BrokenAdapter]] = {}
        self._has_warned = False

    # As in Store, what is asked for fetched before

    def open(self, name: str, *, fingerprint: str | None = None, base_name: str | None = None) -> StoredAdapter:
        self.fetch(name)
        try:
            return super().open(name, fingerprint=fingerprint, base_name=base_name)
        except AdapterCorruptError:  # of the mirror, perhaps
            self.fetch(name, again=True)
            return super().open(name, fingerprint=fingerprint, base_name=base_name)

    def read(self, name: str, **of_base: Any) -> Any:
        self.open(name)
        return super().read(name, **of_base)

    def has(self, name: str) -> bool:
        return self.remote.read(f"{name}/{MANIFEST}", MAX_FILE_BYTES) is not None

    def list(self) -> Listing:
        """By the manifests alone: weights come when they are asked for."""
        stamps = {name: stamp for name, stamp in self.remote.stamps(MANIFEST).items() if is_name(name)}
        known = self._known
        self._known = {
            name: known[name] if name in known and known[name][0] == stamp else (stamp, self._listed(name))
            for name, stamp in stamps.items()
        }
        return [item for _, (_, item) in sorted(self._known.items())]

    def verify(self, name: str) -> Problems:
        self.fetch(name)
        return super().verify(name)

    def publish(self, staged_dir: str | Path, manifest: Manifest, *, weights_sha256: str | None = None) -> Path:
        """As `Store.publish`, and then in the remote root; raises RemoteError where that refuses."""
        path = super().publish(staged_dir, manifest, weights_sha256=weights_sha256)
        try:
            self._upload(manifest.name)
        except RemoteError as error:
            with suppress(FlanLoraError):
                super().remove(manifest.name)
            raise RemoteError(
                f"{error}\nThe staged files are still in {staged_dir}, and an adapter published before is still "
                "whole; a training publishes again with --resume."
            ) from error
        return path

    def remove(self, name: str) -> None:
        """The manifest first: without it nothing is published."""
        check_name(name)
        self.fetch(name)
        self._existing(name)
        self.remote.delete(f"{name}/{MANIFEST}")
        self.remote.delete(name)
        super().remove(name)

    def _names(self) -> Problems:
        return sorted(name for name in self.remote.stamps(MANIFEST) if is_name(name))

    # Mirror

    def fetch(self, name: str, *, again: bool = False) -> None:
        """Have the mirror hold what is published now, or nothing of that name.

        A root that cannot be reached changes nothing where the mirror has the adapter; that is said once.

        Args:
            again: look at the files too, not at the manifest alone.

        Raises:
            AdapterCorruptError: what lies there is not what its manifest says.
            RemoteError: it cannot be read, and the mirror has none.
        """
        check_name(name)
        problem = ""
        try:
            for _ in range(_ATTEMPTS):
                manifest = self.remote.read(f"{name}/{MANIFEST}", MAX_FILE_BYTES)
                if manifest is None:
                    return self._forget(name)
                if manifest == self._mirrored(name, MANIFEST) and not again:
                    return None
                if not (problem := self._download(name, manifest)):
                    return None
        except RemoteError as error:
            if self._mirrored(name, MANIFEST) is None:
                raise
            if not self._has_warned:
                log.warning("%s\nWhat was read before is used: %s", error, self.root)
            self._has_warned = True
            return None
        raise AdapterCorruptError(problem)

    def refresh(self) -> None:
        """Fetch anew what is in the mirror and has changed; raises like `fetch`, after all of them."""
        stamps, problems = self.remote.stamps(MANIFEST), []
        for folder in sorted(self.root.glob(f"*/{MANIFEST}")):
            name = folder.parent.name
            if stamps.get(name) != self._stamps.get(name) or name not in stamps:
                try:
                    self.fetch(name)
                except AdapterCorruptError as error:
                    problems.append(str(error))
                    stamps.pop(name, None)  # looked at again the next time
        if stamps != self._stamps:
            self._stamps = stamps
            with suppress(OSError):
                os.utime(self.root)  # whoever keeps something of the listing looks again
        if problems:
            raise AdapterCorruptError("\n".join(problems))

    def _mirrored(self, name: str, file: str) -> bytes | None:
        try:
            return read_regular(self.root / name / file, MAX_WEIGHT_BYTES if file == WEIGHTS else MAX_FILE_BYTES)
        except OSError:
            return None

    def _forget(self, name: str) -> None:
        if (self.root / name).is_dir():
            super().remove(name)

    def _download(self, name: str, content: bytes) -> str:
        """The version of a manifest into the mirror; what is wrong with it, else nothing."""
        with disk_errors(f"the mirror of {self.place}, {self.root}", "Name another place with FLAN_LORA_CACHE."):
            self.root.mkdir(parents=True, exist_ok=True)
            staged = Path(tempfile.mkdtemp(prefix=f".fetch-{name}-", dir=self.root))
            try:
                (staged / MANIFEST).write_bytes(content)
                for file, record in load(staged / MANIFEST).files.items():
                    if file not in PUBLISHED:
                        return f"{self.place}/{name}/{MANIFEST} names {file!r}, which is no file of an adapter."
                    found = self._find(name, file, record.sha256, version_of(content))
                    if found is None:
                        return (
                            f"{self.place}/{name}/{file} is not what its manifest says.\n"
                            f"  expected  sha256 {record.sha256}, {record.size_bytes:,} bytes\n"
                            "Publish the adapter again, or wait until its publication has ended."
                        )
                    (staged / file).write_bytes(found)
                self._put_in_place(staged, name)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
        return ""

    def _find(self, name: str, file: str, sha256: str, version: str) -> bytes | None:
        """The bytes of a file by their hash: in the mirror, among the versions, in the folder itself."""
        content = self._mirrored(name, file)
        for place in (f"{name}/.versions/{version}/{file}", f"{name}/{file}"):
            if content is not None and hashlib.sha256(content).hexdigest() == sha256:
                return content
            content = self.remote.read(place, MAX_WEIGHT_BYTES if file == WEIGHTS else MAX_FILE_BYTES)
        is_it = content is not None and hashlib.sha256(content).hexdigest() == sha256
        return content if is_it else None

    def _put_in_place(self, staged: Path, name: str) -> None:
        with self._locked():
            new = self.root / f".new-{name}"
            os.rename(staged, new)
            self._swap_in(new, self.root / name)

    def _listed(self, name: str) -> StoredAdapter | BrokenAdapter:
        """An adapter by its manifest, as it lies in the remote root."""
        path = self.root / name
        content = self.remote.read(f"{name}/{MANIFEST}", MAX_FILE_BYTES) or b""
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / MANIFEST).write_bytes(content)
            try:
                manifest = load(Path(folder) / MANIFEST)
            except AdapterCorruptError as error:
                return BrokenAdapter(name, path, (str(error).replace(folder, f"{self.place}/{name}"),))
        problems = [] if manifest.name == name else [f"{MANIFEST}: is of {manifest.name!r}, and lies in {name!r}"]
        problems += prompt_problems(manifest)
        return BrokenAdapter(name, path, tuple(problems)) if problems else StoredAdapter(path, manifest)

    def _upload(self, name: str) -> None:
        """The three steps of the module's head, from the mirror."""
        before = self.remote.read(f"{name}/{MANIFEST}", MAX_FILE_BYTES)
        content = (self.root / name / MANIFEST).read_bytes()
        if content == before:
            return
        version = version_of(content)
        files = sorted(path.name for path in (self.root / name).iterdir() if path.name != MANIFEST)
        for file in files:
            self.remote.write(f"{name}/.versions/{version}/{file}", (self.root / name / file).read_bytes())
        self.remote.write(f"{name}/{MANIFEST}", content)
        for file in files:
            self.remote.copy(f"{name}/.versions/{version}/{file}", f"{name}/{file}")
        if before is not None:  # never of another publisher, whose manifest is still to come
            self.remote.delete(f"{name}/.versions/{version_of(before)}")


def version_of(manifest: bytes) -> str:
    """The name under which the files of a manifest are kept."""
    return hashlib.sha256(manifest).hexdigest()[:16]


def keep_fresh(store: Store, interval_s: float | None = None) -> threading.Event | None:
    """Refresh a remote store's mirror in the background, until the event is set or the store is let go of.

    Who asks for an adapter after that gets what is published, as with a local store. None: the store is local.
    """
    if not isinstance(store, RemoteStore):
        return None
    ended, reference = threading.Event(), weakref.ref(store)

    def run() -> None:
        said = ""
        while not ended.wait(REFRESH_S if interval_s is None else interval_s):
            if (mine := reference()) is None:
                return
            try:
                mine.refresh()
                said = ""
            except (RemoteError, AdapterCorruptError, DiskError) as error:
                if str(error) != said:
                    log.warning("%s", error)
                said = str(error)
            del mine

    threading.Thread(target=run, name="adapter-root-refresh", daemon=True).start()
    return ended
