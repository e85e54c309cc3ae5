"""Rows on disk in every shape that a recipe may read, and recipes that read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flan_lora.data.sources import DataSource
from flan_lora.data.splits import Split
from flan_lora.recipe import Recipe, parse_recipe

LABELS = ("sadness", "joy", "love", "anger", "fear", "surprise")


def recipe_of(task: str = "emotion", training: dict[str, Any] | None = None, **data: Any) -> Recipe:
    section = {"dataset": "owner/name", "max_source_tokens": 200, "max_target_tokens": 16, **data}
    return parse_recipe({"name": "x", "task": task, "data": section, "training": training or {}}, where="test")


def emotion_rows(num_rows: int, word: str = "day") -> list[dict[str, Any]]:
    return [{"text": f"{word} {number}", "label": number % 6} for number in range(num_rows)]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def local_root(folder: Path, **splits: list[dict[str, Any]]) -> DataSource:
    for split, rows in splits.items():
        write_jsonl(folder / "owner__name" / "default" / f"{split}.jsonl", rows)
    return DataSource("local", folder)


def user_file(folder: Path, rows: list[dict[str, Any]]) -> DataSource:
    return DataSource("file", write_jsonl(folder / "mine.jsonl", rows))


def texts_of(split: Split) -> list[str]:
    return [example.inputs["text"] for example in split.examples]
