"""The pools of threads that OpenMP keeps behind torch's operations: one for every thread that has called any.

GNU's OpenMP counts the threads of all pools. When there are more than cores, those that wait for each other in an
operation sleep at once instead of spinning, and waking them takes longer than most of a decoder's operations. One
more pool, even an idle one, made generation 1.6 to 3 times slower (docs/log.md, 2026-11-27).
Source: libgomp's wait.h (`gomp_managed_threads`, `gomp_throttled_spin_count_var`).
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

_SOFT = 1
"""omp_pause_soft: everything comes back by itself when it is needed (OpenMP 5.0, omp_pause_resource_all)."""
_PROCESS = os.getpid()


def release_threads() -> None:
    """End the calling thread's pool; its next operation makes a new one.

    To be called before a wait for another thread's operations. Does nothing under another OpenMP, and in a forked
    child, where the pool is there in name only.
    """
    pause = _pause()
    if pause is not None and os.getpid() == _PROCESS:
        pause(_SOFT)


@cache
def _pause() -> Any:
    """omp_pause_resource_all of the libgomp that torch's wheels for Linux bring along; else None."""
    import torch

    for path in (Path(torch.__file__).parent / "lib").glob("libgomp*.so*"):
        try:
            return getattr(ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD), "omp_pause_resource_all", None)
        except OSError:  # there, but not the one that is loaded
            continue
    return None
