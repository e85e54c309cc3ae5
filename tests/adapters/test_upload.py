"""Pushing an adapter: what goes, what does not, and that it loads from where it went. The Hub is a local fake."""

from __future__ import annotations

import fnmatch
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import HfApi, ModelCard
from peft import PeftModel

from flan_lora.adapters.card import card
from flan_lora.adapters.store import Store
from flan_lora.adapters.upload import prepare_upload, push
from flan_lora.cli import main
from flan_lora.errors import AdapterError
from tests.published import make_manifest, make_metrics, stage, tiny_fingerprint
from tests.tiny import tiny_t5

SOURCE = {"input_ids": torch.tensor([[5, 9, 13, 1]]), "labels": torch.tensor([[7, 8, 1]])}


class FakeHub:
    """Repositories as local folders, with HfApi's own way to choose files."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls = root, list[tuple[str, Any]]()

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        self.calls.append(("create_repo", {"private": private, "exist_ok": exist_ok}))
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(
        self, *, repo_id: str, folder_path: str, allow_patterns: list[str], commit_message: str
    ) -> None:
        self.calls.append(("upload_folder", commit_message))
        for file in Path(folder_path).iterdir():
            if any(fnmatch.fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, self.root / repo_id / file.name)


class RefusingHub(FakeHub):
    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        raise OSError("401 Client Error: Unauthorized\nmany more lines")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An adapter on the tiny T5, with a card, and a file beside it that is nobody's business."""
    manifest = make_manifest(base={"fingerprint": tiny_fingerprint()})
    staged = stage(tmp_path / "staged")
    (staged / "README.md").write_text(card(manifest, make_metrics()), encoding="utf-8")
    store = Store(tmp_path / "adapters" / "mini")
    path = store.publish(staged, manifest)
    (path / "notes.txt").write_text("private")
    return store


def test_the_fake_has_the_signature_of_the_true_client() -> None:
    import inspect

    for name in ("create_repo", "upload_folder"):
        wanted = set(inspect.signature(getattr(FakeHub, name)).parameters) - {"self"}
        assert wanted <= set(inspect.signature(getattr(HfApi, name)).parameters)


def test_only_the_published_files_go_and_load_from_there(store: Store, tmp_path: Path) -> None:
    hub = FakeHub(tmp_path / "hub")
    upload = prepare_upload(store, "emotion", "ann/emotion-lora", private=True)
    assert push(upload, hub) == "https://huggingface.co/ann/emotion-lora"
    assert hub.calls[0] == ("create_repo", {"private": True, "exist_ok": True})
    assert hub.calls[1][1].startswith("Publish emotion, recipe ") and len(hub.calls) == 2
    there = tmp_path / "hub" / "ann" / "emotion-lora"
    expected = {"README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json"}
    assert {file.name for file in there.iterdir()} == expected == set(upload.files)
    assert upload.size_bytes == sum(file.stat().st_size for file in there.iterdir())
    ours = PeftModel.from_pretrained(tiny_t5(), store.root / "emotion")(**SOURCE).logits
    torch.testing.assert_close(PeftModel.from_pretrained(tiny_t5(), there)(**SOURCE).logits, ours)
    assert ModelCard.load(there / "README.md").data.library_name == "peft"


def test_the_owner_is_told_about_terms_and_a_base_nobody_finds(store: Store) -> None:
    first, second = prepare_upload(store, "emotion", "ann/x", private=False).notes
    assert "dair-ai/emotion" in first and "terms" in first and "mini" in second


@pytest.mark.parametrize("repo_id", ["emotion", "a/b/c", "https://huggingface.co/a/b", "/a", ""])
def test_what_is_no_repository_is_refused(store: Store, repo_id: str) -> None:
    with pytest.raises(AdapterError, match="owner/name"):
        prepare_upload(store, "emotion", repo_id, private=False)


def test_an_adapter_without_a_card_or_with_damage_does_not_go(store: Store, tmp_path: Path) -> None:
    bare = make_manifest("bare", base={"fingerprint": tiny_fingerprint()})
    store.publish(stage(tmp_path / "staged-bare"), bare)
    with pytest.raises(AdapterError, match="has no card"):
        prepare_upload(store, "bare", "ann/bare", private=False)
    (store.root / "emotion" / "README.md").write_text("altered")
    with pytest.raises(AdapterError, match="altered"):
        prepare_upload(store, "emotion", "ann/x", private=False)


def test_a_refusal_is_one_line_with_the_next_step(store: Store, tmp_path: Path) -> None:
    upload = prepare_upload(store, "emotion", "ann/x", private=False)
    with pytest.raises(AdapterError) as caught:
        push(upload, RefusingHub(tmp_path))
    assert "401 Client Error: Unauthorized\n" in str(caught.value) and "hf auth login" in str(caught.value)
    assert "many more lines" not in str(caught.value)


def run(store: Store, *options: str) -> Any:
    places = ("--adapters-dir", str(store.root.parent))
    return CliRunner().invoke(main, ["adapter", "push", "emotion", "ann/emotion-lora", *places, *options])


def test_a_dry_run_lists_and_never_makes_a_client(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_client(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a dry run must not make a client")

    monkeypatch.setattr("huggingface_hub.HfApi", no_client)
    result = run(store, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "adapter_model.safetensors" in result.stdout and "notes.txt" not in result.stdout
    assert "Nothing was sent" in result.stdout and "dair-ai/emotion" in result.stdout
    printed = json.loads(run(store, "--dry-run", "--json").stdout)
    assert printed["repo_id"] == "ann/emotion-lora" and printed["sent"] is False


def test_push_sends_through_the_hubs_client(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FakeHub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    result = run(store, "--private", "--yes")
    assert result.exit_code == 0, result.output
    assert "https://huggingface.co/ann/emotion-lora" in result.stdout
    assert hub.calls[0][1]["private"] is True
    asked = CliRunner().invoke(
        main, ["adapter", "push", "emotion", "ann/x", "--adapters-dir", str(store.root.parent)], input="n\n"
    )
    assert asked.exit_code == 1 and not (tmp_path / "hub" / "ann" / "x").exists()
