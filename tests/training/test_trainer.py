"""Training: exact accumulation, bit-identical resume, a clean stop, and errors that name the dial."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from flan_lora.base.encode import Collator
from flan_lora.base.load import open_base
from flan_lora.data.encoding import AugmentedRows, EncodedSplit
from flan_lora.errors import TrainingError
from flan_lora.recipe import parse_recipe
from flan_lora.training.callbacks import StopOnInterrupt
from flan_lora.training.run_dir import start_run
from flan_lora.training.trainer import build_trainer, restore, train
from tests.tiny import tiny_t5, tiny_tokenizer
from tests.training.tiny_runs import (
    ORIGIN,
    rows_of_unequal_length,
    run_training,
    tiny_base,
    tiny_recipe,
    without_dropout,
)


@pytest.fixture(scope="module")
def whole_batch_loss() -> float:
    """T5's own mean loss per target token over all 16 rows, without any Trainer."""
    rows = rows_of_unequal_length(16)
    batch = Collator(pad_id=0, decoder_start_id=0)([rows[index] for index in range(16)])
    with torch.no_grad():
        return float(tiny_t5()(**batch).loss)


def test_accumulation_is_exact_whatever_the_micro_batch(tmp_path, validation, whole_batch_loss):
    def first_step(micro_batch_size):
        training = {"micro_batch_size": micro_batch_size, "max_steps": 1, "warmup_share": 0.0}
        recipe, base = without_dropout(tiny_recipe(**training))
        run = start_run(tmp_path / f"run-{micro_batch_size}", recipe, ORIGIN)
        trainer = build_trainer(
            recipe, base, rows_of_unequal_length(16), validation, rows_of_unequal_length(4), run=run
        )
        trainer.args.logging_steps = 1
        trainer.train()
        (entry,) = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
        return entry["loss"], entry["grad_norm"]

    whole = first_step(16)
    assert whole[0] == pytest.approx(whole_batch_loss, rel=1e-4)
    assert [first_step(micro) for micro in (4, 1)] == [pytest.approx(whole, rel=1e-4)] * 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory, validation):
    """The adapter tensors and the run of a training that nothing disturbed, of 8 steps; to be read only."""
    return run_training(tiny_recipe(), tmp_path_factory.mktemp("finished") / "run", validation)


