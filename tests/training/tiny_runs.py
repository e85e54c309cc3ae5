"""Trainings of the tiny T5 that take a second."""

from __future__ import annotations

import dataclasses

import torch
from safetensors.torch import load_file

from flan_lora.base.load import Base
from flan_lora.data.encoding import EncodedSplit
from flan_lora.recipe import Recipe, parse_recipe
from flan_lora.training.run_dir import Origin, start_run
from flan_lora.training.trainer import train
from tests.tiny import tiny_t5, tiny_tokenizer

CPU = torch.device("cpu")


def tiny_recipe(**training) -> Recipe:
    values = {
        "name": "tiny",
        "task": "emotion",
        "base": {"model": "mini", "quantization": "fp32"},
        "data": {"dataset": "owner/name"},
        "training": {"precision": "fp32", "batch_size": 16, "epochs": 2, "learning_rate": 0.01, **training},
    }
    return parse_recipe(values, where="test")


def tiny_base(recipe: Recipe) -> Base:
    return Base(
        model=tiny_t5().requires_grad_(False),
        tokenizer=tiny_tokenizer(),
        spec=recipe.base,
        device=CPU,
        device_reason="test",
        dtype=torch.float32,
        fingerprint="0" * 64,
    )


def rows_of_unequal_length(num_rows: int = 64) -> EncodedSplit:
    generator = torch.Generator().manual_seed(0)

    def tokens(low: int, high: int) -> list[int]:
        size = int(torch.randint(low, high, (), generator=generator))
        return [*torch.randint(3, 100, (size,), generator=generator).tolist(), 1]

    return EncodedSplit(
        input_ids=[tokens(3, 30) for _ in range(num_rows)],
        labels=[tokens(1, 9) for _ in range(num_rows)],
        num_source_truncated=0,
        num_target_truncated=0,
        unk_share_source=0.0,
        unk_share_target=0.0,
        content_hash="0" * 64,
    )


ORIGIN = Origin(base="0" * 64, rows="0" * 64)


def run_training(recipe, path, validation, *, run=None, resume=False, augmented=None):
    """Train and return (adapter tensors, run)."""
    rows, validation_rows = rows_of_unequal_length(), rows_of_unequal_length(4)
    run = run or start_run(path, recipe, ORIGIN)
    trained = train(
        recipe, tiny_base(recipe), rows, validation, validation_rows, run=run, resume=resume, augmented=augmented
    )
    return load_file(trained.staged_dir / "adapter_model.safetensors"), run


def without_dropout(recipe) -> tuple[Recipe, Base]:
    recipe = parse_recipe({**recipe.resolved(), "lora": {"dropout": 0.0}}, where="test")
    return recipe, dataclasses.replace(tiny_base(recipe), model=tiny_t5(dropout_rate=0.0).requires_grad_(False))
