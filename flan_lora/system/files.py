"""Write a file whole or not at all; read one that whoever made it cannot use against us. Never what bytes mean."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flan_lora.errors import DiskError

MAKE_ROOM = "Make room or give write permission, then give the same command again."
_DISK_ERRORS = frozenset(
    getattr(errno, name)
    for name in (
        *(
            "ENOSPC",
            "EDQUOT",
            "EFBIG",
            "EROFS",
            "EACCES",
            "EPERM",
            "ENAMETOOLONG",
            "EIO",
            "ENOTDIR",
            "EEXIST",
            "ENOENT",
        ),
        *("EISDIR", "ELOOP", "EMFILE", "ENFILE", "ENXIO", "ESTALE"),
    )
    if hasattr(errno, name)
)
_RUST_ERROR = re.compile(r"os error (\d+)")
_TORCH_ERROR = re.compile(r"PytorchStreamWriter failed|file write failed|unexpected pos")
_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def replace_file(path: Path, content: bytes) -> None:
    """Give ``path`` this content; a crash, or another writer of the same path, leaves the old file or a new one.

    The folder is made if it is missing. Until the last moment the bytes lie beside it under a hidden name that no
    other writer has. A device or a pipe, such as /dev/stdout, is written to as it is.
    """
    with disk_errors(str(path)):
        if _exists_otherwise(path):
            path.write_bytes(content)
            return
    temporary = path.with_name(f".{path.name[:200]}.{uuid.uuid4().hex[:12]}.tmp")
    with disk_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):  # what went wrong first is what is told
                temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors(where: str, next_step: str = MAKE_ROOM) -> Iterator[None]:
    """Turn what a disk, a limit or a permission refuses into one DiskError about ``where``.

    Whoever wrote: Python, safetensors or torch, which has errors of its own. A DiskError from inside keeps its
    place and gets this ``next_step``.
    """
    try:
        yield
    except DiskError as error:
        raise DiskError(error.where, error.reason, next_step) from error
    except Exception as error:
        if reason := disk_reason(error):
            raise DiskError(where, reason, next_step) from error
        raise


def disk_reason(error: BaseException) -> str:
    """Why the disk refused, if that is what an error says; else empty."""
    if isinstance(error, OSError):
        if error.errno not in _DISK_ERRORS:
            return ""
        name = f" ({str(error.filename)[-200:]})" if error.filename else ""
        return f"{error.strerror}{name}"
    found = _RUST_ERROR.search(str(error))
    if found and int(found[1]) in _DISK_ERRORS:  # safetensors
        return os.strerror(int(found[1]))
    if isinstance(error, RuntimeError) and _TORCH_ERROR.search(str(error)):
        return "the disk took only a part of a file: it is full, or a limit on the size of files is reached"
    return ""


def check_writable(folder: Path, num_bytes: int = 0) -> None:
    """Refuse a folder, which may not exist yet, that could not be written to, or has no room. Makes nothing.

    Raises:
        DiskError: its name cannot be one, it is no folder, we may not write there, or fewer bytes are free.
    """
    with disk_errors(str(folder), "Name another place, or give write permission."):
        parent = folder
        while not _exists(parent):
            parent = parent.parent
        if not parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(parent))
        if not os.access(parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "no write permission, or a read-only disk", str(parent))
        free = shutil.disk_usage(parent).free
    if free < num_bytes:
        reason = f"about {num_bytes / 1e6:,.0f} MB are needed, and {free / 1e6:,.0f} MB are free there"
        raise DiskError(str(folder), reason, "Make room, or name a place on another disk.")


def check_writable_file(path: Path) -> None:
    """Refuse a file that could not be written later, before the work for it is done. Raises DiskError."""
    with disk_errors(str(path), "Name another place, or give write permission."):
        if _exists_otherwise(path):
            return
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    check_writable(path.parent)


def _exists_otherwise(path: Path) -> bool:
    """Whether something is there that is no file: a rename over a device would take its place in /dev."""
    try:
        return stat.S_IFMT(path.stat().st_mode) in _KINDS
    except (FileNotFoundError, NotADirectoryError):
        return False


def _exists(path: Path) -> bool:
    """Or OSError where that cannot be: a name that is too long, a file in the place of a folder."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file, links followed. Never waits for a pipe, and never reads a device.

    Raises:
        FileNotFoundError: no such file.
        OSError: it cannot be read, is a folder, pipe, socket or device, or has more than ``max_bytes``.
    """
    # without O_NONBLOCK, opening a pipe that nobody writes to waits for ever
    descriptor = os.open(path, os.O_RDONLY | _NO_WAITING)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{_KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}, not a file")
        if found.st_size > max_bytes:
            raise OSError(f"{found.st_size:,} bytes; at most {max_bytes:,} are read")
        return file.read(max_bytes + 1)
