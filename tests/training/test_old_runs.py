"""What was trained before a field came into the schema: run folders resume, adapters are published still."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import StoredAdapter
from flan_lora.errors import TrainingError
from flan_lora.recipe import Recipe, parse_recipe
from flan_lora.tasks import TASKS
from flan_lora.training.run_dir import CHECKPOINT_FILES, Origin, can_resume, resume_run, training_log
from tests.published import make_manifest

OF_2026_11: dict[str, Any] = {
    "name": "emotion",
    "task": "emotion",
    "base": {"model": "mini", "revision": None, "quantization": "int8", "int8_threshold": 0.0},
    "data": {
        "dataset": "dair-ai/emotion",
        "config": "split",
        "revision": None,
        "splits": {"train": "train", "validation": "validation", "test": "test"},
        "group_by": None,
        "columns": {},
        "also": [],
        "max_train_rows": None,
        "max_validation_rows": 400,
        "max_source_tokens": 128,
        "max_target_tokens": 8,
    },
    "lora": {
        "rank": 16,
        "alpha": 32,
        "dropout": 0.0,
        "target_modules": ["q", "k", "v", "o", "wi_0", "wi_1", "wo"],
        "use_rslora": False,
        "use_dora": False,
    },
    "training": {
        "learning_rate": 0.001,
        "epochs": 3.0,
        "max_steps": None,
        "batch_size": 16,
        "micro_batch_size": None,
        "lr_schedule": "linear",
        "warmup_share": 0.03,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "precision": "auto",
        "gradient_checkpointing": False,
        "evals_per_epoch": 2,
        "patience": 4,
        "seed": 0,
    },
    "evaluation": {
        "select_on": None,
        "batch_size": 32,
        "num_beams": 1,
        "constrained": True,
        "max_test_rows": None,
    },
}
"""A recipe.json as train wrote it on 2026-11-29, every field spelled out."""
ORIGIN = {"base": "b" * 64, "rows": "r" * 64}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of that day, cut off after its first checkpoint."""
    folder = tmp_path / "runs" / "mini" / "emotion"
    checkpoint = folder / "checkpoints" / "checkpoint-10"
    checkpoint.mkdir(parents=True)
    for name in (*CHECKPOINT_FILES, "rng_state.pth"):
        (checkpoint / name).write_text("x")
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": 10}))
    (folder / "recipe.json").write_text(json.dumps(OF_2026_11, indent=2))
    (folder / "origin.json").write_text(json.dumps(ORIGIN, indent=2))
    (folder / "log.jsonl").write_text('{"step": 10, "loss": 1.5}\n')
    return folder


def recipe_of_today(**changes: Any) -> Recipe:
    """The same recipe as today's schema spells it."""
    return parse_recipe({**OF_2026_11, **changes}, where="test")


def test_a_run_of_an_older_schema_is_resumed(run: Path) -> None:
    assert can_resume(run, recipe_of_today())
    resumed = resume_run(run, recipe_of_today(), Origin(**ORIGIN))
    checkpoint = resumed.last_checkpoint()
    assert checkpoint is not None and checkpoint.name == "checkpoint-10"
    assert resumed.read_log() == [{"step": 10, "loss": 1.5}]


def test_a_field_that_came_since_counts_as_its_default_and_a_changed_one_is_named(run: Path) -> None:
    values = {**OF_2026_11, "evaluation": {"num_beams": 1}, "training": {**OF_2026_11["training"]}}
    del values["training"]["patience"]
    (run / "recipe.json").write_text(json.dumps(values))
    assert can_resume(run, recipe_of_today())
    other = recipe_of_today(lora={**OF_2026_11["lora"], "rank": 8})
    assert not can_resume(run, other)
    with pytest.raises(TrainingError, match=r"lora.rank: was 16, is 8"):
        resume_run(run, other, Origin(**ORIGIN))


def test_the_log_of_an_older_run_belongs_to_its_adapter(run: Path, tmp_path: Path) -> None:
    stored = StoredAdapter(tmp_path / "adapters" / "mini" / "emotion", make_manifest(recipe=OF_2026_11))
    assert training_log(stored, tmp_path / "runs") == [{"step": 10, "loss": 1.5}]


@pytest.mark.parametrize("name", sorted(TASKS))
def test_the_adapters_in_the_repository_open_with_their_recipes(repo: Path, name: str) -> None:
    stored = Store(repo / "adapters" / "mini").open(name)
    assert stored.recipe.task == name and stored.recipe.base.model == "mini"
    assert stored.manifest.scores
