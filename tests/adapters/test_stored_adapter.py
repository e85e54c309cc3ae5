"""What an opened adapter knows of its training: its recipe, and the base to load."""

from __future__ import annotations

from pathlib import Path

import pytest

from flan_lora.adapters.validation import StoredAdapter
from flan_lora.errors import RecipeError
from flan_lora.recipe import Recipe
from tests.checkpoint import save_checkpoint
from tests.published import make_manifest, tiny_fingerprint


def test_the_recipe_is_read_once_and_is_the_manifests() -> None:
    stored = StoredAdapter(Path("emotion"), make_manifest())
    assert stored.recipe == Recipe.model_validate(stored.manifest.recipe)
    assert stored.recipe is stored.recipe
    assert stored == StoredAdapter(Path("emotion"), make_manifest()), "what was read does not count"


def test_a_recipe_that_cannot_be_read_says_where_it_stands() -> None:
    manifest = make_manifest()
    broken = manifest.model_copy(update={"recipe": {**manifest.recipe, "task": "emotoin"}})
    with pytest.raises(RecipeError, match=r"recipe in emotion.manifest\.json.*\n.*did you mean 'emotion'"):
        StoredAdapter(Path("emotion"), broken).recipe  # noqa: B018


def test_the_base_is_opened_as_it_was_trained_on_from_another_place(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "base")
    stored = StoredAdapter(tmp_path, make_manifest(base={"fingerprint": tiny_fingerprint()}))
    base = stored.open_base(str(tmp_path / "base"), device="cpu")
    assert base.fingerprint == tiny_fingerprint()
    assert base.spec == stored.recipe.base.at(str(tmp_path / "base")) and base.spec.quantization == "int8"
    assert stored.recipe.with_base("mini") == stored.recipe and stored.recipe.with_base(None) is stored.recipe
