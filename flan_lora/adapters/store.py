"""The only writer of adapters/: plain PEFT folders with a manifest, published whole or not at all.

Knows files, locks and renames; what a sound adapter is stands in validation.py and weights.py. torch is
imported where weights are read, so listing and opening do without.

How a publish survives a crash: everything is written and fsynced in ``.new-<name>``, the manifest last. Then
come three renames under the store's lock: ``<name>`` to ``.old-<name>``, ``.new-<name>`` to ``<name>``,
``.old-<name>`` to ``.trash-<name>``, which is deleted. Whoever takes the lock next repairs first: what is trash
or new is deleted, what is old comes back if its name is free. A reader that finds something wrong looks again
under the lock.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TypeAlias

from flan_lora.adapters.lora_config import CONFIG, canonical_config, config_problems, read_config
from flan_lora.adapters.manifest import FileRecord, Manifest, dump, load_metrics
from flan_lora.adapters.validation import (
    CARD,
    LOG,
    MANIFEST,
    METRICS,
    PICKLE_SUFFIXES,
    PICTURE,
    REQUIRED,
    WEIGHTS,
    BrokenAdapter,
    StoredAdapter,
    check_fits,
    check_name,
    corrupt,
    inspect,
    is_name,
    pickles,
    prompt_problems,
    read_contents,
    recipe_problems,
)
from flan_lora.adapters.weights import AdapterFiles, parsed, weight_problems
from flan_lora.errors import AdapterCorruptError, AdapterError, UnknownAdapterError
from flan_lora.system.text import suggest

PUBLISHED = (*REQUIRED, CARD, METRICS, LOG, PICTURE)
"""What a staged folder may hold; the manifest is written here."""

Listing: TypeAlias = list[StoredAdapter | BrokenAdapter]
Problems: TypeAlias = list[str]
Contents: TypeAlias = Mapping[str, bytes | None]


class Store:
    """The adapters of one base: ``root`` is adapters/<base slug>. Any number of processes may share it.

    A store that we may not write to (a read-only disk) can be read; nothing is repaired there.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.place = str(root)
        """For messages: where the adapters lie."""

    def has(self, name: str) -> bool:
        """Whether something of that name is published, sound or not. ``name``: checked (`check_name`)."""
        return (self.root / name).is_dir()

    def publish(self, staged_dir: str | Path, manifest: Manifest, *, weights_sha256: str | None = None) -> Path:
        """Make a staged PEFT folder the adapter ``manifest.name``, in place of one of that name; return its path.

        A crash at any point leaves the old adapter or the new one. Of two publishes at once the later one stays.
        ``manifest.files`` is filled in here; adapter_config.json is canonicalised. ``staged_dir`` is only read.

        Args:
            weights_sha256: of the weights that the manifest speaks of; others are not published.

        Raises:
            AdapterError: the name cannot be used, or the disk refuses.
            AdapterCorruptError: the staged folder is not a trained, pickle-free LoRA adapter that fits the
                manifest; the text lists every problem.
        """
        check_name(manifest.name)
        contents = _read_staged(Path(staged_dir), manifest, weights_sha256)
        target = self.root / manifest.name
        try:
            with self._locked():
                new = self.root / f".new-{manifest.name}"
                _write_folder(new, contents, manifest)
                self._swap_in(new, target)
        except OSError as error:
            raise AdapterError(
                f"cannot publish adapter {manifest.name!r} in {self.root}: {error}.\n"
                f"The staged files are still in {staged_dir}, and an adapter published before is still whole. "
                "Make room or give write permission, then publish again; a training does so with --resume."
            ) from error
        return target

    def open(self, name: str, *, fingerprint: str | None = None, base_name: str | None = None) -> StoredAdapter:
        """The adapter ``name``, with every file checked against its sha256.

        Args:
            fingerprint: of the base that will carry it (`Base.fingerprint`); None leaves that to `load_adapter`.
            base_name: that base's name, for the error text.

        Raises:
            AdapterError: ``name`` cannot be an adapter's.
            UnknownAdapterError: nothing of that name is published here.
            AdapterCorruptError: files are missing, altered, linked from outside, or pickles.
            AdapterMismatchError: trained on another base, or with another version of the task's prompt.
        """
        return self._open(name, fingerprint, base_name)[0]

    def read(
        self, name: str, *, fingerprint: str | None = None, base_name: str | None = None
    ) -> tuple[StoredAdapter, AdapterFiles]:
        """`open`, and the weights from the very bytes that it checked: for who needs them at once."""
        stored, contents = self._open(name, fingerprint, base_name)
        return stored, parsed(f"adapter {name!r} in {self.place} is damaged", contents, _publish_again(name))

    def list(self) -> Listing:
        """Every adapter folder by name, damaged ones with their problems; empty when the store does not exist."""
        with self._settled():
            return [self._read_or_broken(name) for name in self._names()]

    def verify(self, name: str) -> Problems:
        """Everything wrong with an adapter, one text each; weights are read and checked too. Empty when sound.

        Raises:
            AdapterError, UnknownAdapterError: as `open`.
        """
        check_name(name)
        with self._settled():
            path = self._existing(name)
            found = inspect(path, self.root)
            if found.manifest is None:
                return found.problems
            problems = found.problems
            if not problems:
                config, _ = read_config(found.contents[CONFIG] or b"")
                problems = weight_problems(found.contents[WEIGHTS] or b"", config)
            return problems + prompt_problems(found.manifest)

    def remove(self, name: str) -> None:
        """Take an adapter away, sound or damaged; a crash on the way leaves it whole or gone.

        Raises:
            AdapterError: ``name`` cannot be an adapter's, or the disk refuses.
            UnknownAdapterError: nothing of that name is published here.
        """
        check_name(name)
        if not os.path.isdir(self.root):  # not is_dir, which raises where a name is too long
            self._existing(name)
        try:
            with self._locked():
                self._discard(self._existing(name))
        except OSError as error:
            raise AdapterError(f"cannot remove adapter {name!r} from {self.root}: {error}.") from error

    # Reading

    def _names(self) -> Problems:
        try:
            entries = list(self.root.iterdir()) if self.root.is_dir() else []
        except OSError as error:
            raise AdapterError(
                f"{self.root} cannot be read: {error}.\nGive a folder that you may read."
            ) from error
        return sorted(p.name for p in entries if is_name(p.name) and (p.is_symlink() or p.is_dir()))

    def _existing(self, name: str) -> Path:
        """The folder of ``name``, links unresolved; or UnknownAdapterError with what is there."""
        path = self.root / name
        if os.path.lexists(path):
            return path
        names = self._names()
        there = f"there are: {', '.join(names)}" if names else "nothing is published there"
        hint = suggest(name, names, list_known=False) or "."
        raise UnknownAdapterError(
            f"no adapter {name!r} in {self.place}{hint}\n  {there}\n"
            f"Publish it with flan-lora train recipes/{name}.yaml, or point at the folder that has it."
        )

    def _open(self, name: str, fingerprint: str | None, base_name: str | None) -> tuple[StoredAdapter, Contents]:
        check_name(name)
        try:
            stored, contents = self._read(name)
        except (AdapterError, OSError):
            # Another process may be between two renames, or have died there: look again under the lock.
            with self._settled():
                stored, contents = self._read(name)
        check_fits(stored.manifest, fingerprint, base_name)
        return stored, contents

    def _read(self, name: str) -> tuple[StoredAdapter, Contents]:
        path = self._existing(name)
        found = inspect(path, self.root)
        if found.manifest is None or found.problems:
            raise corrupt(
                f"adapter {name!r} in {self.place} is damaged",
                found.problems,
                _publish_again(name),
            )
        return StoredAdapter(path, found.manifest), found.contents

    def _read_or_broken(self, name: str) -> StoredAdapter | BrokenAdapter:
        path = self.root / name
        try:
            found = inspect(path, self.root)
        except OSError as error:  # what one folder does must not hide the others
            return BrokenAdapter(name, path, (f"cannot be read: {error}",))
        if found.manifest is None:
            return BrokenAdapter(name, path, tuple(found.problems))
        if problems := found.problems or prompt_problems(found.manifest):
            return BrokenAdapter(name, path, tuple(problems))
        return StoredAdapter(path, found.manifest)

    # The rename dance. Nothing else in the package renames or deletes below adapters/.

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Sole writer of this store; what a crash left is repaired first, and what goes wrong inside after."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("ab") as file:
            _lock(file)
            self._repair()
            try:
                yield
            except BaseException:
                with suppress(OSError):
                    self._repair()
                raise
            finally:
                _unlock(file)

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """The lock for a reader, where it can be had: not on a read-only disk, and a missing store is not made."""
        with ExitStack() as stack:
            with suppress(OSError):
                if self.root.is_dir():
                    stack.enter_context(self._locked())
            yield

    def _repair(self) -> None:
        """Finish or undo what a writer left behind. Each step may itself be interrupted and done again."""
        for trash in list(self.root.glob(".trash-*")):
            _delete(trash)
        for new in list(self.root.glob(".new-*")):
            _delete(new)
        for old in list(self.root.glob(".old-*")):
            target = self.root / old.name.removeprefix(".old-")
            if os.path.lexists(target):
                self._discard(old)
            else:
                os.rename(old, target)
                _sync_folder(self.root)

    def _swap_in(self, new: Path, target: Path) -> None:
        """``new`` becomes ``target``; the two renames in the middle of the dance."""
        old = self.root / f".old-{target.name}"
        if os.path.lexists(target):
            os.rename(target, old)
        os.rename(new, target)
        _sync_folder(self.root)
        if os.path.lexists(old):
            with suppress(OSError):  # published already; whoever takes the lock next deletes what is left
                self._discard(old)

    def _discard(self, path: Path) -> None:
        """Delete a folder so that no half of it ever bears a name."""
        trash = self.root / f".trash-{path.name.removeprefix('.old-')}"
        os.rename(path, trash)
        _sync_folder(self.root)
        _delete(trash)


