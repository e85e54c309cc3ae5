"""What ends a training or is refused before it: memory, numbers, trackers, batches."""

from __future__ import annotations

import pytest
import torch

from flan_lora.errors import TrainingError
from flan_lora.evaluation.predict import is_out_of_memory
from flan_lora.training.arguments import split_batch
from flan_lora.training.callbacks import open_trackers
from flan_lora.training.run_dir import start_run
from flan_lora.training.trainer import LoraTrainer, train
from tests.training.tiny_runs import (
    ORIGIN,
    rows_of_unequal_length,
    run_training,
    tiny_base,
    tiny_recipe,
)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=["cuda", "cpu"],
)
def test_out_of_memory_names_the_dial(tmp_path, validation, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("flan_lora.training.trainer.LoraTrainer.compute_loss", fail)
    with pytest.raises(TrainingError, match=r"out of memory .*16(.|\n)*--set training.micro_batch_size=8"):
        run_training(tiny_recipe(), tmp_path / "run", validation)


def test_other_runtime_errors_keep_their_traceback(tmp_path, validation, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("flan_lora.training.trainer.LoraTrainer.compute_loss", fail)
    with pytest.raises(RuntimeError, match="mat1"):
        run_training(tiny_recipe(), tmp_path / "run", validation)
    assert not is_out_of_memory(ValueError("shape"))


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, validation, monkeypatch):
    original = LoraTrainer.compute_loss
    monkeypatch.setattr(LoraTrainer, "compute_loss", lambda *args, **kw: original(*args, **kw) * float("nan"))
    run = start_run(tmp_path / "run", tiny_recipe(epochs=10), ORIGIN)
    with pytest.raises(TrainingError, match=r"the loss became nan by step 10(.|\n)*learning_rate"):
        run_training(tiny_recipe(epochs=10), None, validation, run=run)
    assert not run.staged_dir.exists()


def test_tensorboard_files_stay_with_the_run(tmp_path, validation, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "")  # restored afterwards
    recipe = tiny_recipe(epochs=1)
    run = start_run(tmp_path / "run", recipe, ORIGIN)
    rows = rows_of_unequal_length()
    train(
        recipe,
        tiny_base(recipe),
        rows,
        validation,
        rows_of_unequal_length(4),
        run=run,
        report_to="tensorboard",
    )
    assert list((run.path / "tensorboard").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("report_to", "message"),
    [("tensorbord", "unknown tracker 'tensorbord'"), ("mlflow", r"needs the package mlflow(.|\n)*pip install")],
)
def test_a_tracker_that_cannot_be_used_is_refused_before_training(tmp_path, monkeypatch, report_to, message):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=message):
        open_trackers(report_to, tmp_path)
    assert open_trackers("none", tmp_path) == ["none"]


def test_batches_that_do_not_divide_are_refused_with_the_numbers():
    training = tiny_recipe(batch_size=16, micro_batch_size=8).training
    assert split_batch(training, num_processes=1) == (8, 2)
    assert split_batch(training, num_processes=2) == (8, 1)
    with pytest.raises(TrainingError, match=r"batch_size = 16 .* 3 processes (.|\n)*multiple of 24"):
        split_batch(training, num_processes=3)
