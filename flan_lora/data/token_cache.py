"""Lists of token ids in a safetensors file, checked when read.

A ragged list is kept flat (int32) beside its offsets (int64). safetensors, not pickle: a cache file that
somebody else wrote can hold wrong numbers, but can never run code.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flan_lora.system.files import replace_file

if TYPE_CHECKING:
    import numpy as np

Ragged = Sequence[Sequence[int]]


class BrokenCacheError(ValueError):
    """A cache file is truncated, altered or not ours; the caller rebuilds it."""


@dataclass(frozen=True, slots=True)
class CacheFile:
    """What one file holds: named ragged lists, and a few named numbers."""

    lists: dict[str, list[list[int]]]
    numbers: dict[str, float]


def write_cache(path: Path, lists: Mapping[str, Ragged], numbers: Mapping[str, float]) -> None:
    """Write a cache file; readers and other writers of the same path see a whole file or none.

    Raises:
        OSError: the folder cannot be written to.
    """
    import numpy as np
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, rows in lists.items():
        arrays[f"{name}.flat"] = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int32)
        arrays[f"{name}.offsets"] = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    metadata = {"numbers": json.dumps(dict(numbers)), "sha256": _digest(arrays)}
    replace_file(path, save(arrays, metadata))


def read_cache(path: Path) -> CacheFile:
    """Read and check a cache file.

    Raises:
        FileNotFoundError: no such file.
        BrokenCacheError: anything else is wrong with it.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}
        if metadata["sha256"] != _digest(arrays):
            raise BrokenCacheError("its content does not match its checksum")
        names = sorted({key.rpartition(".")[0] for key in arrays})
        return CacheFile({name: _unflatten(arrays, name) for name in names}, json.loads(metadata["numbers"]))
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise BrokenCacheError(f"{type(error).__name__}: {error}") from error


def _unflatten(arrays: Mapping[str, np.ndarray[Any, Any]], name: str) -> list[list[int]]:
    flat: list[int] = arrays[f"{name}.flat"].tolist()
    offsets: list[int] = arrays[f"{name}.offsets"].tolist()
    return [flat[start:end] for start, end in itertools.pairwise(offsets)]


def _digest(arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """sha256 over names, types and bytes of all arrays: safetensors sees a short file, not a changed one."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()
