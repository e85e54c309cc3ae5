"""Files written whole or not at all, and read only where they are files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flan_lora.errors import DiskError
from flan_lora.system.files import check_writable_file, read_regular, replace_file

posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes and devices of POSIX")


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_regular(tmp_path / "file", 5) == read_regular(tmp_path / "link", 5) == b"12345"
    with pytest.raises(OSError, match=r"5 bytes; at most 4 are read"):
        read_regular(tmp_path / "file", 4)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", 5)


@posix
def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, what in (("pipe", "a named pipe, not a file"), ("zero", "a device, not a file"), (".", "directory")):
        with pytest.raises(OSError, match=what):
            read_regular(tmp_path / name, 5)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_file(tmp_path / "new" / "file", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "new" / "file", b"new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]
    assert (tmp_path / "new" / "file").read_bytes() == b"old"


@posix
def test_a_pipe_or_device_is_written_to_and_stays_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    check_writable_file(tmp_path / "pipe")
    replace_file(tmp_path / "pipe", b"text")
    assert os.read(reader, 10) == b"text" and (tmp_path / "pipe").is_fifo()
    os.close(reader)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_device_that_is_full_is_one_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(DiskError, match=r"full: No space left on device"):
        replace_file(tmp_path / "full", b"text")
    assert (tmp_path / "full").is_char_device()


def test_a_file_that_could_not_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "new" / "folder" / "file"):
        check_writable_file(place)
    for place in (tmp_path, tmp_path / "file" / "below", tmp_path / ("x" * 5000)):
        with pytest.raises(DiskError, match="Name another place") as caught:
            check_writable_file(place)
        assert str(tmp_path) in str(caught.value) and len(str(caught.value)) < 1000
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(DiskError, match="no write permission, or a read-only disk"):
        check_writable_file(tmp_path / "new" / "file")
