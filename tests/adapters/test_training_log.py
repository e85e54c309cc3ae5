"""The kept training log: scores and losses by step, from the adapter itself or from its very run."""

from __future__ import annotations

import json
from pathlib import Path

from flan_lora.adapters.manifest import FileRecord
from flan_lora.adapters.training_log import Curve, curve, log_text
from flan_lora.adapters.validation import LOG, StoredAdapter
from flan_lora.recipe import Recipe
from flan_lora.training.run_dir import training_log
from tests.published import HASH, make_manifest

ENTRIES = [
    {"step": 10, "loss": 2.0, "learning_rate": 0.1, "unix_time_s": 1.5},
    {"step": 20, "eval_loss": 1.5, "eval_macro_f1": 0.5, "eval_runtime": 3.0},
    {"step": 20, "train_runtime": 60.0, "unix_time_s": 2.0},
    {"step": 20, "eval_loss": 1.25, "eval_macro_f1": 0.75},
]


def test_losses_and_scores_are_kept_times_are_not() -> None:
    kept = [json.loads(line) for line in log_text(ENTRIES).splitlines()]
    assert kept == [
        {"step": 10, "loss": 2.0, "learning_rate": 0.1},
        {"step": 20, "eval_loss": 1.5, "eval_macro_f1": 0.5},
        {"step": 20, "eval_loss": 1.25, "eval_macro_f1": 0.75},
    ]


def test_a_curve_takes_the_last_of_a_step_in_order() -> None:
    assert curve(reversed(ENTRIES[:2]), "loss") == Curve((10,), (2.0,))
    assert curve(ENTRIES, "eval_macro_f1") == Curve((20,), (0.75,))
    assert curve(ENTRIES, "eval_bleu") == Curve((), ())


def test_the_log_comes_with_the_adapter_else_from_the_run_of_its_very_recipe(tmp_path: Path) -> None:
    manifest = make_manifest()
    folder = tmp_path / "adapters" / "mini" / "emotion"
    folder.mkdir(parents=True)
    run = tmp_path / "runs" / "mini" / "emotion"
    run.mkdir(parents=True)
    assert training_log(StoredAdapter(folder, manifest), tmp_path / "runs") == []
    (run / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in ENTRIES))
    recipe = Recipe.model_validate(manifest.recipe).resolved()
    (run / "recipe.json").write_text(json.dumps({**recipe, "name": "another"}))
    assert training_log(StoredAdapter(folder, manifest), tmp_path / "runs") == []
    (run / "recipe.json").write_text(json.dumps(recipe))
    assert len(training_log(StoredAdapter(folder, manifest), tmp_path / "runs")) == 3
    (folder / LOG).write_text('{"step": 1, "loss": 9.0}\n')
    published = manifest.model_copy(update={"files": {LOG: FileRecord(sha256=HASH, size_bytes=1)}})
    assert training_log(StoredAdapter(folder, published), tmp_path / "runs") == [{"step": 1, "loss": 9.0}]
