"""A training that publishes at a URL: tried before the first step, there at the end, and found again."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from flan_lora.adapters.remote_folder import RemoteFolder
from flan_lora.adapters.remote_store import adapter_root, store_at
from flan_lora.data.sources import open_source
from flan_lora.errors import RemoteError
from flan_lora.recipe import Recipe, parse_recipe
from flan_lora.training.factory import build_adapter, is_published
from tests.checkpoint import edit_config, save_checkpoint

WORDS = {"sad": "sadness", "joy": "joy", "love": "love", "anger": "anger", "fear": "fear", "what": "surprise"}


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Three steps of the tiny T5 on a file of a user's."""
    edit_config(save_checkpoint(tmp_path / "tiny-base"), tie_word_embeddings=False)
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([f"i am {word} {n}", label] for n in range(10) for word, label in WORDS.items())
    values = {
        "name": "moods",
        "task": "emotion",
        "base": {"model": str(tmp_path / "tiny-base"), "quantization": "fp32"},
        "data": {"dataset": "owner/name"},
        "training": {"precision": "fp32", "max_steps": 3, "evals_per_epoch": 1},
    }
    return parse_recipe(values, where="test")


def test_a_training_publishes_at_a_url(tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # the picture takes longer than the steps
    url, source, lines = f"memory://{tmp_path.name}/adapters", open_source(str(tmp_path / "mine.csv")), []
    places = {"adapters_dir": adapter_root(url), "run_dir": tmp_path / "run", "echo": lines.append}
    with monkeypatch.context() as patch:
        patch.setattr("flan_lora.training.factory.prepare_rows", lambda *_: pytest.fail("work was done"))
        patch.setattr(RemoteFolder, "write", refuse)
        with pytest.raises(RemoteError, match="no permission"):
            build_adapter(recipe, source, **places)
    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "copy", refuse)  # the network goes away in the middle of publishing
        with pytest.raises(RemoteError, match=r"no permission[\s\S]*--resume"):
            build_adapter(recipe, source, **places)
    build_adapter(recipe, source, resume=True, **places)
    assert lines[-1].endswith(f"published {url}/tiny-base/moods")
    monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path / "elsewhere"))
    assert store_at(f"{url}/tiny-base").verify("moods") == []
    assert is_published(recipe, source, adapter_root(url))


def refuse(self: RemoteFolder, name: str, *_: object) -> None:
    raise RemoteError(f"cannot write {name} in {self.shown}: no permission.")
