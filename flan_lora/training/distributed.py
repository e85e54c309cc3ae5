"""What `accelerate launch` (torchrun) tells each process: how many there are, and which one this is."""

from __future__ import annotations

import os
from typing import Any


def world_size() -> int:
    """Processes that train together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process is the one that evaluates, writes and publishes."""
    return int(os.environ.get("RANK", "0")) == 0


def gathered(items: list[Any]) -> list[Any]:
    """The lists of all processes, joined."""
    if world_size() == 1:
        return items
    from accelerate.utils import gather_object

    return list(gather_object(items))
