"""Where this package keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache_dir() -> Path | None:
    """$FLAN_LORA_CACHE, else ~/.cache/flan_lora; none (no caching) when the variable is empty or ``off``."""
    setting = os.environ.get("FLAN_LORA_CACHE")
    if setting is not None:
        return None if setting.strip().lower() in {"", "off"} else Path(setting).expanduser()
    try:
        return Path.home() / ".cache" / "flan_lora"
    except RuntimeError:  # an account without a home
        return None
