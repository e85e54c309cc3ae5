"""Run folders that were edited or cut off: what is whole goes on, all else is one error that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flan_lora.recipe import parse_recipe
from flan_lora.training.run_dir import CHECKPOINT_FILES, DONE_FIELDS, Origin, Run, can_resume, resume_run
from tests.fuzz.strategies import answer_or_error, changed, fuzz, values

RECIPE = parse_recipe({"name": "mine", "task": "emotion", "data": {"dataset": "owner/name"}}, where="test")
ORIGIN = Origin(base="b" * 64, rows="r" * 64)
DONE = {name: "x" if kind is str else 1 for name, kind in DONE_FIELDS.items()}
ANYTHING = st.one_of(st.binary(max_size=30), values().map(lambda value: json.dumps(value).encode()))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("fuzz") / "run")
    (run.checkpoints_dir / "checkpoint-10").mkdir(parents=True)
    for name in (*CHECKPOINT_FILES, "rng_state.pth"):
        (run.checkpoints_dir / "checkpoint-10" / name).write_text('{"global_step": 10}')
    return run


def check(run: Run) -> None:
    place = str(run.path)
    answer_or_error(lambda: resume_run(run.path, RECIPE, ORIGIN), place)
    answer_or_error(lambda: run.is_of(ORIGIN), place)
    answer_or_error(run.read_done, place)
    assert can_resume(run.path, RECIPE) in (True, False)
    assert all(isinstance(entry["step"], int) for entry in run.read_log())
    assert run.last_checkpoint() is None or isinstance(run.last_checkpoint(), Path)


def write(path: Path, value: Any) -> None:
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())


@fuzz
@given(
    recipe=st.one_of(ANYTHING, changed(RECIPE.resolved())),
    origin=st.one_of(ANYTHING, changed({"base": "b" * 64, "rows": "r" * 64})),
    done=st.one_of(ANYTHING, changed(DONE)),
    state=ANYTHING,
    log=st.lists(ANYTHING, max_size=4),
)
@example(recipe=RECIPE.resolved(), origin=None, done=DONE, state=b"", log=[])
@example(recipe=RECIPE.resolved(), origin={"base": 3, "else": "x"}, done=DONE, state=b"", log=[])
def test_any_files(run: Run, recipe: Any, origin: Any, done: Any, state: bytes, log: list[bytes]) -> None:
    write(run.recipe_path, recipe)
    write(run.origin_path, origin)
    write(run.done_path, done)
    write(run.checkpoints_dir / "checkpoint-10" / "trainer_state.json", state)
    write(run.log_path, b"\n".join(log))
    check(run)