def _publish_again(name: str) -> str:
    return f"Restore the folder from its origin, or publish it again: flan-lora train recipes/{name}.yaml"


# What is published


def _read_staged(staged: Path, manifest: Manifest, weights_sha256: str | None) -> dict[str, bytes]:
    """The bytes to publish, after every check; the config canonicalised."""
    found, unreadable = read_contents(staged, PUBLISHED)
    contents = {name: content for name, content in found.items() if content is not None}
    problems = pickles(staged) + unreadable + [f"{name}: missing" for name in REQUIRED if name not in contents]
    problems += [f"{name}: not part of an adapter" for name in _strangers(staged)]
    problems += recipe_problems(manifest)
    if WEIGHTS in contents and weights_sha256 not in (None, got := hashlib.sha256(contents[WEIGHTS]).hexdigest()):
        problems.append(f"{WEIGHTS}: not those of this run: expected sha256 {weights_sha256}, got {got}")
    if not problems:
        problems = config_problems(contents[CONFIG], manifest) or _content_problems(contents, staged, manifest)
    if problems:
        where = f"cannot publish adapter {manifest.name!r} from {staged}"
        raise corrupt(where, problems, "Nothing was published.")
    return {**contents, CONFIG: canonical_config(json.loads(contents[CONFIG]), manifest)}


