"""One process at a time for files that are being written. The lock dies with its process, however that dies."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from flan_lora.errors import BusyError

_OWNER_OFFSET = 1
"""Byte 0 is what Windows locks; the owner's description stands behind it, readable by others."""


@contextmanager
def sole_owner(lock_path: Path, what: str) -> Iterator[None]:
    """Hold ``lock_path``, which is made and removed again; its folder must exist.

    Args:
        what: what the lock guards, for the error text: ``the output answers.jsonl``.

    Raises:
        BusyError: another process, or another thread of this one, holds it; the text says who and since when.
        OSError: the file cannot be made.
    """
    file = _acquire(lock_path, what)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows does not remove what is open; a lock file left behind does no harm
            lock_path.unlink()
        file.close()


def _acquire(lock_path: Path, what: str) -> IO[bytes]:
    while True:
        file = lock_path.open("a+b")
        try:
            _lock(file)
        except OSError:
            with file:
                raise BusyError(_busy(file, what)) from None
        if _is_same(file, lock_path):
            break
        file.close()  # its last owner removed it between our open and our lock
    with suppress(OSError):  # a full disk cannot be told who holds the lock; it is held nevertheless
        file.truncate(0)
        os.write(file.fileno(), b"\n" + json.dumps(_owner()).encode())
    return file


def _is_same(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _owner() -> dict[str, str | int]:
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return {"pid": os.getpid(), "host": platform.node(), "since": since}


def _busy(file: IO[bytes], what: str) -> str:
    who = "another process"
    with suppress(OSError, ValueError, KeyError, TypeError):
        file.seek(_OWNER_OFFSET)
        owner = json.loads(file.read(1000))
        who = f"process {owner['pid']} on {owner['host']}, since {owner['since']},"
    return f"{what} is in use: {who} is writing it.\nWait for it, end it, or name another place."


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        """Or OSError at once. flock, not lockf: it also keeps threads of one process apart."""
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