def test_same_seed_gives_bitwise_equal_weights_and_another_seed_does_not(tmp_path, validation, finished):
    first, _ = finished
    again, _ = run_training(tiny_recipe(), tmp_path / "b", validation)
    other, _ = run_training(tiny_recipe(seed=1), tmp_path / "c", validation)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def twelve_steps(evals_per_epoch):
    return tiny_recipe(evals_per_epoch=evals_per_epoch, patience=None, micro_batch_size=8, epochs=3)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, validation):
    """Evaluations per epoch -> the adapter tensors of `twelve_steps` trained in one go."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return {evals: run_training(twelve_steps(evals), folder / str(evals), validation)[0] for evals in (1, 2)}


@pytest.mark.parametrize("evals_per_epoch", [1, 2], ids=["from an epoch's end", "from inside an epoch"])
def test_resume_is_bit_identical_with_dropout_and_length_groups(
    tmp_path, validation, undisturbed, evals_per_epoch
):
    recipe, whole = twelve_steps(evals_per_epoch), undisturbed[evals_per_epoch]
    run = start_run(tmp_path / "killed", recipe, ORIGIN)
    train_and_die(recipe, run, validation, at_step=7)
    newest = run.last_checkpoint()
    assert newest.name == f"checkpoint-{4 if evals_per_epoch == 1 else 6}"
    leave_half_a_checkpoint(newest, run.checkpoints_dir / "checkpoint-7")
    resumed, _ = run_training(recipe, None, validation, run=run, resume=True)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    steps = [entry["step"] for entry in run.read_log() if "eval_loss" in entry]
    assert steps == sorted(set(steps)), "the log holds each evaluation once"


def test_loraplus_gives_b_a_rate_of_its_own_and_resumes_bit_identically(tmp_path, validation, undisturbed):
    recipe = twelve_steps(2)
    training = recipe.training.model_copy(update={"loraplus_lr_ratio": 8.0, "weight_decay": 0.01})
    recipe = recipe.model_copy(update={"training": training})
    rows, validation_rows = rows_of_unequal_length(), rows_of_unequal_length(4)
    run = start_run(tmp_path / "looked at", recipe, ORIGIN)
    trainer = build_trainer(recipe, tiny_base(recipe), rows, validation, validation_rows, run=run)
    groups = trainer.create_optimizer().param_groups
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    named = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    rate = recipe.training.learning_rate
    for name, parameter in named.items():
        assert rates.pop(id(parameter)) == (8 * rate if "lora_B" in name else rate, 0.01), name
    assert not rates and any("lora_B" in name for name in named)

    whole, _ = run_training(recipe, tmp_path / "whole", validation)
    assert not all(torch.equal(whole[key], undisturbed[2][key]) for key in whole)
    run = start_run(tmp_path / "killed", recipe, ORIGIN)
    train_and_die(recipe, run, validation, at_step=7)
    resumed, _ = run_training(recipe, None, validation, run=run, resume=True)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def rows_of_epochs(asked: list[int]) -> AugmentedRows:
    """64 rows that begin with another token in each epoch; ``asked`` gets the epochs that were encoded."""
    plain = rows_of_unequal_length()

    def encode_epoch(epoch: int) -> EncodedSplit:
        asked.append(epoch)
        return dataclasses.replace(plain, input_ids=[[3 + epoch, *ids[1:]] for ids in plain.input_ids])

    return AugmentedRows(len(plain), encode_epoch)


def test_augmented_rows_are_read_epoch_by_epoch_and_resume_bit_identically(tmp_path, validation):
    recipe = tiny_recipe(evals_per_epoch=2, patience=None, epochs=3)
    asked, again = [], []
    whole, _ = run_training(recipe, tmp_path / "whole", validation, augmented=rows_of_epochs(asked))
    plain, _ = run_training(recipe, tmp_path / "plain", validation)
    assert asked == [0, 1, 2]
    assert not all(torch.equal(whole[key], plain[key]) for key in whole)
    run = start_run(tmp_path / "killed", recipe, ORIGIN)
    train_and_die(recipe, run, validation, at_step=7, augmented=rows_of_epochs([]))
    assert run.last_checkpoint().name == "checkpoint-6"  # of 12: the middle of the second epoch
    resumed, _ = run_training(recipe, None, validation, run=run, resume=True, augmented=rows_of_epochs(again))
    assert again == [1, 2]
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def train_and_die(recipe, run, validation, at_step, augmented=None):
    """Train until the middle of a step, then die without any clean-up."""

    class Killed(BaseException):
        pass

    rows, validation_rows = rows_of_unequal_length(), rows_of_unequal_length(4)
    trainer = build_trainer(
        recipe, tiny_base(recipe), rows, validation, validation_rows, run=run, augmented=augmented
    )
    compute_loss = trainer.compute_loss

    def compute_loss_or_die(*args, **options):
        if trainer.state.global_step == at_step:
            raise Killed
        return compute_loss(*args, **options)

    trainer.compute_loss = compute_loss_or_die
    with pytest.raises(Killed):
        trainer.train()


def leave_half_a_checkpoint(whole, torn):
    shutil.copytree(whole, torn)
    (torn / "trainer_state.json").write_text('{"global_step": ')


def test_adapter_moves_and_base_does_not(tmp_path, validation):
    recipe = tiny_recipe()
    base = tiny_base(recipe)
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    run = start_run(tmp_path / "run", recipe, ORIGIN)
    trained = train(recipe, base, rows_of_unequal_length(), validation, rows_of_unequal_length(4), run=run)
    after = {name.replace(".base_layer", ""): value for name, value in base.model.state_dict().items()}
    assert all(torch.equal(before[name], after[name]) for name in before)
    tensors = load_file(trained.staged_dir / "adapter_model.safetensors")
    assert any(value.abs().max() > 0 for name, value in tensors.items() if "lora_B" in name)
    assert sorted(path.name for path in trained.staged_dir.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert json.loads(run.done_path.read_text())["num_steps"] == 8


def test_a_finished_run_is_restored_without_training_again(finished):
    staged, run = finished
    restored = restore(tiny_recipe(), tiny_base(tiny_recipe()), run)
    tensors = {name.replace(".default", ""): value for name, value in restored.peft_model.state_dict().items()}
    assert all(torch.equal(tensors[key], staged[key]) for key in staged)
    assert restored.num_steps == 8 and restored.staged_dir == run.staged_dir


def test_loss_falls_and_log_holds_every_tenth_step_and_each_evaluation(tmp_path, validation):
    recipe = tiny_recipe(epochs=10, patience=None, evals_per_epoch=1)
    _, run = run_training(recipe, tmp_path / "run", validation)
    log = run.read_log()
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < losses[0] - 0.3
    assert [entry["step"] for entry in log if "eval_loss" in entry] == list(range(4, 41, 4))
    assert {"eval_accuracy", "eval_macro_f1", "eval_loss", "eval_seconds"} <= set(
        next(entry for entry in log if "eval_loss" in entry)
    )


def test_the_best_checkpoint_is_staged_not_the_last(tmp_path, validation, monkeypatch):
    recipe = tiny_recipe(epochs=4, evals_per_epoch=1, patience=None)
    scores = iter([0.1, 0.9, 0.2, 0.3])
    monkeypatch.setattr(
        "flan_lora.training.trainer.validation_scorer",
        lambda *_: lambda model, rank, world_size: {recipe.select_on: next(scores)},
    )
    staged, run = run_training(recipe, tmp_path / "run", validation)
    done = json.loads(run.done_path.read_text())
    assert (done["best_step"], done["best_score"]) == (8, 0.9)
    best = load_file(run.checkpoints_dir / "checkpoint-8" / "adapter_model.safetensors")
    last = load_file(run.checkpoints_dir / "checkpoint-16" / "adapter_model.safetensors")
    assert all(torch.equal(staged[key], best[key]) for key in staged)
    assert not all(torch.equal(staged[key], last[key]) for key in staged)


def test_patience_stops_early(tmp_path, validation, monkeypatch):
    recipe = tiny_recipe(epochs=20, evals_per_epoch=1, patience=2)
    monkeypatch.setattr(
        "flan_lora.training.trainer.validation_scorer",
        lambda *_: lambda model, rank, world_size: {recipe.select_on: 0.5},
    )
    _, run = run_training(recipe, tmp_path / "run", validation)
    assert (
        json.loads(run.done_path.read_text())["num_steps"] == 12
    )  # best at step 4, two evaluations without better


def test_interrupt_saves_and_says_how_to_resume(tmp_path, validation, undisturbed, monkeypatch):
    recipe, whole = twelve_steps(2), undisturbed[2]
    handler = signal.getsignal(signal.SIGINT)
    original = StopOnInterrupt.on_step_end

    def interrupt_at_three(self, args, state, control, **_):
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        original(self, args, state, control)

    monkeypatch.setattr(StopOnInterrupt, "on_step_end", interrupt_at_three)
    run = start_run(tmp_path / "run", recipe, ORIGIN)
    with pytest.raises(TrainingError, match=r"interrupted at step 3 of 12;(.|\n)*--resume"):
        run_training(recipe, None, validation, run=run)
    assert signal.getsignal(signal.SIGINT) is handler, "Ctrl-C belongs to the caller again"
    assert run.last_checkpoint().name == "checkpoint-3" and not run.done_path.exists()
    monkeypatch.setattr(StopOnInterrupt, "on_step_end", original)
    resumed, _ = run_training(recipe, None, validation, run=run, resume=True)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_int8_base_trains_and_keeps_its_int8_weights(tmp_path, validation):
    tiny_t5().save_pretrained(tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    values = tiny_recipe(precision="bf16").resolved()
    recipe = parse_recipe(
        {**values, "base": {"model": str(tmp_path / "base"), "quantization": "int8"}}, where="test"
    )
    base = open_base(recipe.base, device="cpu")
    weight = base.model.encoder.block[0].layer[0].SelfAttention.q.weight
    before = weight.clone()
    run = start_run(tmp_path / "run", recipe, ORIGIN)
    trained = train(recipe, base, rows_of_unequal_length(), validation, rows_of_unequal_length(4), run=run)
    assert weight.dtype == torch.int8 and torch.equal(weight, before)
    assert base.model.lm_head.weight.dtype == base.dtype, "training casts nothing of the base"
    tensors = load_file(trained.staged_dir / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert any(value.abs().max() > 0 for name, value in tensors.items() if "lora_B" in name)


def test_a_run_of_one_step_moves_the_adapter(tmp_path, validation):
    """transformers' warm-up gives the first step a rate of 0: such a run would publish the base."""
    recipe, base = without_dropout(tiny_recipe(max_steps=1))
    assert recipe.training.warmup_share > 0
    run = start_run(tmp_path / "run", recipe, ORIGIN)
    trainer = build_trainer(
        recipe, base, rows_of_unequal_length(16), validation, rows_of_unequal_length(4), run=run
    )
    trainer.train()
    moved = [p.abs().max().item() for name, p in trainer.model.named_parameters() if "lora_B" in name]
    assert moved and min(moved) > 0.0