def _strangers(staged: Path) -> Problems:
    """Names that are neither published nor pickles, which have a line of their own."""
    known = {*PUBLISHED, MANIFEST}
    return sorted(
        p.name for p in staged.glob("*") if p.name not in known and p.suffix.lower() not in PICKLE_SUFFIXES
    )


def _content_problems(contents: Mapping[str, bytes], staged: Path, manifest: Manifest) -> Problems:
    """Weights, scores, and texts that would tell where this machine keeps its files."""
    problems = weight_problems(contents[WEIGHTS], json.loads(contents[CONFIG]))
    private = [str(path).encode() for path in (Path.home(), staged.resolve()) if len(path.parts) > 1]
    texts = {name: contents[name] for name in (CARD, METRICS, LOG) if name in contents}
    problems += [f"{name}: names a local path" for name, text in texts.items() if any(p in text for p in private)]
    if METRICS in contents:
        try:
            if load_metrics(staged / METRICS).adapter != manifest.scores:
                problems.append(f"{METRICS}: has other scores than the manifest")
        except AdapterCorruptError as error:
            problems.append(str(error))
    return problems


# Files


def _write_folder(folder: Path, contents: Mapping[str, bytes], manifest: Manifest) -> None:
    """Write and fsync every file, the manifest last, then the folder itself."""
    folder.mkdir()
    for name, content in contents.items():
        _write_synced(folder / name, content)
    files = {name: FileRecord.of(content) for name, content in contents.items()}
    _write_synced(folder / MANIFEST, dump(manifest.model_copy(update={"files": files})).encode())
    _sync_folder(folder)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make names in a folder durable. Windows cannot open folders and does without."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot, and order renames anyway
            raise
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        """Wait for the first byte of the file; msvcrt gives up after ten seconds, with OSError."""
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)

    def _unlock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        """Wait, and hold until unlocked or dead. flock, not lockf: it also keeps threads of one process apart."""
        fcntl.flock(file, fcntl.LOCK_EX)

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
