"""The shape of the package: imports only point up the map, and nothing names a machine or a private folder."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PACKAGE = REPO / "flan_lora"

# DESIGN: a module imports only what stands above it. A subpackage is one entry; inside it anything goes.
MAP = (
    "errors files heap openmp hub metrics predictions significance calibration indic tasks zero_shot specimens"
    " comparison recipe peft_config run manifest adapter encode windows rows sources auxiliary token_cache"
    " data inspection lint devices fingerprint base estimate doctor decode evaluate sampler callbacks"
    " trackers train store merge export emissions journal lora bgmv deltas bank dense forward fixed reader board"
    " request cohort engine scheduler signature router answer_file routing bench server polarity archive contest"
    " head_to_head plots report outcome factory upload page report_files cli __init__ __main__"
).split()
OPEN_TO_ALL = {"mini", "samples"}
"""Their __init__ only say where files lie, so anybody may import them."""
SUBPACKAGE_MAY_IMPORT = {"mini": {"errors", "heap", "tasks", "encode", "data"}, "samples": {"errors", "tasks"}}
TRAINING, SERVING = (
    {"train", "data", "factory"},
    {
        "lora",
        "deltas",
        "bank",
        "bgmv",
        "dense",
        "forward",
        "fixed",
        "reader",
        "board",
        "request",
        "cohort",
        "engine",
        "scheduler",
        "signature",
        "router",
        "answer_file",
        "routing",
        "server",
    },
)
TEXT_SUFFIXES = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".jsonl", ".txt", ".cfg", ".sh", ""}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def entry_of(path: Path) -> str:
    """The map entry a file belongs to: its module, or its subpackage."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported_entries(source: str) -> Iterator[str]:
    """Map entries that a source imports anywhere: at the top, inside functions, for types only."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction; write flan_lora.x"
            package = node.module or ""
            names = [f"flan_lora.{alias.name}" for alias in node.names] if package == "flan_lora" else [package]
        for name in names:
            head, _, rest = name.partition(".")
            entry = rest.partition(".")[0]
            if head == "flan_lora" and entry != "__version__":
                yield entry if entry in MAP or entry in OPEN_TO_ALL else "__init__"


def violations(entry: str, source: str) -> list[str]:
    """Imports that point down the map, one line each."""
    allowed = SUBPACKAGE_MAY_IMPORT.get(entry)
    found = []
    for imported in imported_entries(source):
        if imported == entry or (imported in OPEN_TO_ALL and entry not in OPEN_TO_ALL):
            continue
        if imported == "__init__" and entry == "cli":
            continue  # where the package lies
        above = allowed if allowed is not None else MAP[: MAP.index(entry)]
        crosses = (entry in TRAINING and imported in SERVING) or (entry in SERVING and imported in TRAINING)
        if imported not in above or crosses:
            found.append(f"{entry} imports {imported}")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_only_up_the_map(path: Path) -> None:
    entry = entry_of(path)
    assert entry in MAP or entry in OPEN_TO_ALL, f"{entry} has no place on the map; add it where its imports allow"
    assert violations(entry, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("entry", "source"),
    [
        ("metrics", "from flan_lora.recipe import Recipe"),
        ("errors", "def f():\n    import flan_lora.train"),
        ("data", "from flan_lora import cli"),
        ("engine", "from flan_lora.data import open_source"),
        ("recipe", "from flan_lora import Recipe"),
        ("mini", "from flan_lora.train import train"),
    ],
)
def test_an_import_down_the_map_is_found(entry: str, source: str) -> None:
    assert len(violations(entry, source)) == 1


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
        if name != "tests/unit/test_architecture.py" and not name.startswith("flan_lora/samples/")
        for line in text.splitlines()
        if machine_path.search(line)
    ]
    assert hits == []


def test_the_package_never_mentions_the_developers_data_folder() -> None:
    hits = [str(path) for path in modules() if "shared/" in path.read_text(encoding="utf-8")]
    assert hits == []
