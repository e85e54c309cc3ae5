"""A run's folder: which checkpoint is whole, what may be resumed, what is kept."""

from __future__ import annotations

import json

import pytest

from flan_lora.errors import TrainingError
from flan_lora.recipe import parse_recipe
from flan_lora.training.run_dir import CHECKPOINT_FILES, Origin, Run, can_resume, resume_run, start_run

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
