"""The main job end to end on a tiny base: published, verified, scored again to the same numbers."""

from __future__ import annotations

import csv
import shutil
import signal
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from flan_lora.adapters.manifest import load_metrics
from flan_lora.adapters.store import Store
from flan_lora.adapters.training_log import curve, read_training_log
from flan_lora.base.load import open_base
from flan_lora.data.sources import open_source
from flan_lora.data.splits import load_split
from flan_lora.errors import (
    AdapterCorruptError,
    AdapterError,
    AdapterMismatchError,
    DataError,
    DiskError,
    RecipeError,
    TrainingError,
)
from flan_lora.evaluation.calibration import calibration_of, tempered
from flan_lora.recipe import Recipe, parse_recipe
from flan_lora.serving.router import Router
from flan_lora.tasks import TASKS
from flan_lora.training.checks import check_places
from flan_lora.training.factory import build_adapter, plan
from flan_lora.training.reevaluate import reading_recipe, reevaluate
from flan_lora.training.run_dir import Run
from tests.checkpoint import edit_config, save_checkpoint
from tests.tiny import tiny_t5

WORDS = {"sad": "sadness", "joy": "joy", "love": "love", "anger": "anger", "fear": "fear", "what": "surprise"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny checkpoint of another name than the embedded one, and a CSV file of the user's."""
    folder = tmp_path_factory.mktemp("factory")
    edit_config(save_checkpoint(folder / "tiny-base"), tie_word_embeddings=False)
    with (folder / "mine.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([f"i am {word} {number}", label] for number in range(20) for word, label in WORDS.items())
    return folder


def recipe_for(folder: Path, **training) -> Recipe:
    values = {
        "name": "moods",
        "task": "emotion",
        "base": {"model": str(folder / "tiny-base"), "quantization": "fp32"},
        "data": {"dataset": "owner/name"},
        "training": {"precision": "fp32", "learning_rate": 0.005, "epochs": 2, "evals_per_epoch": 1, **training},
    }
    return parse_recipe(values, where="test")


@pytest.fixture(scope="module")
def published(folder) -> Path:
    source = open_source(str(folder / "mine.csv"))
    return build_adapter(
        recipe_for(folder),
        source,
        adapters_dir=folder / "adapters",
        run_dir=folder / "run",
        echo=lambda line: None,
    )


def test_the_adapter_stands_under_its_base_and_is_whole(folder, published):
    store = Store(folder / "adapters" / "tiny-base")
    assert published == store.root / "moods" and store.verify("moods") == []
    names = {path.name for path in published.iterdir()}
    assert names == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
        "metrics.json",
        "README.md",
        "training_log.jsonl",
        "training_curve.png",
    }


def test_manifest_and_metrics_tell_the_same_and_name_no_folder(published, folder):
    manifest = Store(folder / "adapters" / "tiny-base").open("moods").manifest
    metrics = load_metrics(published / "metrics.json")
    assert (manifest.scores, manifest.base_scores) == (metrics.adapter, metrics.base)
    assert manifest.baseline_scores.keys() == {"majority"}
    assert (manifest.data.num_train_rows, manifest.data.num_validation_rows, manifest.data.num_test_rows) == (
        96,
        12,
        12,
    )
    assert str(folder) not in "".join(path.read_text() for path in published.glob("*.json"))


def test_eval_reproduces_every_number(published, folder):
    store = Store(folder / "adapters" / "tiny-base")
    source, base = open_source(str(folder / "mine.csv")), str(folder / "tiny-base")
    adapter = reevaluate(store.open("moods"), source, base=base)
    bare = reevaluate(store.open("moods"), source, base=base, base_only=True)
    metrics = load_metrics(published / "metrics.json")
    for evaluation, expected in ((adapter, metrics.adapter), (bare, metrics.base)):
        assert {name: vars_of(score) for name, score in evaluation.scores.items()} == {
            name: vars_of(score) for name, score in expected.items()
        }


def test_a_file_of_ones_own_is_scored_whole(published, folder, tmp_path):
    """A tenth of it, as in training, would be another result than was asked for, and nobody was told."""
    stored = Store(folder / "adapters" / "tiny-base").open("moods")
    file = tmp_path / "others.csv"
    file.write_text("body,mood\n" + "".join(f"so sad {n},sadness\nsome joy {n},Joy\n" for n in range(10)))
    columns = ("data.columns.text=body", "data.columns.label=mood")
    base = str(folder / "tiny-base")
    whole = reevaluate(stored, open_source(str(file)), role=None, base=base, overrides=columns)
    assert (whole.split, whole.num_rows) == ("all", 20)
    assert [item.source for item in whole.predictions[:2]] == ["so sad 0", "some joy 0"]
    assert whole.notes == (
        "macro_f1: no row is love, anger, fear, surprise; a label without a row is left out of the mean, "
        "or counts 0 once it is answered",
        "asked: 512 source and 8 new tokens, greedy, labels only",
    )
    bare = reevaluate(stored, open_source(str(file)), role=None, base=base, base_only=True, overrides=columns)
    assert (
        bare.notes[-1]
        == "the bare base, asked as the adapter is: 512 source and 8 new tokens, greedy, labels only"
    )
    part = reevaluate(
        stored, open_source(str(file)), role=None, base=base, overrides=(*columns, "evaluation.max_test_rows=5")
    )
    assert part.num_rows == 5


def test_the_whole_of_the_training_file_is_scored_with_a_word(published, folder):
    stored = Store(folder / "adapters" / "tiny-base").open("moods")
    source, base = open_source(str(folder / "mine.csv")), str(folder / "tiny-base")
    evaluation = reevaluate(stored, source, role=None, base=base)
    assert evaluation.num_rows == 120
    assert any("trained on rows of this very file; --split test" in note for note in evaluation.notes)


def test_eval_sets_what_it_reads_and_nothing_that_the_weights_stand_on(published, folder):
    stored = Store(folder / "adapters" / "tiny-base").open("moods")
    for override in ("lora.rank=4", "task=qa", "base.model=mini"):
        with pytest.raises(RecipeError, match=f"--set {override}: only fields of data and evaluation"):
            reading_recipe(stored, [override])
    with pytest.raises(RecipeError, match="moods with --set is not a valid recipe"):
        reading_recipe(stored, ["data.colums.text=body"])


def test_labels_are_served_at_the_temperature_that_validation_asks_for(published, folder):
    """What the router gives is what the record speaks of: the test error after the temperature."""
    stored = Store(folder / "adapters" / "tiny-base").open("moods")
    found = load_metrics(published / "metrics.json").calibration
    assert found.temperature == stored.manifest.label_temperature != 1.0
    assert found.num_rows == stored.manifest.data.num_validation_rows
    split = load_split(recipe_for(folder), "test", open_source(str(folder / "mine.csv")))
    truths = [example.references[0] for example in split.examples]
    texts = [example.inputs["text"] for example in split.examples]
    router = Router.open(folder / "adapters" / "tiny-base", open_base(recipe_for(folder).base, device="cpu"))
    served = [row.label_probabilities for row in router.generate(texts, "moods", label_probabilities=True)]
    assert calibration_of(served, truths).error == pytest.approx(found.ece_after, abs=1e-3)
    raw = [tempered(row, 1 / found.temperature) for row in served]
    assert calibration_of(raw, truths).error == pytest.approx(found.ece_before, abs=1e-3)
    assert f"at temperature {found.temperature:.2f}" in (published / "README.md").read_text(encoding="utf-8")


def vars_of(score) -> tuple[float, float, float]:
    return score.value, score.low, score.high


def test_the_run_keeps_log_and_predictions_but_no_checkpoints(published, folder):
    run = Run(folder / "run")
    assert not run.checkpoints_dir.exists() and run.read_log()
    assert {path.stem for path in (run.path / "predictions").iterdir()} == {"moods", "base", "majority"}


def test_resume_after_training_had_ended_publishes_without_training(published, folder, monkeypatch):
    monkeypatch.setattr("flan_lora.training.factory.train", lambda *_, **__: pytest.fail("trained again"))
    source = open_source(str(folder / "mine.csv"))
    again = build_adapter(
        recipe_for(folder),
        source,
        adapters_dir=folder / "again",
        run_dir=folder / "run",
        resume=True,
        echo=lambda line: None,
    )
    first, second = (path / "adapter_model.safetensors" for path in (published, again))
    assert first.read_bytes() == second.read_bytes()
    assert load_metrics(again / "metrics.json").adapter == load_metrics(published / "metrics.json").adapter


def test_another_base_of_the_same_shape_is_refused(published, folder):
    other = edit_config(save_checkpoint(folder / "other", tiny_t5(seed=1)), tie_word_embeddings=False)
    stored = Store(folder / "adapters" / "tiny-base").open("moods")
    with pytest.raises(AdapterMismatchError, match="does not fit this base"):
        reevaluate(stored, open_source(str(folder / "mine.csv")), base=str(other))


def test_rows_that_fail_the_lint_stop_the_run_before_anything_is_written(folder, tmp_path):
    file = tmp_path / "one-label.csv"
    file.write_text("text,label\n" + "".join(f"i am sad {number},sadness\n" for number in range(200)))
    with pytest.raises(DataError, match="lint"):
        build_adapter(
            recipe_for(folder),
            open_source(str(file)),
            adapters_dir=tmp_path / "adapters",
            run_dir=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists() and not (tmp_path / "adapters").exists()


def test_a_reserved_name_is_refused_before_the_work(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("flan_lora.training.factory.prepare_rows", lambda *_: pytest.fail("work was done"))
    values = {**recipe_for(folder).resolved(), "name": "auto"}
    with pytest.raises(AdapterError, match="auto"):
        build_adapter(
            parse_recipe(values, where="test"),
            open_source(str(folder / "mine.csv")),
            adapters_dir=tmp_path / "adapters",
            run_dir=tmp_path / "run",
        )


def test_a_plan_loads_no_weights(folder, monkeypatch):
    monkeypatch.setattr(
        "flan_lora.training.factory.open_base", lambda *_, **__: pytest.fail("weights were loaded")
    )
    cost = plan(recipe_for(folder), open_source(str(folder / "mine.csv"))).here
    assert cost.num_steps == 12
    lora = sum(p.numel() for p in tiny_lora_parameters(folder))
    assert cost.num_trainable == lora


def tiny_lora_parameters(folder):
    from flan_lora.training.lora import add_lora

    recipe = recipe_for(folder)
    return [p for p in add_lora(recipe, open_base(recipe.base, device="cpu")).parameters() if p.requires_grad]


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="limits on the size of files are POSIX")
@pytest.mark.parametrize("max_bytes", [0, 4_000, 30_000, 130_000])
def test_a_disk_that_fills_up_at_any_file_is_one_error_and_resume_goes_on_with_room(
    folder, tmp_path, max_bytes, monkeypatch
):
    """A limit on the size of a file stands in for a full disk: Python, safetensors and torch each meet it."""
    import resource

    recipe, source = recipe_for(folder, max_steps=4), open_source(str(folder / "mine.csv"))
    monkeypatch.setenv("FLAN_LORA_CACHE", "off")

    def build(resume: bool = False) -> Path:
        return build_adapter(
            recipe,
            source,
            adapters_dir=tmp_path / "adapters",
            run_dir=tmp_path / "run",
            resume=resume,
            echo=lambda line: None,
        )

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, hard))
    try:
        with pytest.raises((DiskError, AdapterError)) as caught:
            build()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    text = str(caught.value)
    assert "cannot " in text and str(tmp_path) in text and "Make room" in text and len(text) < 1000
    can_go_on = (tmp_path / "run" / "recipe.json").is_file()
    assert ("--resume" in text) == can_go_on
    assert Store(tmp_path / "adapters" / "tiny-base").verify(build(resume=can_go_on).name) == []


