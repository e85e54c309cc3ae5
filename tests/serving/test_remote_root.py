"""A router over an adapter root at a URL: the answers of a local one, and what is published anew is served."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flan_lora.adapters.remote_store import adapter_root, store_at
from flan_lora.adapters.store import Store
from flan_lora.base.load import Base
from flan_lora.serving.router import Router
from tests.cli.running import run, succeed
from tests.serving.stores import TEXTS, answers, publish
from tests.waiting import wait_until


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path / "cache"))
    return f"memory://{tmp_path.name}/adapters"


def copy_to(url: str, root: Path, *names: str) -> None:
    """Publish adapters of a local store in the root at a URL."""
    target = store_at(f"{url}/mini")
    for name in names:
        stored = Store(root).open(name)
        target.publish(stored.path, stored.manifest)


def test_a_remote_root_answers_as_the_local_one_and_serves_what_is_published_anew(
    root: Path, base: Base, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_to(url, root, "emotion", "hearts")
    local = Router.open(root, base)
    monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr("flan_lora.adapters.remote_store.REFRESH_S", 0.05)
    remote = Router.open(f"{url}/mini", base)
    for name in ("emotion", "hearts"):
        assert answers(remote, TEXTS, name) == answers(local, TEXTS, name)
    monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path / "cache"))  # another machine publishes
    publish(tmp_path / "new", "emotion", seed=77)
    stored = Store(tmp_path / "new").open("emotion")
    store_at(f"{url}/mini").publish(stored.path, stored.manifest)
    expected = answers(Router.open(tmp_path / "new", base), TEXTS, "emotion")
    assert expected != answers(local, TEXTS, "emotion")
    wait_until(lambda: answers(remote, TEXTS, "emotion") == expected, timeout_s=60)


def test_the_commands_take_a_url(root: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = tmp_path / "local"
    local.mkdir()
    os.symlink(root, local / "mini")
    assert f"published {url}/mini/emotion" in succeed(
        "adapter", "publish", "emotion", url, "--adapters-dir", local
    )
    monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path / "elsewhere"))
    assert "emotion" in succeed("adapter", "list", "--adapters-dir", url)
    assert "emotion" in succeed("adapter", "verify", "--adapters-dir", url)
    pulled = succeed("adapter", "pull", "emotion", "--adapters-dir", url)
    assert str(adapter_root(url) / "mini" / "emotion") in pulled
    missing = run("adapter", "show", "moods", "--adapters-dir", url)
    assert missing.exit_code == 1 and f"no adapter 'moods' under {url}" in missing.stderr
    assert "published  mini/emotion" in missing.stderr
    unknown = run("adapter", "list", "--adapters-dir", "nosuch://bucket")
    assert unknown.exit_code == 1 and "nosuch://bucket: " in unknown.stderr
    assert f"No adapters under {url}-2" in succeed("adapter", "list", "--adapters-dir", f"{url}-2")
