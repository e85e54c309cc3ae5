"""Checkpoint folders as a user may have them: whole, of another kind, or damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import T5ForConditionalGeneration

from flan_lora.recipe import BaseSection
from tests.tiny import tiny_t5, tiny_tokenizer


def save_checkpoint(folder: Path, model: T5ForConditionalGeneration | None = None) -> Path:
    """A whole checkpoint with its tokenizer; the tiny T5 by default."""
    (model or tiny_t5()).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def edit_config(folder: Path, **values: Any) -> Path:
    """Overwrite fields of config.json; None removes a field."""
    file = folder / "config.json"
    config = {**json.loads(file.read_text(encoding="utf-8")), **values}
    kept = {name: value for name, value in config.items() if value is not None}
    file.write_text(json.dumps(kept), encoding="utf-8")
    return folder


def spec_of(folder: Path | str, quantization: str = "fp32", **values: Any) -> BaseSection:
    """A recipe's base section for a folder or a Hub id."""
    return BaseSection.model_validate({"model": str(folder), "quantization": quantization, **values})
