"""`flan-lora sweep`: what it hands on and prints; the sweep itself is replaced by a fake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flan_lora.training.sweep.results import Results, TrialResult
from flan_lora.training.sweep.run import Sampling
from tests.cli.running import put_fake, run, succeed

VALUES = {"lora.rank": 4, "training.learning_rate": 0.001}


def trial(number: int, status: Any, score: float | None, error: str | None = None) -> TrialResult:
    return TrialResult(number, VALUES, status, score, 2, f"trials/{number:04}", error)


class FakeSweep:
    """Records how it is called."""

    def __init__(self, *trials: TrialResult) -> None:
        self.trials = trials
        self.call: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}

    def __call__(self, *call: Any, **options: Any) -> Results:
        self.call, self.options = call, options
        options["echo"]("trial 0")
        return Results("macro_f1", options["sweep_dir"], self.trials)


def put(monkeypatch: pytest.MonkeyPatch, *trials: TrialResult) -> FakeSweep:
    fake = FakeSweep(*trials)
    put_fake(monkeypatch, "training.sweep.run", sweep=fake, Sampling=Sampling)
    return fake


GIVEN = "emotion --base mini --data sample --grid lora.rank=4,16 --log training.learning_rate=1e-4..3e-3".split()


def test_everything_is_handed_on_and_a_table_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = put(monkeypatch, trial(1, "finished", 0.75), trial(0, "failed", None, "out of memory"))
    more = "--samples 4 --seed 7 --uniform lora.dropout=0..0.2 --reduction-factor 2 --min-evaluations 3"
    lines = succeed("sweep", *GIVEN, *more.split()).splitlines()
    recipe, dials, source = fake.call
    assert (recipe.base.model, source.kind) == ("mini", "sample")
    assert [dial.kind for dial in dials] == ["grid", "log", "uniform"]
    given = fake.options
    assert (given["sampling"].samples, given["sampling"].seed) == (4, 7)
    assert (given["stopping"].reduction_factor, given["stopping"].min_evaluations) == (2, 3)
    assert given["sweep_dir"] == Path("runs/sweeps/mini/emotion") and given["ray"] is None
    assert lines[1].split() == [
        "TRIAL",
        "lora.rank",
        "training.learning_rate",
        "MACRO_F1",
        "EVALUATIONS",
        "STATUS",
    ]
    assert lines[2].split() == ["1", "4", "0.001", "0.750", "2", "finished"]
    assert "trial 0 failed: out of memory" in lines
    assert lines[-1] == "the best as a recipe: flan-lora train runs/sweeps/mini/emotion/best.yaml"


def test_json_output_holds_nothing_but_json(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, trial(1, "finished", 0.75))
    document = json.loads(succeed("sweep", *GIVEN, "--json"))
    assert document["trials"][0]["values"] == VALUES and document["select_on"] == "macro_f1"
    assert document["best_recipe"] == "runs/sweeps/mini/emotion/best.yaml"


def test_a_sweep_without_a_finished_trial_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, trial(0, "failed", None, "out of memory"))
    result = run("sweep", *GIVEN)
    assert result.exit_code == 1 and "no trial of 1 was trained to its end" in result.stderr


def test_workers_and_no_early_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = put(monkeypatch, trial(0, "finished", 0.5))
    succeed("sweep", *GIVEN, "--no-early-stopping", "--ray", "--workers", "2")
    assert fake.options["stopping"] is None and fake.options["ray"].num_workers == 2
    result = run("sweep", *GIVEN, "--workers", "2")
    assert result.exit_code == 2 and "give --ray too" in result.stderr


@pytest.mark.parametrize(("missing", "extra"), [("optuna", "sweep"), ("ray", "ray")])
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, missing: str, extra: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else object())
    result = run("sweep", *GIVEN, "--ray")
    assert result.exit_code == 1 and f"pip install 'flan-lora[{extra}]'" in result.stderr


def test_a_bad_dial_is_one_message() -> None:
    result = run("sweep", "emotion", "--base", "mini", "--data", "sample", "--grid", "lora.rnk=4")
    assert result.exit_code == 1 and "did you mean 'rank'" in result.stderr
