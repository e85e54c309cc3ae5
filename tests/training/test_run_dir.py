"""A run's folder: which checkpoint is whole, what may be resumed, what is kept."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flan_lora.errors import BusyError, DiskError, TrainingError
from flan_lora.recipe import parse_recipe
from flan_lora.training.run_dir import (
    CHECKPOINT_FILES,
    DONE_FIELDS,
    Origin,
    Run,
    can_resume,
    resume_run,
    sole_use,
    start_run,
)

RECIPE = parse_recipe({"name": "mine", "task": "emotion", "data": {"dataset": "owner/name"}}, where="test")
ORIGIN = Origin(base="b" * 64, rows="r" * 64)


def write_checkpoint(run: Run, step: int, *, state: str | None = None, without: str = "") -> None:
    folder = run.checkpoints_dir / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name in (*CHECKPOINT_FILES, "rng_state.pth"):
        if name != without:
            (folder / name).write_text("x")
    if without != "trainer_state.json":
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}) if state is None else state)


def test_newest_whole_checkpoint_wins_by_number_not_by_name(tmp_path):
    run = start_run(tmp_path / "run", RECIPE, ORIGIN)
    write_checkpoint(run, 90)
    write_checkpoint(run, 100)
    assert run.last_checkpoint().name == "checkpoint-100"


@pytest.mark.parametrize("without", [*CHECKPOINT_FILES, "rng_state.pth"])
def test_a_checkpoint_without_one_of_its_files_is_passed_over(tmp_path, without):
    run = start_run(tmp_path / "run", RECIPE, ORIGIN)
    write_checkpoint(run, 10)
    write_checkpoint(run, 20, without=without)
    assert run.last_checkpoint().name == "checkpoint-10"


@pytest.mark.parametrize("state", ['{"global_step": 20', "", '{"global_step": 19}', "{}"])
def test_a_checkpoint_with_a_torn_or_foreign_state_is_passed_over(tmp_path, state):
    run = start_run(tmp_path / "run", RECIPE, ORIGIN)
    write_checkpoint(run, 20, state=state)
    assert run.last_checkpoint() is None


def test_several_processes_need_each_their_random_state(tmp_path):
    run = start_run(tmp_path / "run", RECIPE, ORIGIN)
    write_checkpoint(run, 10)
    assert run.last_checkpoint(world_size=2) is None
    for rank in range(2):
        (run.checkpoints_dir / "checkpoint-10" / f"rng_state_{rank}.pth").write_text("x")
    assert run.last_checkpoint(world_size=2) is not None


def test_a_fresh_start_keeps_what_was_there(tmp_path):
    for name in ("first", "second"):
        run = start_run(tmp_path / "run", RECIPE, ORIGIN)
        (run.path / name).write_text(name)
    start_run(tmp_path / "run", RECIPE, ORIGIN)
    assert (tmp_path / "run.1" / "first").is_file() and (tmp_path / "run.2" / "second").is_file()
    assert not (tmp_path / "run" / "second").exists()


def test_resume_with_another_recipe_lists_what_changed(tmp_path):
    start_run(tmp_path / "run", RECIPE, ORIGIN)
    changed = parse_recipe({**RECIPE.resolved(), "training": {"learning_rate": 0.5, "seed": 7}}, where="test")
    with pytest.raises(
        TrainingError, match=r"training.learning_rate: was 0.001, is 0.5\n  training.seed: was 0, is 7"
    ):
        resume_run(tmp_path / "run", changed, ORIGIN)
    assert resume_run(tmp_path / "run", RECIPE, ORIGIN).path == tmp_path / "run"


def test_a_run_that_was_trained_may_be_evaluated_otherwise(tmp_path):
    beams = parse_recipe({**RECIPE.resolved(), "evaluation": {"num_beams": 4}}, where="test")
    run = start_run(tmp_path / "run", RECIPE, ORIGIN)
    with pytest.raises(TrainingError, match=r"evaluation\.num_beams: was 1, is 4"):
        resume_run(run.path, beams, ORIGIN)
    run.done_path.write_text("{}")
    assert resume_run(run.path, beams, ORIGIN).path == run.path
    assert json.loads(run.recipe_path.read_text()) == beams.resolved()
    changed = parse_recipe({**beams.resolved(), "training": {"seed": 7}}, where="test")
    with pytest.raises(TrainingError, match=r"training\.seed: was 0, is 7"):
        resume_run(run.path, changed, ORIGIN)


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        (Origin(base="c" * 64, rows="r" * 64), "the base's weights: were bbbbbbbbbbbb, are cccccccccccc"),
        (Origin(base="b" * 64, rows="s" * 64), "the training rows: were rrrrrrrrrrrr, are ssssssssssss"),
    ],
)
def test_a_run_on_another_base_or_on_other_rows_is_not_resumed(tmp_path, origin, line):
    run = start_run(tmp_path / "run", RECIPE, ORIGIN)
    run.done_path.write_text("{}")
    beams = parse_recipe({**RECIPE.resolved(), "evaluation": {"num_beams": 4}}, where="test")
    with pytest.raises(TrainingError, match=rf"something else \(sha256\):\n  {line}\n"):
        resume_run(run.path, beams, origin)
    assert json.loads(run.recipe_path.read_text()) == RECIPE.resolved(), "refused, so nothing is written"
    assert can_resume(run.path, RECIPE) and run.is_of(ORIGIN) and not run.is_of(origin)
    run.origin_path.unlink()
    with pytest.raises(TrainingError, match="the base's weights: were unknown, are bbbb"):
        resume_run(run.path, RECIPE, ORIGIN)
    assert not run.is_of(ORIGIN)


def test_resume_of_nothing_says_so(tmp_path):
    with pytest.raises(TrainingError, match="nothing to resume"):
        resume_run(tmp_path / "run", RECIPE, ORIGIN)


def test_log_is_rewound_to_the_checkpoint_and_a_torn_line_is_left_out(tmp_path):
    run = start_run(tmp_path / "run", RECIPE, ORIGIN)
    run.log_path.write_text('{"step": 10}\n{"step": 20}\n{"step": 30}\n{"ste')
    assert [entry["step"] for entry in run.read_log()] == [10, 20, 30]
    run.rewind_log(20)
    assert [entry["step"] for entry in run.read_log()] == [10, 20]


def test_what_is_no_log_entry_ends_the_log(tmp_path):
    run = start_run(tmp_path / "run", RECIPE, ORIGIN)
    for line in (b"[1]", b'{"loss": 1}', b'{"step": "x"}', b"\xff", b"[" * 100_000):
        run.log_path.write_bytes(b'{"step": 10, "grad_norm": NaN}\n' + line + b'\n{"step": 20}\n')
        assert [entry["step"] for entry in run.read_log()] == [10]


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\x00"])
def test_a_damaged_run_folder_says_so_and_is_not_resumed(tmp_path, content):
    run = start_run(tmp_path / "run", RECIPE, ORIGIN)
    run.recipe_path.write_text(content)
    with pytest.raises(TrainingError, match=r"recipe\.json is damaged"):
        resume_run(run.path, RECIPE, ORIGIN)
    assert not can_resume(run.path, RECIPE)


DONE = {
    "num_steps": 10,
    "best_step": 5,
    "best_score": 0.5,
    "seconds": 1.0,
    "precision": "fp32",
    "num_trainable": 7,
    "weights_sha256": "ab" * 32,
}


def test_the_end_of_a_training_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    run = start_run(tmp_path / "run", RECIPE, ORIGIN)
    with monkeypatch.context() as patch, pytest.raises(DiskError, match=r"done\.json: No space"):
        patch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        run.write_done(DONE)
    assert not run.done_path.exists() and {path.name for path in run.path.iterdir()} == {
        "checkpoints",
        "origin.json",
        "recipe.json",
    }
    run.write_done(DONE)
    assert run.read_done() == DONE and DONE.keys() == DONE_FIELDS.keys()


@pytest.mark.parametrize(
    "changes", [{"num_steps": "ten"}, {"best_score": None}, {"more": 1}, {"weights_sha256": 0}]
)
def test_a_damaged_end_of_a_training_names_the_way_on(tmp_path, changes):
    run = start_run(tmp_path / "run", RECIPE, ORIGIN)
    run.done_path.write_text(json.dumps({**DONE, **changes}))
    with pytest.raises(TrainingError, match=r"done\.json is damaged(.|\n)*Remove it: then --resume"):
        run.read_done()
    run.done_path.write_text(json.dumps({name: DONE[name] for name in DONE if name != "weights_sha256"}))
    assert run.read_done()["num_steps"] == 10, "as run folders were before"


HOLD = (
    "import sys, time; from pathlib import Path; from flan_lora.training.run_dir import sole_use\n"
    "with sole_use(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)\n"
)


def test_a_run_folder_belongs_to_one_process_and_is_free_when_that_is_killed(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for name in ("run", "x/../run", "link"):
        with pytest.raises(BusyError) as error, sole_use(tmp_path / name):
            pytest.fail("two processes in one run folder")
        text = str(error.value)
        assert (
            f"process {other.pid} on {platform.node()}, since 20" in text
            and f"{tmp_path / name} is in use" in text
        )
    other.send_signal(signal.SIGKILL)
    other.wait()
    other.stdout.close()
    with sole_use(tmp_path / "run"):
        start_run(tmp_path / "run", RECIPE, ORIGIN)
        start_run(tmp_path / "run", RECIPE, ORIGIN)  # the folder moves away, its lock does not
        with pytest.raises(BusyError), sole_use(tmp_path / "run"):
            pytest.fail("two threads of one process in one run folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "run", "run.1"]


def test_a_place_that_cannot_be_is_one_error(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / ("x" * 5000), tmp_path / "file" / "run"):
        with pytest.raises(DiskError, match="cannot write the run folder"), sole_use(Path(place)):
            pytest.fail("held a lock nowhere")
