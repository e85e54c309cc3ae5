"""Single rows of a checkpoint's tensors, read from its safetensors files: 4-bit weights no longer tell them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

RowsOf = Callable[[str, "list[int]"], "Tensor"]
"""Name of a tensor, places of rows -> those rows (len, in), as the file has them."""

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def rows_of(name_or_path: str, **arguments: Any) -> RowsOf:
    """Rows of a checkpoint in a local folder or in the Hub's cache.

    Args:
        arguments: revision and local_files_only, as `from_pretrained` takes them.
    """
    from safetensors import safe_open
    from transformers.utils import cached_file

    def path_of(file: str) -> str | None:
        found = cached_file(name_or_path, file, _raise_exceptions_for_missing_entries=False, **arguments)
        return None if found is None else str(found)

    @cache
    def shards() -> dict[str, str]:
        index = path_of(_INDEX)
        assert index is not None, "a checkpoint that was loaded has its weights in one file, or in several"
        return dict(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"])

    whole = path_of(_WHOLE)

    def rows(name: str, places: list[int]) -> Tensor:
        import torch

        file = whole if whole is not None else path_of(shards()[name])
        assert file is not None
        with safe_open(file, framework="pt") as tensors:
            part = tensors.get_slice(name)
            return torch.cat([part[place : place + 1] for place in places])

    return rows
