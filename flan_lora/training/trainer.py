"""Recipe + base + encoded rows -> staged adapter, through a Seq2SeqTrainer. Publishing is the store's business."""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Seq2SeqTrainer,
    TrainerCallback,
    TrainerControl,
    set_seed,
)

from flan_lora.base.encode import Collator
from flan_lora.base.load import Base
from flan_lora.data.encoding import AugmentedRows, EncodedSplit
from flan_lora.data.splits import Split
from flan_lora.errors import TrainingError
from flan_lora.evaluation.predict import is_out_of_memory, predict
from flan_lora.recipe import Recipe
from flan_lora.tasks.scorers import score
from flan_lora.training.arguments import training_arguments
from flan_lora.training.callbacks import EpochOrder, Progress, RunLog, StopOnInterrupt
from flan_lora.training.distributed import gathered
from flan_lora.training.lora import add_lora
from flan_lora.training.run_dir import DONE_FIELDS, Run, step_of
from flan_lora.training.sampler import LengthGroupedOrder
from flan_lora.training.schedule import learning_rate_schedule

IGNORED_LABEL = -100
"""Marks padding in labels; cross entropy skips it."""


@dataclass(frozen=True)
class TrainedAdapter:
    """A finished run: the best checkpoint's weights, in memory and staged on disk as a plain PEFT folder."""

    peft_model: PeftModel
    staged_dir: Path
    num_steps: int
    best_step: int
    best_score: float
    seconds: float
    """Wall time of the training that this process did, evaluation included."""
    precision: str
    num_trainable: int
    weights_sha256: str
    """Of the staged weights: what is published must be these."""


