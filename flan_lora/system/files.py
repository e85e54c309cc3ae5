"""Write a file whole or not at all; read one that whoever made it cannot use against us. Never what bytes mean."""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path

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
    other writer has.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