def test_places_where_nothing_can_be_written_are_refused_before_the_work(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("flan_lora.training.factory.prepare_rows", lambda *_: pytest.fail("work was done"))
    source, file = open_source(str(folder / "mine.csv")), tmp_path / "file"
    file.touch()
    good = {"adapters_dir": tmp_path / "adapters", "run_dir": tmp_path / "run"}
    for name in good:
        for place in (tmp_path / ("x" * 5000), file / "below"):
            with pytest.raises(DiskError, match=r"Name another place"):
                build_adapter(recipe_for(folder), source, **{**good, name: place})
        with monkeypatch.context() as patch:
            patch.setattr("os.access", lambda path, mode: False)
            with pytest.raises(DiskError, match="no write permission, or a read-only disk"):
                build_adapter(recipe_for(folder), source, **good)
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(DiskError, match=r"about 400 MB are needed, and 0 MB are free there"):
        check_places(recipe_for(folder), tmp_path / "adapters", tmp_path / "run", num_trainable=10_000_000)


def test_weights_of_another_run_are_not_published_under_this_ones_scores(published, folder, tmp_path):
    run = Run(shutil.copytree(folder / "run", tmp_path / "run"))
    shutil.copy(published / "adapter_model.safetensors", run.staged_dir)
    other = load_file(run.staged_dir / "adapter_model.safetensors")
    save_file({key: tensor * 2 for key, tensor in other.items()}, run.staged_dir / "adapter_model.safetensors")
    with pytest.raises(TrainingError, match="are not those that this run trained"):
        build_adapter(
            recipe_for(folder),
            open_source(str(folder / "mine.csv")),
            adapters_dir=tmp_path / "adapters",
            run_dir=run.path,
            resume=True,
            echo=lambda line: None,
        )
    manifest = Store(published.parent).open("moods").manifest.model_copy(update={"files": {}})
    with pytest.raises(AdapterCorruptError, match="not those of this run: expected sha256 aaaa"):
        Store(tmp_path / "adapters").publish(run.staged_dir, manifest, weights_sha256="a" * 64)
    assert not (tmp_path / "adapters" / "moods").exists()


def test_every_task_has_a_baseline_to_stand_beside_its_scores():
    assert all(task.baselines for task in TASKS.values())


def test_the_card_has_the_curve_and_the_answers_of_this_run(folder, published):
    stored = Store(folder / "adapters" / "tiny-base").open("moods")
    log = read_training_log(stored)
    assert curve(log, "eval_macro_f1").steps == (6, 12) and curve(log, "loss").steps
    assert not [entry for entry in log if "unix_time_s" in entry]
    metrics = load_metrics(published / "metrics.json")
    assert [item.expected for item in metrics.examples] == [
        item.expected for item in TASKS["emotion"].card.examples
    ]
    assert {item.adapter for item in metrics.examples} <= set(TASKS["emotion"].labels)
    text = (published / "README.md").read_text(encoding="utf-8")
    assert "](training_curve.png)" in text and metrics.examples[0].inputs["text"] in text
    assert (published / "training_curve.png").read_bytes().startswith(b"\x89PNG")
    assert all(
        (published / name).stat().st_size < 200_000 for name in ("training_curve.png", "training_log.jsonl")
    )


def test_without_matplotlib_an_adapter_is_published_without_its_picture(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = build_adapter(
        recipe_for(folder, max_steps=2),
        open_source(str(folder / "mine.csv")),
        adapters_dir=folder / "plain",
        run_dir=folder / "plain-run",
        echo=lambda line: None,
    )
    assert not (path / "training_curve.png").exists() and (path / "training_log.jsonl").is_file()
    assert "training_curve.png" not in (path / "README.md").read_text(encoding="utf-8")
