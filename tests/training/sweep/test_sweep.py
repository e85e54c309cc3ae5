"""Whole sweeps of a tiny base: trials stand each for itself, the worse stop early, what was cut off goes on."""

from __future__ import annotations

import csv
import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from safetensors.torch import load_file

from flan_lora.adapters.store import Store
from flan_lora.base.fingerprint import fingerprint
from flan_lora.base.load import open_base
from flan_lora.errors import BusyError, FlanLoraError, RecipeError, TrainingError
from flan_lora.recipe import Recipe, parse_recipe
from flan_lora.recipe_file import load_recipe
from flan_lora.training.factory import build_adapter, on_its_base, prepare_rows
from flan_lora.training.lora import add_lora, remove_lora
from flan_lora.training.run_dir import Origin, Run, sole_use, start_run
from flan_lora.training.sweep.dials import parse_grid, parse_range, recipe_with
from flan_lora.training.sweep.ray_workers import Resources
from flan_lora.training.sweep.ray_workers import run as run_on_ray
from flan_lora.training.sweep.results import Results, read_results
from flan_lora.training.sweep.run import Sampling, sweep
from flan_lora.training.sweep.study import Definition, Study, create
from flan_lora.training.trainer import train
from tests.waiting import wait_until

GRID = (parse_grid("lora.rank=2"), parse_grid("training.learning_rate=0.02,1e-6,0.01"))


def silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def finished(sweep_folder: Path, sweep_recipe: Recipe, sweep_source) -> Results:
    """Rates that learn and one that does not, each trained to its end."""
    return sweep(sweep_recipe, GRID, sweep_source, sweep_dir=sweep_folder / "whole", stopping=None, echo=silent)


def weights(folder: Path) -> bytes:
    return (folder / "staged" / "adapter_model.safetensors").read_bytes()


def test_trials_are_ranked_by_the_recipes_own_score(finished: Results, sweep_folder: Path) -> None:
    assert finished.select_on == "macro_f1" and len(finished.trials) == 3
    scores = [trial.score for trial in finished.trials]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1]
    assert {trial.status for trial in finished.trials} == {"finished"}
    assert {trial.num_evaluations for trial in finished.trials} == {3}
    assert finished.best.values["training.learning_rate"] > 1e-6
    best_of_log = [
        max(
            entry["eval_macro_f1"]
            for entry in Run(finished.folder / trial.run_dir).read_log()
            if "eval_loss" in entry
        )
        for trial in finished.trials
    ]
    assert scores == pytest.approx(best_of_log)


def test_each_trial_is_what_its_recipe_trains_alone(
    finished: Results, sweep_folder: Path, sweep_recipe: Recipe, sweep_source
) -> None:
    """The last of three on one base, bit by bit: nothing of an earlier trial is left in it."""
    last = finished.by_number(2)
    recipe = on_its_base(recipe_with(sweep_recipe, last.values, where="test"))
    base, rows = open_base(recipe.base), prepare_rows(recipe, sweep_source)
    run = start_run(sweep_folder / "alone", recipe, Origin(base.fingerprint, rows.splits["train"].content_hash))
    train(recipe, base, rows.train, rows.splits["validation"], rows.validation, run=run)
    assert weights(finished.folder / last.run_dir) == weights(sweep_folder / "alone")


