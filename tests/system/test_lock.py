"""A lock that one process holds, that others are told about, and that dies with it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flan_lora.errors import BusyError
from flan_lora.system.lock import sole_owner

HOLD = (
    "import sys; from pathlib import Path; from flan_lora.system.lock import sole_owner\n"
    "with sole_owner(Path(sys.argv[1]), 'x'): print('held', flush=True); sys.stdin.read()"
)


def test_the_second_is_told_who_holds_it_and_a_kill_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(BusyError, match=f"the output is in use: process {process.pid} on .*, since ") as error:
        with sole_owner(path, "the output"):
            pass
    assert re.search(r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", str(error.value))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close(), process.stdout.close()
    with sole_owner(path, "the output"):
        assert path.is_file()
    assert not path.exists()


def test_two_owners_in_one_process_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with sole_owner(path, "x"):
        with pytest.raises(BusyError, match=f"process {os.getpid()} on"), sole_owner(path, "x"):
            pass
        assert path.is_file(), "who is refused removes nothing"
    path.write_bytes(b"\x00nonsense")
    with sole_owner(path, "x"):
        pass
