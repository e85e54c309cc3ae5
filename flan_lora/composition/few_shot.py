"""What a mix has to beat: a fresh LoRA trained on the very rows that the weights are searched on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flan_lora.data.encoding import EncodedSplit
from flan_lora.data.splits import Split
from flan_lora.recipe import Recipe


def train_few_shot(
    recipe: Recipe, rows: Split, encoded: EncodedSplit, folder: Path, *, num_steps: int, seed: int
) -> Path:
    """Train on a few rows for a number of steps with the recipe's rate; the last step's weights, as a PEFT folder.

    There are no rows to choose a checkpoint by: the few are all that there are.

    Args:
        folder: of the run; it must be new.

    Raises what `training.trainer.train` raises.
    """
    from flan_lora.base.load import open_base
    from flan_lora.training.factory import on_its_base
    from flan_lora.training.run_dir import Origin, start_run
    from flan_lora.training.trainer import train

    own = few_shot_recipe(recipe, len(encoded), seed=seed)
    base = open_base(own.base)
    own = on_its_base(own)
    run = start_run(folder, own, Origin(base.fingerprint, rows.content_hash))
    return train(
        own, base, _repeated(encoded, own.training.batch_size, num_steps), rows, encoded, run=run
    ).staged_dir


def few_shot_recipe(recipe: Recipe, num_rows: int, *, seed: int) -> Recipe:
    """The recipe in batches of no more than the rows there are, with one evaluation at the end."""
    training = recipe.training.model_copy(
        update={
            "batch_size": min(recipe.training.batch_size, num_rows),
            "micro_batch_size": None,
            "epochs": 1.0,
            "max_steps": None,
            "evals_per_epoch": 1,
            "patience": None,
            "seed": seed,
        }
    )
    return recipe.model_copy(update={"training": training})


def _repeated(encoded: EncodedSplit, batch_size: int, num_steps: int) -> EncodedSplit:
    """As many rows, over and over, as the steps take: one epoch of them is evaluated and saved once."""
    num = batch_size * num_steps
    times = math.ceil(num / len(encoded))

    def over(items: Sequence[list[int]]) -> list[list[int]]:
        return (list(items) * times)[:num]

    return replace(encoded, input_ids=over(encoded.input_ids), labels=over(encoded.labels))
