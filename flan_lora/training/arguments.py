"""A recipe's training section as the Trainer's arguments."""

from __future__ import annotations

import math

import torch
from transformers import (
    Seq2SeqTrainingArguments,
)

from flan_lora.errors import TrainingError
from flan_lora.recipe import Recipe, TrainingSection
from flan_lora.system.devices import has_bf16
from flan_lora.training.callbacks import open_trackers
from flan_lora.training.distributed import world_size
from flan_lora.training.run_dir import Run


def split_batch(training: TrainingSection, num_processes: int) -> tuple[int, int]:
    """(examples per forward pass and device, forward passes per optimizer step).

    Raises:
        TrainingError: ``batch_size`` is not a multiple of devices x micro_batch_size.
    """
    micro = training.micro_batch_size or max(training.batch_size // num_processes, 1)
    if training.batch_size % (micro * num_processes):
        raise TrainingError(
            f"training.batch_size = {training.batch_size} does not divide over {num_processes} processes with "
            f"micro batches of {micro}.\nSet training.batch_size to a multiple of {micro * num_processes}, "
            "or training.micro_batch_size to a divisor."
        )
    return micro, training.batch_size // (micro * num_processes)


def resolve_precision(precision: str, device: torch.device) -> str:
    """'bf16' or 'fp32': what `auto` means on this device."""
    if precision != "auto":
        return precision
    return "bf16" if has_bf16(device) else "fp32"


def training_arguments(
    recipe: Recipe, device: torch.device, num_rows: int, run: Run, report_to: str
) -> Seq2SeqTrainingArguments:
    """What the Trainer is told; checkpoints go to the run's folder, trackers' files beside them."""
    training, num_processes = recipe.training, world_size()
    micro, accumulation = split_batch(training, num_processes)
    steps_per_eval = max(math.ceil(num_rows / training.batch_size) // training.evals_per_epoch, 1)
    return Seq2SeqTrainingArguments(
        output_dir=str(run.checkpoints_dir),
        seed=training.seed,
        use_cpu=device.type == "cpu",
        ddp_backend="gloo" if device.type == "cpu" and num_processes > 1 else None,
        ddp_find_unused_parameters=False,
        bf16=resolve_precision(training.precision, device) == "bf16",
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=recipe.evaluation.batch_size,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=training.epochs,
        max_steps=training.max_steps or -1,
        optim="adamw_torch",
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.lr_schedule,
        warmup_steps=training.warmup_share,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        eval_strategy="steps",
        eval_steps=steps_per_eval,
        save_strategy="steps",
        save_steps=steps_per_eval,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{recipe.select_on}",
        greater_is_better=True,
        logging_steps=10,
        logging_nan_inf_filter=False,  # a loss that is no number must be seen, not replaced by the last one
        include_num_input_tokens_seen="non_padding",
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
        disable_tqdm=True,
        report_to=open_trackers(report_to, run.path),
        run_name=recipe.name,
    )
