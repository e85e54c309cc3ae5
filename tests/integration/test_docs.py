"""The documentation is true: its commands and code run, its numbers are the published ones, its links lead on."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from flan_lora.cli import main
from flan_lora.tasks import TASKS

REPO = Path(__file__).resolve().parents[2]
README = (REPO / "README.md").read_text(encoding="utf-8")
MAKEFILE = (REPO / "Makefile").read_text(encoding="utf-8")
DOCS = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    """Fenced blocks of README. `python` and `bash` run here; `console` needs a GPU, the Hub or an hour."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def refresh() -> ModuleType:
    """docs/refresh.py, which is not in a package."""
    spec = importlib.util.spec_from_file_location("refresh", REPO / "docs" / "refresh.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tour_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # recipes come with the package; adapters/ and runs/ land here
    commands = [shlex.split(line, comments=True) for block in blocks("bash") for line in block.splitlines()]
    assert len(commands) >= 8
    outputs = {}
    for program, *arguments in commands:
        assert program == "flan-lora"
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, f"flan-lora {shlex.join(arguments)}\n{result.output}"
        outputs[arguments[0]] = result.stdout
    assert any(label in outputs["generate"] for label in TASKS["emotion"].labels)
    assert "moods" in outputs["adapter"]
    answers = [json.loads(line) for line in (tmp_path / "moods.jsonl").read_text().splitlines()]
    assert len(answers) > 100 and {answer["prediction"] for answer in answers} <= set(TASKS["emotion"].labels)


@pytest.mark.parametrize("code", blocks("python"), ids=["plain-peft", "router", "ours"])
def test_the_code_of_the_readme_runs(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert any(label in done.stdout for label in TASKS["emotion"].labels), done.stdout


def test_the_prompt_in_the_readme_is_the_tasks_own() -> None:
    plain, *_ = blocks("python")
    prompt = eval(re.search(r"prompt = (\(.*?^\))", plain, re.DOTALL | re.MULTILINE)[1])  # type: ignore[index]
    assert prompt == str(TASKS["emotion"].prompt({"text": "i feel so happy today"}))


def test_generated_parts_are_fresh(refresh: ModuleType) -> None:
    assert refresh.stale_files() == [], "run make docs and commit the result"


def test_a_stale_part_is_found(refresh: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "results_table", lambda adapters_dir: "| 0.999 |")
    assert refresh.stale_files() == ["README.md"]
    assert refresh.main(["--check"]) == 1


def test_the_results_table_is_read_from_metrics(refresh: ModuleType, tmp_path: Path) -> None:
    from tests.published import make_manifest, make_metrics

    folder = tmp_path / "mini" / "emotion"
    folder.mkdir(parents=True)
    scores = {name: {"value": 0.9, "low": 0.85, "high": 0.95} for name in ("accuracy", "macro_f1")}
    (folder / "metrics.json").write_text(make_metrics(adapter=scores).model_dump_json())
    (folder / "manifest.json").write_text(make_manifest(scores=scores).model_dump_json())
    *_, first, second = refresh.results_table(tmp_path).splitlines()
    assert first.startswith(
        "| mini | emotion | `accuracy` | **0.900** (0.850 to 0.950) | 0.300 | 0.350 (majority) |"
    )
    assert "2,000 rows" in first and "3,000 steps, 13 min, int8, cpu" in first
    assert second.startswith("|  |  | `macro_f1` | **0.900** (0.850 to 0.950) | - | - |")


def test_the_readme_fits_and_its_links_and_jobs_exist() -> None:
    assert len(README.splitlines()) < 200
    for path in DOCS:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path.name} links to {link}"
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    targets |= {f"{verb}-{task}" for verb in ("train", "eval") for task in TASKS}
    named = set(re.findall(r"(?:^|[`$] ?| {4})make ([a-z-]+)", README, re.MULTILINE))
    assert len(named) > 4
    assert named <= targets


def test_bare_make_lists_every_job() -> None:
    listed = subprocess.run(["make"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    jobs = set(re.findall(r"^([a-z<>-]+):.*##", MAKEFILE, re.MULTILINE))
    assert {"demo", "test", "check", "train-<task>", "train-all"} <= jobs
    assert all(f"make {job} " in listed for job in jobs)
    assert all(task in listed for task in TASKS)
