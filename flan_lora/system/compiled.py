"""C compiled on the machine that runs it, for its own processor, and kept for the next process."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from flan_lora.errors import DiskError
from flan_lora.system.cache_dir import default_cache_dir
from flan_lora.system.files import replace_file

# -ffp-contract=off keeps a * b + c at two roundings; -fno-math-errno lets rintf be one instruction
_FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-fopenmp", "-shared")
_LIMIT_S = 60
_OTHERS_MAY_WRITE = 0o022


class NotCompiledError(Exception):
    """Why there is no library; whoever asked does without."""


def compiled(source: Path, processor: str) -> ctypes.CDLL:
    """The library of one C file: from the cache folder, else compiled by $CC or the `cc` that is there.

    Args:
        processor: what -march=native stands for here; a home folder may be shared by machines.

    Raises:
        NotCompiledError: no compiler, no cache folder, or neither source nor library is right.
    """
    folder, compiler = default_cache_dir(), _compiler()
    if folder is None:
        raise NotCompiledError("there is no cache folder (FLAN_LORA_CACHE)")
    try:
        code = source.read_bytes()
    except OSError as error:
        raise NotCompiledError(f"{source.name} cannot be read ({error.strerror})") from None
    key = hashlib.sha256("\0".join([code.decode(), *compiler, *_FLAGS, processor, sys.platform]).encode())
    path = folder / "compiled" / f"{source.stem}-{key.hexdigest()[:16]}.so"
    if not path.exists():
        _compile(source, compiler, path)
    _check_owner(path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NotCompiledError(f"{path.name} cannot be loaded ({error})") from None


def _compiler() -> list[str]:
    command = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(command[0]) is None:
        raise NotCompiledError(f"there is no C compiler ({command[0]})")
    return command


def _compile(source: Path, compiler: list[str], path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="flan-lora-compiled-") as folder:
        target = Path(folder) / "library.so"
        try:
            done = subprocess.run(
                [*compiler, *_FLAGS, str(source), "-o", str(target)],
                capture_output=True, text=True, timeout=_LIMIT_S, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            if done.returncode:
                errors = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
                raise NotCompiledError(f"{compiler[0]} fails: {errors[0].strip()[:200]}")
            replace_file(path, target.read_bytes())
        except (OSError, subprocess.TimeoutExpired, DiskError) as error:
            raise NotCompiledError(f"{source.name} cannot be compiled ({str(error).splitlines()[0]})") from None


def _check_owner(path: Path) -> None:
    """Nobody else must be able to change what runs in this process."""
    for place in (path, path.parent):
        found = place.stat()
        if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & _OTHERS_MAY_WRITE):
            raise NotCompiledError(f"{place.name} in the cache folder may be changed by others")
