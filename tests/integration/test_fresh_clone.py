"""What a stranger does first: clone, then the README's first command. Minutes, so `make test-slow` only."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


def git(*arguments: str, cwd: Path = REPO) -> str:
    return subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True).stdout


OURS = ("FLAN_LORA", "HF_", "MAKE", "MFLAGS", "OMP_", "PYTHONPATH", "VIRTUAL_ENV")
"""Settings of this very test run (make's own among them) that a stranger would not have."""


@pytest.mark.slow
def test_make_demo_on_a_fresh_clone(tmp_path: Path) -> None:
    if not (REPO / ".git").exists():
        pytest.skip("not a git checkout, so there is nothing to clone")
    clone = tmp_path / "clone"
    git("clone", "--quiet", f"file://{REPO}", str(clone))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    done = subprocess.run(["make", "demo"], cwd=clone, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (clone / "runs" / "demo" / "adapters" / "mini" / "emotion" / "manifest.json").is_file()
    assert "BARE BASE" in done.stdout
    assert git("status", "--porcelain", cwd=clone) == "", "the demo must leave the checkout as it was"