def train(
    recipe: Recipe,
    base: Base,
    rows: EncodedSplit,
    validation: Split,
    validation_rows: EncodedSplit,
    *,
    run: Run,
    resume: bool = False,
    report_to: str = "none",
    augmented: AugmentedRows | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainedAdapter:
    """Train one LoRA adapter on the frozen base and stage the best checkpoint.

    Args:
        recipe: everything that decides the result; equal recipes on one machine give equal weights.
        base: frozen; its linears get LoRA layers in place, its weights are never written.
        rows: encoded training rows.
        validation, validation_rows: the same rows as examples (for generation) and encoded (for the loss).
        run: where checkpoints, log and the staged adapter go.
        resume: continue from the last whole checkpoint of ``run``, bit-identically.
        report_to: trackers of the Trainer, comma separated: tensorboard, wandb, mlflow, or none.
        augmented: the rows as each epoch writes them, read in place of ``rows``, whose lengths order them.
        callbacks: of the Trainer, beside our own.

    Raises:
        TrainingError: batch sizes that do not divide, nothing to resume, out of memory, a diverged loss,
            or an interrupt (checkpoint saved; the text says how to resume).
    """
    trainer = build_trainer(
        recipe,
        base,
        rows,
        validation,
        validation_rows,
        run=run,
        report_to=report_to,
        augmented=augmented,
        callbacks=callbacks,
    )
    # no whole checkpoint: the run died before its first, and starts at step 0
    checkpoint = run.last_checkpoint(trainer.args.world_size) if resume else None
    if resume and trainer.is_world_process_zero():
        run.rewind_log(step_of(checkpoint) if checkpoint else 0)
    started_s = time.perf_counter()
    with _explained_failures(recipe, run), trainer.interrupt:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.raise_if_interrupted(run)
    return _stage(trainer, run, time.perf_counter() - started_s)


def restore(recipe: Recipe, base: Base, run: Run) -> TrainedAdapter:
    """The adapter of a run whose training had ended: staged weights on the base, facts from done.json.

    Raises:
        TrainingError: the weights are not those that the run recorded, or its files are damaged.
    """
    facts, weights = run.read_done(), run.staged_weights()
    found = hashlib.sha256(weights).hexdigest()
    if found != facts.setdefault("weights_sha256", found):  # run folders of before have no hash
        raise TrainingError(
            f"the weights in {run.staged_dir} are not those that this run trained (sha256):\n"
            f"  trained  {facts['weights_sha256']}\n  found    {found}\n"
            f"Remove {run.done_path}: then --resume goes on from the last whole checkpoint, if there is one."
        )
    peft_model = add_lora(recipe, base)
    set_peft_model_state_dict(peft_model, load(weights))
    return TrainedAdapter(peft_model=peft_model, staged_dir=run.staged_dir, **facts)


def build_trainer(
    recipe: Recipe,
    base: Base,
    rows: EncodedSplit,
    validation: Split,
    validation_rows: EncodedSplit,
    *,
    run: Run,
    report_to: str = "none",
    augmented: AugmentedRows | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> LoraTrainer:
    """The trainer, ready to go: LoRA layers in place, order, callbacks and arguments set."""
    set_seed(recipe.training.seed)
    peft_model = add_lora(recipe, base)
    collator = Collator(
        pad_id=base.tokenizer.pad_token_id, decoder_start_id=base.model.config.decoder_start_token_id
    )
    lengths = [len(source) + len(target) for source, target in zip(rows.input_ids, rows.labels, strict=True)]
    training = recipe.training
    order = LengthGroupedOrder(lengths, training.batch_size, training.seed, says_epoch=augmented is not None)
    arguments = training_arguments(recipe, base.device, len(rows), run, report_to)
    trainer = LoraTrainer(
        model=peft_model,
        args=arguments,
        train_dataset=rows if augmented is None else augmented,
        eval_dataset=validation_rows,
        data_collator=collator,
        order=order,
        score_validation=validation_scorer(recipe, base, validation),
        interrupt=StopOnInterrupt(),
        callbacks=[*_callbacks(recipe, order, run), *callbacks],
        loraplus_lr_ratio=training.loraplus_lr_ratio,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


class LoraTrainer(Seq2SeqTrainer):  # type: ignore[misc]
    """Seq2SeqTrainer with exact gradient accumulation, a reproducible order and our own evaluation.

    transformers 5 hands ``num_items_in_batch`` to T5, which ignores it, and then stops dividing by the number of
    micro batches: the loss grows with the accumulation. Here the loss of a step is the mean over all its target
    tokens, however they are split into micro batches and devices.
    """

    lr_scheduler: Any
    optimizer: Any

    def __init__(
        self,
        *,
        order: LengthGroupedOrder,
        score_validation: Callable[[PeftModel, int, int], dict[str, float]],
        interrupt: StopOnInterrupt,
        callbacks: list[Any],
        loraplus_lr_ratio: float = 1.0,
        **arguments: Any,
    ) -> None:
        self.loraplus_lr_ratio = loraplus_lr_ratio
        super().__init__(callbacks=[*callbacks, interrupt], **arguments)
        self.interrupt = interrupt
        self.order = order
        self.score_validation = score_validation
        self.model_accepts_loss_kwargs = True  # makes the Trainer count the target tokens of a step for us
        self.loss_is_scaled_for_ga = True  # and leave the division to compute_loss

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW; of LoRA+ with a rate of its own for B, and for DoRA's magnitudes."""
        ratio = self.loraplus_lr_ratio
        if ratio == 1.0 or self.optimizer is not None:
            return super().create_optimizer(*(() if model is None else (model,)))
        optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        self.optimizer = create_loraplus_optimizer(
            self.model,
            optimizer_class,
            loraplus_lr_ratio=ratio,
            loraplus_weight_decay=self.args.weight_decay,
            **settings,
        )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """A rate above 0 from the first step on (`schedule.rate_share`)."""
        if self.lr_scheduler is None:
            self.lr_scheduler = learning_rate_schedule(
                optimizer or self.optimizer,
                str(self.args.lr_scheduler_type.value),
                num_warmup_steps=self.args.get_warmup_steps(num_training_steps),
                num_steps=num_training_steps,
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        """Summed cross entropy / target tokens of the whole optimizer step. logits (B, T, V), labels (B, T)."""
        labels = inputs["labels"]
        outputs = model(**{name: tensor for name, tensor in inputs.items() if name != "labels"})
        loss = _summed_cross_entropy(outputs.logits, labels)
        if num_items_in_batch is None:
            loss = loss / labels.ne(IGNORED_LABEL).sum().clamp(min=1)
        else:
            # DDP averages gradients over processes, while num_items_in_batch counts the tokens of all of them.
            loss = loss * self.accelerator.num_processes / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Generate on validation and score; adds the teacher-forced loss. Rows are divided between processes."""
        started_s = time.perf_counter()
        scores = self.score_validation(self.model, self.args.process_index, self.args.world_size)
        scores["loss"] = self._validation_loss()
        scores["seconds"] = time.perf_counter() - started_s
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in scores.items()}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Stop at the first loss that is no number: every later step would be wasted."""
        super().log(logs, start_time)
        if not math.isfinite(logs.get("loss", 0.0)):
            raise TrainingError(
                f"the loss became {logs['loss']} by step {self.state.global_step}; nothing is published.\n"
                "Lower training.learning_rate, or set training.precision=fp32."
            )

    def raise_if_interrupted(self, run: Run) -> None:
        """Turn a Ctrl-C that ended training into an error that says how to go on."""
        if self.interrupt.is_interrupted:
            raise TrainingError(
                f"interrupted at step {self.state.global_step} of {self.state.max_steps}; the checkpoint is saved "
                f"in {run.checkpoints_dir}.\nGive the same command with --resume to continue exactly there."
            ) from KeyboardInterrupt()

    @torch.inference_mode()
    def _validation_loss(self) -> float:
        """Mean cross entropy per target token over validation."""
        was_training = self.model.training
        self.model.eval()
        rows = self.eval_dataset
        order = sorted(range(len(rows)), key=lambda row: len(rows.input_ids[row]))
        mine = order[self.args.process_index :: self.args.world_size]
        size = self.args.per_device_eval_batch_size
        total, num_tokens = 0.0, 0
        for start in range(0, len(mine), size):
            batch = self._prepare_inputs(self.data_collator([rows[row] for row in mine[start : start + size]]))
            labels = batch.pop("labels")
            with self.accelerator.autocast():
                logits = self.model(**batch).logits
            total += float(_summed_cross_entropy(logits, labels))
            num_tokens += int(labels.ne(IGNORED_LABEL).sum())
        self.model.train(was_training)
        parts = gathered([(total, num_tokens)])
        return float(sum(part[0] for part in parts) / max(sum(part[1] for part in parts), 1))

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroupedOrder:
        return self.order

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Only the adapter: the base is never written, and no pickled arguments."""
        if self.args.should_save:
            self.model.save_pretrained(output_dir or self.args.output_dir, save_embedding_layers=False)


def _callbacks(recipe: Recipe, order: LengthGroupedOrder, run: Run) -> list[Any]:
    callbacks: list[Any] = [EpochOrder(order), RunLog(run), Progress(recipe.select_on)]
    if recipe.training.patience is not None:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=recipe.training.patience))
    return callbacks


def validation_scorer(
    recipe: Recipe, base: Base, validation: Split
) -> Callable[[PeftModel, int, int], dict[str, float]]:
    """(model, rank, world size) -> scores of the whole validation split; each rank generates its share."""
    task = recipe.task_definition
    examples = validation.examples

    def score_validation(model: PeftModel, rank: int, world_size: int) -> dict[str, float]:
        mine = list(range(rank, len(examples), world_size))
        answers = predict(
            model,
            base.tokenizer,
            task,
            [examples[row] for row in mine],
            evaluation=recipe.evaluation,
            max_source_tokens=recipe.data.max_source_tokens,
        )
        by_row = dict(gathered(list(zip(mine, answers, strict=True))))
        predictions = [by_row[row] for row in range(len(examples))]
        references = [example.references for example in examples]
        sources = [example.inputs[task.inputs[0]] for example in examples]
        return score(task.scorers, predictions, references, sources)

    return score_validation


def _summed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """logits (B, T, V) any float, labels (B, T) int64 with -100 as padding -> scalar fp32 sum.

    Only positions with a label are cast to fp32: padding would cost as much memory as text.
    """
    is_label = labels.ne(IGNORED_LABEL)
    return torch.nn.functional.cross_entropy(logits[is_label].float(), labels[is_label], reduction="sum")


def _stage(trainer: LoraTrainer, run: Run, seconds: float) -> TrainedAdapter:
    """Write the best weights as a plain PEFT folder, then say that training is done."""
    state, weights_sha256 = trainer.state, ""
    if trainer.is_world_process_zero():
        shutil.rmtree(run.staged_dir, ignore_errors=True)
        trainer.model.save_pretrained(run.staged_dir, save_embedding_layers=False)
        (run.staged_dir / "README.md").unlink(missing_ok=True)  # PEFT's empty template; the card replaces it
        weights_sha256 = hashlib.sha256(run.staged_weights()).hexdigest()
    trained = TrainedAdapter(
        peft_model=trainer.model,
        staged_dir=run.staged_dir,
        num_steps=state.global_step,
        best_step=int(state.best_global_step or state.global_step),
        best_score=float(state.best_metric or 0.0),
        seconds=seconds,
        precision="bf16" if trainer.args.bf16 else "fp32",
        num_trainable=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        weights_sha256=weights_sha256,
    )
    if trainer.is_world_process_zero():
        run.write_done({name: getattr(trained, name) for name in DONE_FIELDS})
    return trained


@contextmanager
def _explained_failures(recipe: Recipe, run: Run) -> Iterator[None]:
    """Out of memory becomes a TrainingError that names the dial."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        micro = recipe.training.micro_batch_size or recipe.training.batch_size
        raise TrainingError(
            f"out of memory in training {recipe.name} with micro batches of {micro} and sources of up to "
            f"{recipe.data.max_source_tokens} tokens.\n"
            f"Turn one of these dials, strongest first:\n"
            f"  --set training.micro_batch_size={max(micro // 2, 1)}   same result, half the activations\n"
            f"  --set training.gradient_checkpointing=true   same result, about a third slower\n"
            f"  --set data.max_source_tokens={recipe.data.max_source_tokens // 2}   cuts long sources\n"
            f"Checkpoints are in {run.checkpoints_dir}."
        ) from error
