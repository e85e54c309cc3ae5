"""`flan-lora adapter` and `eval`: what they print and refuse; what they call is replaced by fakes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import StoredAdapter
from flan_lora.errors import FlanLoraError
from tests.cli.running import put_fake, run, succeed
from tests.published import HASH, make_manifest, make_metrics, stage


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = stage(tmp_path_factory.mktemp("staged"))
    (folder / "metrics.json").write_text(make_metrics().model_dump_json())
    return folder


@pytest.fixture
def adapters_dir(staged: Path, tmp_path: Path) -> Path:
    """Two bases: mini has emotion and mine, flan-t5-large has emotion."""
    for base, name in (("mini", "emotion"), ("mini", "mine"), ("google/flan-t5-large", "emotion")):
        manifest = make_manifest(
            name, base={"model": base}, base_scores={"accuracy": {"value": 0.3, "low": 0.2, "high": 0.4}}
        )
        Store(tmp_path / base.split("/")[-1]).publish(staged, manifest)
    return tmp_path


def test_adapter_list_shows_scores_beside_the_bare_base(adapters_dir: Path) -> None:
    lines = succeed("adapter", "list", "--adapters-dir", adapters_dir).splitlines()
    assert len(lines) == 4
    assert lines[2].split()[:2] == ["mini", "emotion"]
    assert len(succeed("adapter", "list", "--base", "mini", "--adapters-dir", adapters_dir).splitlines()) == 3
    listed = json.loads(succeed("adapter", "list", "--json", "--adapters-dir", adapters_dir))
    assert [(item["base"]["model"], item["name"]) for item in listed][1:] == [
        ("mini", "emotion"),
        ("mini", "mine"),
    ]


def test_adapter_list_names_the_damaged_and_the_empty(
    adapters_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (adapters_dir / "mini" / "mine" / "adapter_model.safetensors").write_bytes(b"cut")
    assert "mini/mine is damaged: adapter_model.safetensors" in succeed(
        "adapter", "list", "--adapters-dir", adapters_dir
    )
    assert "flan-lora train" in succeed("adapter", "list", "--adapters-dir", tmp_path_factory.mktemp("none"))


def test_adapter_show_needs_the_base_only_when_two_have_the_name(adapters_dir: Path) -> None:
    shown = succeed("adapter", "show", "mine", "--adapters-dir", adapters_dir)
    assert "rank 4, alpha 8, q v wi_0" in shown and "0.850 to 0.950" in shown and "12 min 34 s" in shown
    result = run("adapter", "show", "emotion", "--adapters-dir", adapters_dir)
    assert result.exit_code == 1 and "flan-t5-large, mini" in result.stderr and "--base" in result.stderr
    for which in (["emotion", "--base", "mini"], [str(adapters_dir / "mini" / "emotion")]):
        found = json.loads(succeed("adapter", "show", *which, "--json", "--adapters-dir", adapters_dir))
        assert found["base"] == {"model": "mini", "revision": None, "fingerprint": HASH, "quantization": "int8"}


@pytest.mark.parametrize("name", ["../mini/emotion", "/etc", "."])
def test_a_path_is_not_an_adapter_name(name: str, adapters_dir: Path) -> None:
    result = run("adapter", "show", name, "--adapters-dir", adapters_dir)
    assert result.exit_code == 1 and "is not an adapter name" in result.stderr


def test_an_unknown_adapter_lists_what_is_published(adapters_dir: Path) -> None:
    result = run("adapter", "show", "emotions", "--adapters-dir", adapters_dir)
    assert result.exit_code == 1
    assert "flan-t5-large/emotion, mini/emotion, mini/mine" in result.stderr


def test_adapter_verify_finds_an_altered_file(adapters_dir: Path) -> None:
    assert succeed("adapter", "verify", "--adapters-dir", adapters_dir).count("whole") == 3
    weights = adapters_dir / "mini" / "mine" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    result = run("adapter", "verify", "--adapters-dir", adapters_dir)
    assert result.exit_code == 1
    assert "mini/mine: damaged" in result.stdout and result.stdout.count("whole") == 2
    assert run("adapter", "verify", "mine", "--json", "--adapters-dir", adapters_dir).exit_code == 1


def test_adapter_remove_asks_first(adapters_dir: Path) -> None:
    folder = adapters_dir / "mini" / "mine"
    assert run("adapter", "remove", "mine", "--adapters-dir", adapters_dir, input="n\n").exit_code == 1
    assert folder.is_dir()
    succeed("adapter", "remove", "mine", "--yes", "--adapters-dir", adapters_dir)
    assert not folder.exists()


# Eval


def test_eval_prints_scores_with_intervals_and_saves_predictions(
    monkeypatch: pytest.MonkeyPatch, adapters_dir: Path, tmp_path: Path
) -> None:
    score = SimpleNamespace(value=0.5, low=0.4, high=0.6)
    asked: list[dict[str, Any]] = []

    def reevaluate(stored: StoredAdapter, source: Any, **options: Any) -> SimpleNamespace:
        asked.append({"name": stored.name, "source": source.kind, **options})
        return SimpleNamespace(
            name="mine",
            task="emotion",
            split="test",
            num_rows=2000,
            scores={"accuracy": score},
            seconds=1.5,
            predictions=("p",),
        )

    put_fake(monkeypatch, "training.reevaluate", reevaluate=reevaluate)
    put_fake(
        monkeypatch,
        "evaluation.predictions",
        write_predictions=lambda path, predictions: path.write_text(predictions[0]),
    )
    command = ("eval", "mine", "--data", "sample", "--adapters-dir", adapters_dir)
    assert "0.4 to 0.6" in succeed(*command, "--predictions", tmp_path / "p.jsonl")
    assert (tmp_path / "p.jsonl").read_text() == "p"

    def on_a_full_disk(path: Path, predictions: Any) -> None:
        raise FlanLoraError(f"cannot write {path}: No space left on device.")

    with monkeypatch.context() as full:
        put_fake(full, "evaluation.predictions", write_predictions=on_a_full_disk)
        result = run(*command, "--predictions", tmp_path / "p.jsonl")
    assert result.exit_code == 1 and "0.4 to 0.6" in result.stdout and "No space left" in result.stderr
    asked.pop()
    printed = json.loads(succeed(*command, "--json", "--base-only", "--split", "validation"))
    assert printed["num_rows"] == 2000 and "predictions" not in printed
    assert [(call["role"], call["base_only"]) for call in asked] == [("test", False), ("validation", True)]

    asked.clear()
    (tmp_path / "mine.csv").write_text("body,mood\nx,joy\n")
    own = ("eval", "mine", "--data", tmp_path / "mine.csv", "--adapters-dir", adapters_dir)
    assert "2,000 rows of mine.csv" in succeed(*own, "--set", "data.columns.text=body")
    succeed(*own, "--split", "test")
    assert [(call["role"], call["overrides"]) for call in asked] == [
        (None, ("data.columns.text=body",)),
        ("test", ()),
    ]
    refused = run(*command, "--split", "all")
    assert refused.exit_code == 2 and "--split all is for a file of yours" in refused.output