def test_a_trial_is_a_run_folder_whose_adapter_can_be_published(
    finished: Results, sweep_source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the head of best.yaml says: no step is trained again, and only now are test rows looked at."""
    text = finished.best_path.read_text()
    assert "publishes what the trial has trained" in text and f"--data {sweep_source.path}" in text
    recipe = load_recipe(finished.best_path)
    assert recipe.lora.rank == finished.best.values["lora.rank"] and recipe.name == "moods"
    run_dir = finished.folder / finished.best.run_dir
    assert not (run_dir / "checkpoints").exists() and not (run_dir / "predictions").exists()
    monkeypatch.setattr("flan_lora.training.factory.train", lambda *_, **__: pytest.fail("trained again"))
    copy = shutil.copytree(run_dir, tmp_path / "run")
    path = build_adapter(
        recipe, sweep_source, adapters_dir=tmp_path / "adapters", run_dir=copy, resume=True, echo=silent
    )
    assert Store(path.parent).verify("moods") == []
    assert (path / "adapter_model.safetensors").read_bytes() == weights(run_dir)


def test_table_and_pictures_lie_in_the_folder(finished: Results) -> None:
    with (finished.folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == [trial.number for trial in finished.trials]
    assert float(rows[0]["macro_f1"]) == finished.best.score and rows[0]["lora.rank"] == "2"
    document = json.loads((finished.folder / "results.json").read_text())
    assert document["trials"][0]["values"] == finished.best.values
    for theme in ("light", "dark"):
        assert (finished.folder / f"score-{theme}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_sweep_again_trains_nothing_and_more_samples_add(
    sweep_recipe: Recipe, sweep_source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dials = (parse_range("log", "training.learning_rate=1e-4..1e-2"),)
    options = {"sweep_dir": tmp_path / "sweep", "stopping": None, "echo": silent}
    short = parse_recipe({**sweep_recipe.resolved(), "training": {"precision": "fp32", "epochs": 1}}, where="test")
    first = sweep(short, dials, sweep_source, sampling=Sampling(1), **options)
    with monkeypatch.context() as patch:
        patch.setattr("flan_lora.training.sweep.worker.train_or_restore", lambda *_, **__: pytest.fail("trained"))
        assert sweep(short, dials, sweep_source, sampling=Sampling(1), **options) == first
    second = sweep(short, dials, sweep_source, sampling=Sampling(2), **options)
    assert second.by_number(0) == first.by_number(0) and second.by_number(1).status == "finished"
    with pytest.raises(TrainingError, match="holds a sweep of another seed"):
        sweep(short, dials, sweep_source, sampling=Sampling(1, seed=1), **options)
    other = recipe_with(short, {"lora.alpha": 4}, where="test")
    with pytest.raises(TrainingError, match="holds a sweep of another recipe"):
        sweep(other, dials, sweep_source, **options)


def test_what_was_cut_off_goes_on_to_the_same_bits(
    finished: Results, sweep_recipe: Recipe, sweep_source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off after the second evaluation of the second trial: before its checkpoint, as a kill may."""
    report, calls = Study.report, []

    def report_and_die(self: Study, number: int, evaluation: int, score: float) -> None:
        report(self, number, evaluation, score)
        calls.append((number, evaluation))
        if (number, evaluation) == (1, 2):
            raise SystemExit("killed")

    options = {"sweep_dir": tmp_path / "sweep", "stopping": None, "echo": silent}
    with monkeypatch.context() as patch:
        patch.setattr(Study, "report", report_and_die)
        with pytest.raises(SystemExit):
            sweep(sweep_recipe, GRID, sweep_source, **options)
    with (tmp_path / "sweep" / "journal.log").open("ab") as file:
        file.write(b'{"op_code": 6, "worker')  # what a power cut leaves of a line
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Study, "report", lambda self, *of: (calls.append(of[:2]), report(self, *of)))
        results = sweep(sweep_recipe, GRID, sweep_source, **options)
    assert calls[:2] == [(1, 2), (1, 3)], "from the checkpoint of the first evaluation on, and trial 0 not again"
    assert len(calls) == 5 and results.trials == finished.trials
    for trial in results.trials:
        assert weights(results.folder / trial.run_dir) == weights(finished.folder / trial.run_dir)


