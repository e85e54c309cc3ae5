"""Several recipes in turn: what is done is left alone, what was cut off goes on, what fails stops nobody."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from flan_lora.adapters.store import Store
from flan_lora.cli import main
from flan_lora.errors import TrainingError
from flan_lora.training import factory
from tests.checkpoint import edit_config, save_checkpoint

WORDS = {"sad": "sadness", "joy": "joy", "love": "love", "anger": "anger", "fear": "fear", "what": "surprise"}


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take a third of a training of three steps."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny base, a user's file, and two recipes that train three steps each."""
    edit_config(save_checkpoint(tmp_path / "tiny-base"), tie_word_embeddings=False)
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([f"i am {word} {number}", label] for number in range(20) for word, label in WORDS.items())
    for name in ("one", "two"):
        values = {
            "name": name,
            "task": "emotion",
            "base": {"model": "tiny-base", "quantization": "fp32"},
            "data": {"dataset": "owner/name"},
            "training": {"precision": "fp32", "max_steps": 3, "evals_per_epoch": 1, "seed": len(name)},
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train_all(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["train-all", "one.yaml", "two.yaml", "--data", "mine.csv", *arguments])


def add_rows(folder: Path) -> None:
    """30 rows more in the file that is trained on."""
    with (folder / "mine.csv").open("a") as file:
        file.writelines(f"such joy {n},joy\n" for n in range(30))


def statuses(result: Result) -> dict[str, str]:
    """Adapter -> status, from the table at the end."""
    table = result.stdout[result.stdout.index("ADAPTER") :].splitlines()[1:]
    return {line.split()[0]: line.split()[1] for line in table if line.strip()}


def test_all_are_trained_then_left_alone_then_forced(folder: Path) -> None:
    first = train_all()
    assert first.exit_code == 0, first.output
    assert statuses(first) == {"one": "trained", "two": "trained"}
    before = {name: Store(folder / "adapters" / "tiny-base").open(name).manifest for name in ("one", "two")}
    assert "macro_f1" in first.stdout and "majority" not in first.stdout.split("ADAPTER")[-1]
    assert statuses(train_all()) == {"one": "unchanged", "two": "unchanged"}
    add_rows(folder)
    assert statuses(train_all()) == {"one": "trained", "two": "trained"}, "other rows are another adapter"
    assert statuses(train_all("--set", "training.max_steps=2")) == {"one": "trained", "two": "trained"}
    assert statuses(train_all("--force")) == {"one": "trained", "two": "trained"}
    after = {name: Store(folder / "adapters" / "tiny-base").open(name).manifest for name in ("one", "two")}
    assert {n: m.recipe_fingerprint for n, m in before.items()} == {
        n: m.recipe_fingerprint for n, m in after.items()
    }


def test_one_that_fails_does_not_stop_the_others_and_goes_on_next_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = factory.publish

    def failing(outcome, adapters_dir, run):  # type: ignore[no-untyped-def]
        if outcome.recipe.name == "one":
            raise TrainingError("the disk is full")
        return publish(outcome, adapters_dir, run)

    monkeypatch.setattr(factory, "publish", failing)
    cut_off = train_all()
    assert cut_off.exit_code == 1
    assert "1 of 2 failed: one" in cut_off.output and "the disk is full" in cut_off.output
    assert statuses(cut_off) == {"one": "failed", "two": "trained"}
    monkeypatch.setattr(factory, "publish", publish)
    again = train_all()
    assert statuses(again) == {"one": "resumed", "two": "unchanged"}
    assert again.exit_code == 0


def test_one_that_failed_on_other_rows_starts_afresh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise TrainingError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(factory, "publish", failing)
        assert train_all().exit_code == 1
    add_rows(folder)
    assert statuses(train_all()) == {"one": "trained", "two": "trained"}


def test_a_stop_by_hand_stops_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments, **options):  # type: ignore[no-untyped-def]
        raise TrainingError("interrupted at step 1") from KeyboardInterrupt()

    monkeypatch.setattr(factory, "build_adapter", interrupted)
    result = train_all()
    assert result.exit_code == 130
    assert "interrupted at step 1" in result.output and "two (2 of 2)" not in result.output
