"""The manifest: canonical bytes, clear refusals, no trace of the machine that wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flan_lora.adapters.manifest import (
    Manifest,
    ScoreRecord,
    dump,
    installed_versions,
    load,
    load_metrics,
    portable_base_name,
    portable_recipe,
    utc_now,
)
from flan_lora.errors import AdapterCorruptError
from flan_lora.tasks.scorers import Score
from tests.published import make_metrics
from tests.published import manifest_values as values


def write(folder: Path, document: Any) -> Path:
    path = folder / "manifest.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def test_a_dumped_manifest_loads_as_itself_from_canonical_bytes(tmp_path: Path) -> None:
    manifest = Manifest.model_validate(values())
    text = dump(manifest)
    assert load(write(tmp_path, text)) == manifest
    shuffled = json.dumps(dict(reversed(list(json.loads(text).items()))))
    assert dump(load(write(tmp_path, shuffled))) == text
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=2) + "\n"


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_is_refused_before_its_fields_are_read(tmp_path: Path, version: object) -> None:
    path = write(tmp_path, {"format_version": version, "fields": "of the future"})
    with pytest.raises(AdapterCorruptError) as error:
        load(path)
    assert str(error.value) == (
        f"{path} has format_version {version!r}, expected 1. "
        "It is damaged, or was written by another version of flan_lora: use that version, or publish again."
    )


@pytest.mark.parametrize("text", ["", '{"format_version": 1', "\udcff", "[]"], ids=list("abcd"))
def test_an_unreadable_manifest_is_corrupt_and_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    expected = r"manifest\.json (is not readable as JSON: |has format_version None)"
    with pytest.raises(AdapterCorruptError, match=expected):
        load(path)


def test_a_missing_manifest_says_so_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AdapterCorruptError) as error:
        load(tmp_path / "manifest.json")
    assert str(error.value) == (
        f"{tmp_path / 'manifest.json'} is missing. Restore the folder from its origin, or train and publish again."
    )


def test_all_problems_of_one_manifest_come_in_one_message(tmp_path: Path) -> None:
    document = {**values(format_version=1, task_version=0), "extra": 1}
    document["training"] = {**document["training"], "seed": -1}
    path = write(tmp_path, document)
    with pytest.raises(AdapterCorruptError) as error:
        load(path)
    text = str(error.value)
    assert text.startswith(f"{path} does not follow the format:\n")
    for line in ("  task_version: ", "  training.seed: ", "  extra: "):
        assert line in text


@pytest.mark.parametrize(
    "path",
    [
        "/home/ann/base",
        "~/base",
        "C:\\models\\t5",
        "from /data/rows.csv",
        "file:///x",
        "\\\\host\\share",
        "rows=/x/y",
    ],
)
def test_a_local_path_is_refused_anywhere(path: str) -> None:
    for document in (
        values(data={**values()["data"], "origin": path}),
        values(base={**values()["base"], "model": path}),
        values(recipe={**values()["recipe"], "data": {"columns": [path]}}),
        values(versions={path: "1"}),
    ):
        with pytest.raises(ValidationError, match="holds a local path"):
            Manifest.model_validate(document)


@pytest.mark.parametrize(
    "text",
    ["google/flan-t5-large", "refs/convert/parquet", "24/7", "https://huggingface.co/x", "a / b", "rows.csv"],
)
def test_what_is_no_local_path_passes(text: str) -> None:
    assert Manifest.model_validate(values(data={**values()["data"], "origin": text})).data.origin == text


def test_a_base_folder_is_published_by_its_last_name_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ann" / "my-t5").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert portable_base_name(str(tmp_path / "ann" / "my-t5")) == "my-t5"
    assert portable_base_name("ann/my-t5") == "my-t5"
    assert portable_base_name("../elsewhere/t5") == "t5"
    assert portable_base_name("google/flan-t5-large") == "google/flan-t5-large"
    assert portable_base_name("mini") == "mini"
    recipe = {"name": "x", "base": {"model": "ann/my-t5", "revision": None}}
    assert portable_recipe(recipe) == {"name": "x", "base": {"model": "my-t5", "revision": None}}
    assert recipe["base"] == {"model": "ann/my-t5", "revision": None}


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        ({}, "base has no model"),
        ({"base": {"model": "mini"}, "lora": {"rank": 4}}, "lora has no alpha, target_modules"),
    ],
)
def test_a_recipe_that_is_not_resolved_is_refused(recipe: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=f"the recipe is not resolved: {text}"):
        Manifest.model_validate(values(recipe=recipe))


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/x", "a\\b", ".hidden", ""])
def test_a_manifest_lists_no_file_outside_its_folder(name: str) -> None:
    with pytest.raises(ValidationError, match="String should match pattern"):
        Manifest.model_validate(values(files={name: {"sha256": "ab" * 32, "size_bytes": 1}}))


def test_a_score_becomes_a_record_and_a_nan_is_refused() -> None:
    record = ScoreRecord.model_validate(Score(value=0.5, low=0.4, high=0.6))
    assert (record.value, record.low, record.high) == (0.5, 0.4, 0.6)
    with pytest.raises(ValidationError):
        ScoreRecord.model_validate(Score(value=float("nan"), low=0.4, high=0.6))


def test_metrics_load_as_dumped_and_unknown_keys_are_refused(tmp_path: Path) -> None:
    metrics = make_metrics()
    assert load_metrics(write(tmp_path, dump(metrics))) == metrics
    with pytest.raises(AdapterCorruptError, match="accuracy: unknown key"):
        load_metrics(write(tmp_path, {**metrics.model_dump(), "accuracy": 0.9}))


def test_the_stamp_and_the_versions_fit_the_schema() -> None:
    manifest = Manifest.model_validate(values(created_at=utc_now(), versions=installed_versions()))
    assert {"python", "torch", "transformers", "peft"} <= set(manifest.versions)