def test_a_trial_that_ended_before_the_journal_knew_is_not_trained_again(
    sweep_recipe: Recipe, sweep_source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dials = (parse_grid("lora.rank=2"),)
    with monkeypatch.context() as patch:
        patch.setattr(Study, "finish", lambda *_: (_ for _ in ()).throw(SystemExit("killed")))
        with pytest.raises(SystemExit):
            sweep(sweep_recipe, dials, sweep_source, sweep_dir=tmp_path / "s", echo=silent)
    monkeypatch.setattr(
        "flan_lora.training.sweep.worker.train_or_restore", lambda *_, **__: pytest.fail("trained")
    )
    results = sweep(sweep_recipe, dials, sweep_source, sweep_dir=tmp_path / "s", echo=silent)
    assert [(trial.status, trial.num_evaluations) for trial in results.trials] == [("finished", 3)]


def test_the_worse_trials_stop_early_and_can_be_trained_on(
    sweep_recipe: Recipe, sweep_source, tmp_path: Path
) -> None:
    """Rungs after evaluations 1 and 3: the rate that learns nothing is behind at the first."""
    dials = (parse_grid("training.learning_rate=0.02,1e-6,2e-6"),)
    lines: list[str] = []
    results = sweep(sweep_recipe, dials, sweep_source, sweep_dir=tmp_path / "s", echo=lines.append)
    found = {trial.number: (trial.status, trial.num_evaluations) for trial in results.trials}
    assert found[0] == ("finished", 3) and ("stopped", 1) in (found[1], found[2])
    assert results.best.number == 0
    assert any("stopped after 1 evaluation" in line and "training.learning_rate=" in line for line in lines)
    stopped = next(trial for trial in results.trials if trial.status == "stopped")
    run_dir = results.folder / stopped.run_dir
    assert not (run_dir / "done.json").exists()
    path = build_adapter(
        load_recipe(run_dir / "recipe.json"),
        sweep_source,
        adapters_dir=tmp_path / "adapters",
        run_dir=run_dir,
        resume=True,
        echo=silent,
    )
    assert Store(path.parent).open("moods").manifest.training.num_steps == 9


def test_a_training_that_fails_is_a_result_and_the_others_go_on(
    sweep_recipe: Recipe, sweep_source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_at_rank_2(recipe: Recipe, *arguments, **options):
        if recipe.lora.rank == 2:
            raise TrainingError("the loss became nan by step 2; nothing is published.\nLower the rate.")
        return train_or_restore(recipe, *arguments, **options)

    from flan_lora.training.sweep.worker import train_or_restore

    monkeypatch.setattr("flan_lora.training.sweep.worker.train_or_restore", fail_at_rank_2)
    results = sweep(sweep_recipe, (parse_grid("lora.rank=2,4"),), sweep_source, sweep_dir=tmp_path, echo=silent)
    assert [(trial.number, trial.status) for trial in results.trials] == [(1, "finished"), (0, "failed")]
    assert results.by_number(0).error.startswith("the loss became nan")
    assert ",failed," in (tmp_path / "results.csv").read_text()


def test_an_interrupt_ends_the_sweep_and_says_how_to_go_on(
    sweep_recipe: Recipe, sweep_source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_, **__):
        raise TrainingError("interrupted at step 3; give --resume") from KeyboardInterrupt()

    monkeypatch.setattr("flan_lora.training.sweep.worker.train_or_restore", interrupt)
    with pytest.raises(TrainingError, match=r"interrupted in trial 0.*\nGive the same command") as caught:
        sweep(sweep_recipe, (parse_grid("lora.rank=2,4"),), sweep_source, sweep_dir=tmp_path, echo=silent)
    assert isinstance(caught.value.__cause__, KeyboardInterrupt)
    assert [trial.state.name for trial in Study(tmp_path).trials()] == ["RUNNING", "WAITING"]


def test_nothing_is_loaded_or_written_for_a_bad_dial(
    sweep_recipe: Recipe, sweep_source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flan_lora.training.sweep.worker.open_base", lambda *_: pytest.fail("loaded"))
    options = {"sweep_dir": tmp_path / "s", "echo": silent}
    with pytest.raises(RecipeError, match="did you mean 'rank'"):
        sweep(sweep_recipe, (parse_grid("lora.rnk=4"),), sweep_source, **options)
    with pytest.raises(TrainingError, match=r"names wi, which .*tiny-base does not have"):
        sweep(sweep_recipe, (parse_grid("lora.target_modules=[q],[wi]"),), sweep_source, **options)
    assert not (tmp_path / "s").exists()


def test_a_folder_of_something_else_and_a_busy_one_are_refused(
    sweep_recipe: Recipe, sweep_source, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(TrainingError, match="holds no sweep"):
        sweep(sweep_recipe, GRID, sweep_source, sweep_dir=tmp_path, echo=silent)
    with sole_use(tmp_path / "s"), pytest.raises(BusyError):
        sweep(sweep_recipe, GRID, sweep_source, sweep_dir=tmp_path / "s", echo=silent)


def test_a_base_or_rows_that_changed_between_trials_are_refused(sweep_recipe: Recipe, tmp_path: Path) -> None:
    create(tmp_path / "s", Definition(sweep_recipe, GRID, 0, None, "mine.csv"))
    Study(tmp_path / "s").check_stands_on({"base": "a", "validation rows": "b"})
    again = Study(tmp_path / "s")
    again.check_stands_on({"base": "a", "validation rows": "b"})
    with pytest.raises(TrainingError, match="on other weights or rows: changed: base\\."):
        again.check_stands_on({"base": "c", "validation rows": "b"})


@pytest.mark.parametrize("quantization", ["fp32", "int8", "nf4"])
def test_a_base_gets_its_linears_back(sweep_recipe: Recipe, quantization: str) -> None:
    values = {**sweep_recipe.resolved(), "lora": {"use_dora": True}, "training": {"gradient_checkpointing": True}}
    values["base"]["quantization"] = quantization
    recipe = parse_recipe(values, where="test")
    base = open_base(recipe.base)
    before = {name: (module, type(module)) for name, module in base.model.named_modules()}
    add_lora(recipe, base).train()
    assert (
        any("lora_A" in name for name, _ in base.model.named_parameters()) and base.model.is_gradient_checkpointing
    )
    remove_lora(base)
    assert {name: (module, type(module)) for name, module in base.model.named_modules()} == before
    assert not base.model.training and not base.model.is_gradient_checkpointing
    assert not [name for name, parameter in base.model.named_parameters() if parameter.requires_grad]
    if quantization != "nf4":  # whose fingerprint is that of the checkpoint's rows
        assert fingerprint(base.model, None) == base.fingerprint
    add_lora(recipe, base)  # PEFT warns where something is left, and a warning is an error here


def test_the_recipe_of_the_best_is_whole(finished: Results) -> None:
    values = yaml.safe_load(finished.best_path.read_text())
    assert values["training"]["learning_rate"] > 1e-6 and values == load_recipe(finished.best_path).resolved()
    assert load_file(finished.folder / finished.best.run_dir / "staged" / "adapter_model.safetensors")


def command(sweep_recipe: Recipe, sweep_source, folder: Path) -> list[str]:
    """The sweep of `finished`, as a user gives it."""
    file = folder / "moods.yaml"
    file.write_text(yaml.safe_dump(sweep_recipe.resolved()))
    dials = ["--grid", "lora.rank=2", "--grid", "training.learning_rate=0.02,1e-6,0.01", "--no-early-stopping"]
    places = ["--data", str(sweep_source.path), "--sweep-dir", str(folder / "sweep")]
    return [sys.executable, "-m", "flan_lora", "sweep", str(file), *dials, *places]


@pytest.mark.slow
def test_a_killed_sweep_goes_on_to_the_same_results(
    repo: Path, finished: Results, sweep_recipe: Recipe, sweep_source, tmp_path: Path
) -> None:
    arguments = command(sweep_recipe, sweep_source, tmp_path)
    process = subprocess.Popen(arguments, cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until((tmp_path / "sweep/trials/0001/checkpoints/checkpoint-3").is_dir, timeout_s=300)
    process.kill()  # SIGKILL
    process.communicate()
    results = read_results(Study(tmp_path / "sweep"))
    assert results.by_number(0).status == "finished" and results.by_number(1).status == "unfinished"
    done = subprocess.run(arguments, cwd=repo, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "going on in" in done.stdout and "1 of 3 trials had ended" in done.stdout
    assert f"flan-lora train {tmp_path / 'sweep' / 'best.yaml'}" in done.stdout
    results = read_results(Study(tmp_path / "sweep"))
    assert results.trials == finished.trials
    for trial in results.trials:
        assert weights(results.folder / trial.run_dir) == weights(finished.folder / trial.run_dir)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_two_ray_workers_find_the_same_though_one_is_killed(
    finished: Results, sweep_recipe: Recipe, sweep_source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    killed: list[int] = []

    def kill_another(line: str) -> None:
        """When the first trial has ended, the worker of the one that runs beside it dies."""
        actors = [each for each in psutil.Process().children(recursive=True) if "RayWorker.run" in each.name()]
        if not killed and actors:
            actors[0].kill()
            killed.append(actors[0].pid)

    ray.init(num_cpus=2, object_store_memory=200_000_000, include_dashboard=False, log_to_driver=False)
    try:
        results = sweep(
            sweep_recipe,
            GRID,
            sweep_source,
            sweep_dir=tmp_path / "sweep",
            stopping=None,
            ray=Resources(num_workers=2),
            echo=kill_another,
        )
        with pytest.raises(FlanLoraError, match="3 workers, and the cluster has 2 processors"):
            run_on_ray(tmp_path / "sweep", sweep_source, [0], Resources(3), on_end=print)
    finally:
        ray.shutdown()
        gc.collect()  # Ray's own Popen objects warn when they go
    assert len(killed) == 1 and results.trials == finished.trials
    for trial in results.trials:
        assert weights(results.folder / trial.run_dir) == weights(finished.folder / trial.run_dir)
