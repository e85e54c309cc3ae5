"""A results file of one JSON line a run, so that a stopped benchmark goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


class ResultLines:
    """Results by the values of some of their fields."""

    def __init__(self, path: Path, keys: tuple[str, ...]) -> None:
        self.path = path
        lines = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
        self.keys = keys
        self._finished: dict[tuple[Any, ...], dict[str, Any]] = {
            tuple(line[key] for key in keys): line for line in lines
        }

    def get_or_run(self, key: tuple[Any, ...], run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result with this key: the file's, or the run's, which is appended first."""
        if key not in self._finished:
            result = {**dict(zip(self.keys, key, strict=True)), **run()}
            self._finished[key] = result
            with self.path.open("a") as file:
                file.write(json.dumps(result) + "\n")
        return self._finished[key]
