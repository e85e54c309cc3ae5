"""A staged adapter and a store with one, for every test of this package."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flan_lora.adapters.store import Store
from tests.adapters.folders import (
    OLD,
    manifest,
)
from tests.published import stage


@pytest.fixture(scope="module")
def staged_dirs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two trained adapters that differ in their weights."""
    return [stage(tmp_path_factory.mktemp("staged"), seed) for seed in (0, 1)]


@pytest.fixture
def staged(staged_dirs: list[Path], tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(staged_dirs[0], tmp_path / "staged"))


@pytest.fixture
def store(staged_dirs: list[Path], tmp_path: Path) -> Store:
    """A store with one adapter, `emotion`."""
    store = Store(tmp_path / "adapters" / "mini")
    store.publish(staged_dirs[0], manifest(created_at=OLD))
    return store
