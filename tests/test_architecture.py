"""The shape of the package: imports only point up the map, and nothing names a machine or a private folder."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "flan_lora"

PACKAGES = (
    ("errors",),
    ("system",),
    ("tasks",),
    ("recipe",),
    ("recipe_file",),
    ("base",),
    ("data",),
    ("evaluation",),
    ("adapters",),
    ("training", "engine"),
    ("serving",),
    ("compare",),
    ("composition",),
    ("bench",),
    ("cli",),
)
"""What stands above what: a module imports from its own package and from those before it. Side by side means that
neither imports the other; inside a package anything goes that is no circle."""
ASSETS = {"mini", "samples"}
"""They only say where files lie, so anybody may import them."""
APART = {"engine": {"training"}, "serving": {"training", "data"}}
"""Serving runs without what trains: not even through a package that stands before it."""
SERVING_MAY_USE = {"flan_lora.evaluation.calibration", "flan_lora.data.file_formats"}
"""Temperatures, and tables read as training reads them; neither brings anything that trains."""
BUILDERS_MAY_IMPORT = {"errors", "system", "tasks", "base", "data", "mini", "samples"}
MEASURES_MAY_IMPORT = BUILDERS_MAY_IMPORT | {"recipe_file", "evaluation", "adapters", "serving", "compare"}
TOOLS_MAY_IMPORT = {"foreign": MEASURES_MAY_IMPORT}
"""By folder; the others build the base and the samples, which all else stands on."""
TEXT_SUFFIXES = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".jsonl", ".txt", ".cfg", ".sh", ""}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def package_of(module: str) -> str:
    """``flan_lora.engine.batch`` -> ``engine``; the package itself is ``__init__``."""
    return module.split(".")[1] if "." in module else "__init__"


def rank(package: str) -> int:
    ranks = {name: place for place, names in enumerate(PACKAGES) for name in names}
    return ranks[package]


def imported_modules(source: str) -> Iterator[str]:
    """Modules of ours that a source imports anywhere: at the top, inside functions, for types only."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction; write flan_lora.x"
            module = node.module or ""
            found = [f"{module}.{alias.name}" for alias in node.names]
            names = [name if is_module(name) else module for name in found]
        yield from (name for name in names if name.partition(".")[0] == "flan_lora")


def is_module(name: str) -> bool:
    path = REPO.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def violations(module: str, source: str) -> list[str]:
    """Imports against the order of the packages, one line each."""
    own, found = package_of(module), []
    for imported in imported_modules(source):
        package = package_of(imported)
        if package == own or package in ASSETS or (package == "__init__" and own == "cli"):
            continue
        too_late = package == "__init__" or rank(package) >= rank(own)
        is_lent = own == "serving" and imported in SERVING_MAY_USE
        is_apart = package in APART.get(own, set()) and not is_lent
        of_evaluation = own == "serving" and package == "evaluation" and not is_lent
        if too_late or is_apart or of_evaluation:
            found.append(f"{module} imports {imported}")
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(REPO).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_order_of_the_packages(path: Path) -> None:
    module = module_name(path)
    if package_of(module) in {"__init__", "__main__"} | ASSETS:
        return
    assert violations(module, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("flan_lora.tasks.scorers", "from flan_lora.recipe import Recipe"),
        ("flan_lora.errors", "def f():\n    import flan_lora.training.factory"),
        ("flan_lora.data.splits", "from flan_lora import cli"),
        ("flan_lora.engine.batch", "from flan_lora.training.trainer import train"),
        ("flan_lora.training.trainer", "from flan_lora.engine.batch import Batch"),
        ("flan_lora.recipe", "from flan_lora import Recipe"),
        ("flan_lora.serving.router", "from flan_lora.evaluation.evaluate import predict"),
        ("flan_lora.serving.router", "from flan_lora.data.splits import load_split"),
    ],
)
def test_an_import_against_the_order_is_found(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


def test_no_module_stands_beside_the_packages() -> None:
    on_top = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.parent.name for path in PACKAGE.glob("*/__init__.py")
    }
    assert on_top == {name for names in PACKAGES for name in names} | ASSETS | {"__init__", "__main__"}


def test_modules_of_a_package_do_not_import_in_a_circle() -> None:
    """At the top of a file; what a function imports when it runs, or a type checker, makes no circle."""
    imports = {module_name(path): imported_at_start(path.read_text(encoding="utf-8")) for path in modules()}
    while True:
        leaves = {module for module, needed in imports.items() if not needed & (imports.keys() - {module})}
        if not leaves:
            break
        imports = {module: needed - leaves for module, needed in imports.items() if module not in leaves}
    assert imports == {}


def imported_at_start(source: str) -> set[str]:
    body = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return set(imported_modules(ast.unparse(ast.Module(body=list(body), type_ignores=[]))))


def test_tools_import_only_what_they_build_or_measure_with() -> None:
    found = {
        (str(path.relative_to(REPO)), package_of(imported))
        for path in sorted((REPO / "tools").rglob("*.py"))
        for imported in imported_modules(path.read_text(encoding="utf-8"))
        if package_of(imported) not in TOOLS_MAY_IMPORT.get(path.parent.name, BUILDERS_MAY_IMPORT)
    }
    assert found == set()


def test_no_file_is_longer_than_400_lines() -> None:
    folders = (PACKAGE, *(REPO / name for name in ("tests", "tools", "benchmarks")))
    lengths = {
        str(path.relative_to(REPO)): len(path.read_text(encoding="utf-8").splitlines())
        for folder in folders
        for path in folder.rglob("*.py")
    }
    assert len(lengths) > 300 and {name: length for name, length in lengths.items() if length > 400} == {}


def test_every_import_package_is_in_the_wheel() -> None:
    pyproject = (REPO / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^packages = \[\n(.*?)^\]", pyproject, re.DOTALL | re.MULTILINE)
    assert listed is not None
    found = {".".join(path.parent.relative_to(REPO).parts) for path in PACKAGE.rglob("__init__.py")}
    assert set(re.findall(r'"([^"]+)"', listed.group(1))) == found | {"flan_lora.recipes"}


def committed_texts() -> Iterator[tuple[str, str]]:
    """(path, text) of every text file that git tracks or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout, so nothing says which files are committed")
    for name in listing.stdout.split("\0"):
        path = REPO / name
        if name and path.is_file() and path.suffix in TEXT_SUFFIXES:
            yield name, path.read_text(encoding="utf-8", errors="replace")


def test_no_committed_text_names_a_path_of_a_machine() -> None:
    made_up = "ann|alice|bob|me|user|you"
    machine_path = re.compile(rf"(?<![\w.$}}/-])/(?:root|work|(?:home|Users)/(?!(?:{made_up})\b)\w+|tmp/\w+)\b")
    assert machine_path.search("see /home/somebody/x"), "the pattern must be able to fail"
    hits = [
        f"{name}: {line.strip()[:100]}"
        for name, text in committed_texts()
        if name != "tests/test_architecture.py" and not name.startswith(("flan_lora/samples/", "tools/samples/"))
        for line in text.splitlines()
        if machine_path.search(line)
    ]
    assert hits == []


def test_the_package_never_mentions_the_developers_data_folder() -> None:
    hits = [str(path) for path in modules() if "shared/" in path.read_text(encoding="utf-8")]
    assert hits == []
