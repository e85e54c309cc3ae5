"""A plain PEFT folder as it is opened: its records, and a hashing thread that fails."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from flan_lora.adapters.manifest import FileRecord
from flan_lora.adapters.validation import REQUIRED
from flan_lora.adapters.weights import open_folder
from tests.published import stage


def test_an_opened_folder_records_its_files(tmp_path: Path) -> None:
    folder, _ = open_folder("one", stage(tmp_path / "one"))
    assert set(folder.files) == set(REQUIRED)
    for name, record in folder.files.items():
        assert record.sha256 == hashlib.sha256((tmp_path / "one" / name).read_bytes()).hexdigest()


def test_a_failure_while_hashing_reaches_whoever_asks_for_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(content: bytes) -> FileRecord:
        raise MemoryError("no room for a digest")

    monkeypatch.setattr(FileRecord, "of", fail)
    folder, _ = open_folder("one", stage(tmp_path / "one"))
    with pytest.raises(MemoryError, match="digest"):
        folder.files  # noqa: B018  # waited for ever when the thread died without a word
