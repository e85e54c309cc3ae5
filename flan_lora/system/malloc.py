"""What glibc's malloc does with memory that was freed; elsewhere these do nothing.

Source: man 3 mallopt, man 3 malloc_trim.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""glibc's names for two of mallopt's parameters (malloc.h)."""


def keep_freed_memory() -> None:
    """Hand the memory of one training step to the next, for the rest of the process.

    By default every tensor of more than some MB is mapped, zeroed page by page and unmapped again.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, -1)


def return_freed_memory() -> None:
    """Give freed memory back to the system: the temporaries of quantising, 1 GB at flan-t5-large."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> Any:
    """The function, or None where the C library has none of this name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
