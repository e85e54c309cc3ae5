"""Texts that belong to no adapter: routing profiles are fitted against them, and reports count who takes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from flan_lora.errors import DataError
from flan_lora.samples import SAMPLES_PATH

BUNDLED = SAMPLES_PATH / "background.jsonl"
"""314 texts of 35 kinds (reviews, news, mail, code, other languages, ...), written for this project."""


@dataclass(frozen=True, slots=True)
class BackgroundText:
    """One text, and what kind of text it is."""

    text: str
    kind: str = ""
    """For the report; empty where the file does not say."""


def read_background(path: Path = BUNDLED) -> list[BackgroundText]:
    """The texts of a file: JSON lines of ``text`` and, if known, ``kind`` (.jsonl), else a text a line.

    Raises:
        DataError: a line is not such an object, with its number; or the file has no text.
    """
    content = _content(path).split("\n")
    lines = [(number, line) for number, line in enumerate(content, start=1) if line.strip()]
    if path.suffix.lower() == ".jsonl":
        texts = [_parsed(path, number, line) for number, line in lines]
    else:
        texts = [BackgroundText(line.strip()) for _, line in lines]
    if not texts:
        raise DataError(f"{path} has no text.\nGive texts that belong to no adapter, one a line.")
    return texts


def _content(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read: {error}.\nGive a UTF-8 file with a text, or a JSON object, a line."
        ) from error


def _parsed(path: Path, number: int, line: str) -> BackgroundText:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f'{path}, line {number}: not JSON ({error}).\nExpected {{"text": ..., "kind": ...}}.'
        ) from error
    text, kind = (row.get("text"), row.get("kind", "")) if isinstance(row, dict) else (None, "")
    if not isinstance(text, str) or not text.strip() or not isinstance(kind, str):
        raise DataError(
            f'{path}, line {number}: got {line[:60]}.\nExpected {{"text": ..., "kind": ...}}, both texts.'
        )
    return BackgroundText(text, kind)
