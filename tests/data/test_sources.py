"""Where rows come from: the Hub, a folder in its shape, a file, the sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flan_lora.data import sources
from flan_lora.data.sources import DataSource, open_source
from flan_lora.data.splits import ROLES, load_split
from flan_lora.errors import DataError, RecipeError
from flan_lora.recipe_file import load_recipe
from tests.data.rows import LABELS, emotion_rows, local_root, recipe_of, texts_of, write_jsonl

REPO = Path(__file__).resolve().parents[2]
RECIPES = sorted((REPO / "recipes").glob("*.yaml"))


# What --data means


def test_data_means_hub_sample_folder_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_jsonl(tmp_path / "rows.JSONL", emotion_rows(1))
    assert open_source(None) == open_source("hub") == DataSource("hub")
    assert open_source("sample").kind == "sample"
    assert open_source(str(tmp_path)) == DataSource("local", tmp_path)
    assert open_source(str(file)) == DataSource("file", file)
    monkeypatch.setenv("FLAN_LORA_DATA", str(tmp_path))
    assert open_source(None) == DataSource("local", tmp_path)
    assert open_source("hub") == DataSource("hub")


def test_a_source_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DataError, match=r"--data nowhere: no such file or folder\.\nGive hub, sample, a folder or a file"
    ):
        open_source("nowhere")
    monkeypatch.setenv("FLAN_LORA_DATA", "gone")
    with pytest.raises(DataError, match="FLAN_LORA_DATA=gone: no such file or folder"):
        open_source(None)
    (tmp_path / "rows.xlsx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"files of kind '\.xlsx' are not read\.\nUse one of \.jsonl"):
        open_source(str(tmp_path / "rows.xlsx"))


# Local root, sample, Hub


def test_a_local_root_has_the_hubs_shape(tmp_path: Path) -> None:
    source = local_root(tmp_path, train=emotion_rows(7), test=emotion_rows(3, "night"))
    split = load_split(recipe_of(), "train", source)
    assert (split.role, split.num_rows, len(split.examples)) == ("train", 7, 7)
    assert split.origin == "owner/name/default:train (local root)"
    assert [example.target for example in split.examples] == [*LABELS, "sadness"]
    assert texts_of(load_split(recipe_of(), "test", source)) == ["night 0", "night 1", "night 2"]


def test_a_local_root_may_hold_csv(tmp_path: Path) -> None:
    folder = tmp_path / "owner__name" / "default"
    folder.mkdir(parents=True)
    (folder / "train.csv").write_text("text,label\ngood day,1\nbad day,0\n")
    split = load_split(recipe_of(), "train", DataSource("local", tmp_path))
    assert [example.target for example in split.examples] == ["joy", "sadness"]


def test_a_declared_encoding_is_read_and_leaves_other_recipes_what_they_were(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(b"text,label\n" + b"it\x92s day %d,joy\n" * 30 % tuple(range(30)))
    with pytest.raises(DataError, match=r"--set data\.encoding=cp1252"):
        load_split(recipe_of(), "train", DataSource("file", path))
    split = load_split(recipe_of(encoding="cp1252"), "train", DataSource("file", path))
    assert all(text.startswith("it\u2019s day") for text in texts_of(split))
    with pytest.raises(RecipeError, match=r"data\.encoding: no text encoding of that name.*got 'hex'"):
        recipe_of(encoding="hex")
    assert (
        recipe_of(encoding=None).fingerprint()
        == recipe_of().fingerprint()
        != recipe_of(encoding="cp1252").fingerprint()
    )


def test_a_missing_split_lists_what_is_there(tmp_path: Path) -> None:
    source = local_root(tmp_path, train=emotion_rows(3), dev=emotion_rows(3))
    with pytest.raises(DataError, match=r"no rows at .*default/validation\.jsonl") as failure:
        load_split(recipe_of(), "validation", source)
    assert f"there is  dev.jsonl, train.jsonl in {tmp_path / 'owner__name' / 'default'}\n" in str(failure.value)
    assert "Set data.config and data.splits to what is there, or use --data hub" in str(failure.value)
    with pytest.raises(DataError, match=rf"there is  owner__name in {tmp_path}\n"):
        load_split(recipe_of(dataset="other/name"), "train", source)
    with pytest.raises(DataError, match=rf"there is  default in {tmp_path / 'owner__name'}\n"):
        load_split(recipe_of(config="split"), "train", source)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_the_bundled_sample(path: Path) -> None:
    recipe, source = load_recipe(path), open_source("sample")
    splits = {role: load_split(recipe, role, source, max_rows=40) for role in ROLES}
    assert all(splits[role].examples for role in ROLES)
    data = recipe.data
    assert splits["test"].origin == f"{data.dataset}/{data.config}:test (bundled sample)"
    assert len({split.content_hash for split in splits.values()}) == 3


def test_hub_rows_become_a_split_that_names_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fake(*args: Any) -> tuple[list[dict[str, Any]], str | None]:
        asked.append(args)
        return emotion_rows(4), "c" * 40 if args[2] == "train" else None

    monkeypatch.setattr(sources, "read_hub_rows", fake)
    recipe = recipe_of(config="split", revision="refs/convert/parquet")
    split = load_split(recipe, "train", open_source("hub"))
    assert asked == [("owner/name", "split", "train", "refs/convert/parquet")]
    assert split.origin == f"owner/name/split:train @ {'c' * 40} (Hub)"
    assert load_split(recipe, "test", open_source("hub")).origin == (
        "owner/name/split:test @ refs/convert/parquet (Hub)"
    )
    assert load_split(recipe_of(), "test", open_source("hub")).origin == "owner/name/default:test @ main (Hub)"


def test_an_empty_hub_split_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "read_hub_rows", lambda *args: ([], None))
    with pytest.raises(
        DataError, match=r"owner/name/default:test on the Hub has no rows\.\nSet data\.splits\.test"
    ):
        load_split(recipe_of(), "test", open_source("hub"))


def test_the_hub_and_its_local_copy_have_one_content_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_rows = [{"idx": number, **row} for number, row in enumerate(emotion_rows(5))]
    monkeypatch.setattr(sources, "read_hub_rows", lambda *args: (hub_rows, None))
    local = local_root(tmp_path, train=emotion_rows(5))
    assert (
        load_split(recipe_of(), "train", open_source("hub")).content_hash
        == load_split(recipe_of(), "train", local).content_hash
    )
    changed = [{**row, "label": 5 - row["label"] % 6} for row in emotion_rows(5)]
    other = load_split(recipe_of(), "train", local_root(tmp_path / "b", train=changed))
    assert other.content_hash != load_split(recipe_of(), "train", local).content_hash
