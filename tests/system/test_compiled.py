"""C compiled on this machine: once, by whoever asks first, and loaded only where nobody else may write."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flan_lora.system.compiled import NotCompiledError, compiled

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "answer.c"
    path.write_text("int answer(void) { return 42; }\n")
    return path


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "compiled").iterdir())


def test_compiled_once_and_anew_for_another_source_or_processor(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compiled(source, "one").answer() == 42
    first = kept(tmp_path)
    assert len(first) == 1 and first[0].name.startswith("answer-")
    written = first[0].stat().st_mtime_ns
    assert compiled(source, "one").answer() == 42
    assert kept(tmp_path) == first and first[0].stat().st_mtime_ns == written
    compiled(source, "another")
    source.write_text("int answer(void) { return 43; }\n")
    assert compiled(source, "one").answer() == 43
    assert len(kept(tmp_path)) == 3


def test_what_the_compiler_refuses_is_told_and_not_kept(source: Path, tmp_path: Path) -> None:
    source.write_text('#error "not for this processor"\n')
    with pytest.raises(NotCompiledError, match="not for this processor"):
        compiled(source, "one")
    assert not (tmp_path / "cache").exists()


def test_a_library_that_others_may_change_is_not_loaded(source: Path, tmp_path: Path) -> None:
    compiled(source, "one")
    kept(tmp_path)[0].chmod(0o666)
    with pytest.raises(NotCompiledError, match="changed by others"):
        compiled(source, "one")


def test_a_damaged_library_is_told(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("ctypes.CDLL", str)  # a library once loaded would be found by its path
        compiled(source, "one")
    path = kept(tmp_path)[0]
    path.unlink()
    path.write_bytes(b"no library")
    path.chmod(0o600)
    with pytest.raises(NotCompiledError, match="cannot be loaded"):
        compiled(source, "one")


def test_a_cache_folder_that_is_no_folder_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLAN_LORA_CACHE", str(tmp_path / "file"))
    with pytest.raises(NotCompiledError, match="cannot be compiled"):
        compiled(source, "one")
