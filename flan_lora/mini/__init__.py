"""The embedded base ``mini``: where it lies. How it was made is in `tools/mini`.

Importing this module imports neither torch nor transformers, so ``flan-lora --help`` stays fast.
"""

from pathlib import Path

MINI_PATH: Path = Path(__file__).resolve().parent / "checkpoint"
"""Folder of the shipped checkpoint: what ``from_pretrained`` takes."""

__all__ = ["MINI_PATH"]
