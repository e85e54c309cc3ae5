"""Write a file whole or not at all. Knows paths and bytes; never what they mean."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


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
