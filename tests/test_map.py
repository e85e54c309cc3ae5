"""docs/map.md and footguns: modules they name are there, packages stand in the tree, lives have eight steps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
MAP = (REPO / "docs" / "map.md").read_text(encoding="utf-8")


def modules_named_in(text: str) -> list[str]:
    """Paths below the package, as guides write them."""
    return [path for path in re.findall(r"`([a-z0-9_/]+\.py)`", text) if not path.startswith("tests/")]


def test_every_module_that_the_map_names_is_there() -> None:
    named = modules_named_in(MAP)
    assert len(named) > 30 and [path for path in named if not (REPO / "flan_lora" / path).is_file()] == []


def test_every_module_that_the_footguns_name_is_there() -> None:
    named = modules_named_in((REPO / "docs" / "footguns.md").read_text(encoding="utf-8"))
    assert named and [path for path in named if not (REPO / "flan_lora" / path).is_file()] == []


def test_every_package_is_in_the_tree() -> None:
    packages = {path.parent.name for path in (REPO / "flan_lora").glob("*/__init__.py")}
    tree = MAP.split("## ")[0]
    assert {name for name in packages if not re.search(rf"\b{name}/", tree)} == set()


@pytest.mark.parametrize("life", ["The life of a request", "The life of a recipe"])
def test_a_life_has_eight_numbered_steps(life: str) -> None:
    [text] = re.findall(rf"^## {life}\n(.*?)(?=^## |\Z)", MAP, re.DOTALL | re.MULTILINE)
    assert re.findall(r"^(\d+)\. ", text, re.MULTILINE) == [str(number) for number in range(1, 9)]


def test_every_module_stands_in_the_table_of_its_package() -> None:
    """So that any behaviour is two hops away: the package's table, then the module."""
    missing = []
    for folder in sorted({path.parent for path in (REPO / "flan_lora").glob("*/__init__.py")}):
        if folder.name in ("cli", "bench", "mini", "samples", "recipes"):
            continue
        table = (folder / "__init__.py").read_text(encoding="utf-8")
        stems = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
        missing += [f"{folder.name}/{stem}.py" for stem in stems if not re.search(rf"\b{stem}\b", table)]
    assert missing == []
