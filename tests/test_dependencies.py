"""What pyproject declares is enough: nobody who installs the package has our development tools beside it."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flan_lora.mini import MINI_PATH

tomllib = pytest.importorskip("tomllib")  # Python 3.11
ROOT = Path(__file__).parents[1]

HIDE = """
import importlib.machinery
import sys

class Installed(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Installed
"""
USES = {
    "a tokenizer of a SentencePiece file": """
import shutil, tempfile
from pathlib import Path
from tools.mini.tokenizer import wrap
with tempfile.TemporaryDirectory() as folder:
    assert len(wrap(Path(shutil.copy(Path(CHECKPOINT) / "spiece.model", folder)))) > 1000
""",
    "an answer of the router": """
from flan_lora import Router
assert Router.open("adapters/mini", base="mini").generate("i feel happy", adapter="emotion").text
""",
}


def declared() -> set[str]:
    """The distributions that ``pip install flan-lora`` brings, without extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    todo, found = [Requirement(line) for line in project["dependencies"]], set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        todo += [Requirement(line) for line in metadata.requires(name) or ()]
    return found


def hidden_modules() -> set[str]:
    """Importable names of the installed distributions that are not declared."""
    kept = declared() | {"flan-lora", "setuptools", "pip"}
    owners = metadata.packages_distributions()
    return {module for module, dists in owners.items() if not kept & {canonicalize_name(d) for d in dists}}


@pytest.mark.parametrize("use", USES)
def test_no_use_needs_what_only_the_development_extras_bring(use):
    hidden = hidden_modules()
    assert "pytest" in hidden and "torch" not in hidden
    code = f"HIDDEN = {hidden!r}\nCHECKPOINT = {str(MINI_PATH)!r}\n{HIDE}{USES[use]}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
