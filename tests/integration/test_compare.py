"""flan-lora compare, as a user runs it: on a tiny base, the bundled rows, and saved answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flan_lora.adapters.store import Store
from flan_lora.cli import main
from tests.checkpoint import save_checkpoint
from tests.published import make_manifest, stage, tiny_fingerprint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two adapters on a tiny base, one of them a name that emotion is not."""
    folder = tmp_path_factory.mktemp("compare")
    save_checkpoint(folder / "base")
    for seed, name in enumerate(("emotion", "moods"), 3):
        manifest = make_manifest(name, base={"fingerprint": tiny_fingerprint()})
        Store(folder / "adapters" / "base").publish(stage(folder / f"staged-{name}", seed=seed), manifest)
    return folder


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """12 rows choose the wording, and 4 are timed."""
    monkeypatch.setattr("flan_lora.compare.run.NUM_PROMPT_ROWS", 12)
    monkeypatch.setattr("flan_lora.compare.run.NUM_TIMED_ROWS", 4)


def compare(folder: Path, *arguments: str) -> Result:
    places = ("--adapters-dir", str(folder / "adapters"), "--reports-dir", str(folder / "reports"))
    options = ("--base", str(folder / "base"), "--data", "sample", "--rows", "16", *places)
    return CliRunner().invoke(main, ["compare", *arguments, *options])


def test_the_sentiment_comparison_is_the_default(folder: Path) -> None:
    result = compare(folder)
    assert result.exit_code == 0, result.output
    assert "BARE BASE (95 % INTERVAL)" in result.stdout and "EMOTION ADAPTER" in result.stdout
    assert (
        "macro_f1" in result.stdout and "exact McNemar" in result.stdout and "wording" not in result.stdout.lower()
    )
    report = folder / "reports" / "base-emotion"
    assert str(report / "index.html") in result.stdout.replace("\n", "")
    page = (report / "index.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "<script" not in page
    assert (report / "overview-light.png").stat().st_size > 10_000
    assert len((report / "predictions" / "bare base.jsonl").read_text().splitlines()) == 16


def test_saved_answers_join_and_nothing_runs_again(folder: Path, tmp_path: Path) -> None:
    assert compare(folder, "moods", "--table-only").exit_code == 0
    assert compare(folder, "emotion", "--table-only").exit_code == 0
    report = folder / "reports" / "base-emotion"
    before = (report / "results.json").stat().st_mtime_ns
    result = compare(
        folder, "emotion", "--table-only", "--with", f"the other={folder}/reports/base-moods", "--json"
    )
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert list(printed["scores"]) == ["bare base", "emotion adapter", "the other"]
    assert [pair["name"] for pair in printed["pairwise"]] == ["emotion adapter", "the other"]
    assert (report / "results.json").stat().st_mtime_ns == before, "base and adapter were run again"
    refused = compare(folder, "emotion", "--table-only", "--with", str(tmp_path / "none.jsonl"))
    assert refused.exit_code == 1 and "no such file, folder or run" in refused.stderr


def test_predictions_of_eval_can_be_compared(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "again.jsonl"
    places = ("--adapters-dir", str(folder / "adapters"), "--base", str(folder / "base"), "--data", "sample")
    fewer = ("--set", "evaluation.max_test_rows=16")
    arguments = ["eval", "moods", *places, *fewer, "--predictions", str(file)]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    result = compare(folder, "moods", "--table-only", "--with", str(file), "--json")
    assert result.exit_code == 0, result.output
    gains = {pair["name"]: pair["num_won"] - pair["num_lost"] for pair in json.loads(result.stdout)["pairwise"]}
    # on some processors int8 products of PEFT's shapes and the engine's round a near tie differently
    assert abs(gains["again"] - gains["moods adapter"]) <= 2, "eval's PEFT model and the engine answer alike"


def test_all_published_adapters_are_compared_in_one_command(folder: Path) -> None:
    result = compare(folder, "--all", "--table-only", "--json")
    assert result.exit_code == 0, result.output
    assert [item["record"]["adapter"] for item in json.loads(result.stdout)] == ["emotion", "moods"]


def test_without_matplotlib_nothing_is_run_in_vain(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = compare(folder)
    assert result.exit_code == 1 and "flan-lora[report]" in result.stderr and "--table-only" in result.stderr
    assert compare(folder, "--table-only").exit_code == 0


def test_nothing_published_is_an_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["compare", "--all", "--table-only", "--adapters-dir", str(tmp_path)])
    assert result.exit_code == 1 and "flan-lora train RECIPE" in result.stderr
