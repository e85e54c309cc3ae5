"""A tiny base and a file of rows that a sweep takes a second for; as in `tests/training/test_factory.py`."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from flan_lora.data.sources import DataSource, open_source
from flan_lora.recipe import Recipe, parse_recipe
from tests.checkpoint import edit_config, save_checkpoint

WORDS = {"sad": "sadness", "joy": "joy", "love": "love", "anger": "anger", "fear": "fear", "what": "surprise"}


@pytest.fixture(scope="session")
def sweep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    edit_config(save_checkpoint(folder / "tiny-base"), tie_word_embeddings=False)
    with (folder / "mine.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([f"i am {word} {n}", label] for n in range(10) for word, label in WORDS.items())
    return folder


@pytest.fixture(scope="session")
def sweep_source(sweep_folder: Path) -> DataSource:
    return open_source(str(sweep_folder / "mine.csv"))


@pytest.fixture(scope="session")
def sweep_recipe(sweep_folder: Path) -> Recipe:
    """Three evaluations, one an epoch of three steps."""
    values = {
        "name": "moods",
        "task": "emotion",
        "base": {"model": str(sweep_folder / "tiny-base"), "quantization": "fp32"},
        "data": {"dataset": "owner/name"},
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.1, "target_modules": ["q", "v"]},
        "training": {"precision": "fp32", "learning_rate": 0.005, "epochs": 3, "evals_per_epoch": 1},
    }
    return parse_recipe(values, where="test")
