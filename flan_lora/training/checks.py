"""What would fail only after the last step is checked before the first: places, dials, texts with a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flan_lora.adapters import remote_store
from flan_lora.adapters.validation import check_name
from flan_lora.base.architecture import linear_names
from flan_lora.base.decode import label_constraint
from flan_lora.base.encode import encode_sources
from flan_lora.base.load import base_slug
from flan_lora.data.splits import Split
from flan_lora.errors import DataError, TrainingError
from flan_lora.system.files import check_writable
from flan_lora.tasks.task import card_examples, swapped

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, T5Config

    from flan_lora.recipe import Recipe, Role

_NUM_CHECKPOINTS = 3
"""On the disk at once: the best, the last, and the one that is being written."""


def check_places(recipe: Recipe, adapters_dir: Path, run_dir: Path, num_trainable: int = 0) -> None:
    """Refuse what could only fail when it is written: a name, a folder, a disk without room.

    Args:
        num_trainable: parameters, where they are known: AdamW keeps 8 bytes beside the 4 of each.

    Raises:
        AdapterError: the recipe's name cannot be an adapter's.
        DiskError: we may not write there, or the checkpoints and the adapter would not fit.
        RemoteError: the adapter root is a URL, and nothing can be written there.
    """
    check_name(recipe.name)
    slug = base_slug(recipe.base)
    check_writable(run_dir, num_trainable * (12 * _NUM_CHECKPOINTS + 4))
    check_writable(adapters_dir / slug / recipe.name, num_trainable * 4)
    remote_store.check_writable(adapters_dir / slug)


def check_lora(recipe: Recipe, config: T5Config) -> None:
    """Refuse an update of linears that this base lacks. Raises TrainingError."""
    known = linear_names(config)
    targets = recipe.lora.modules(known)
    missing = [module for module in targets if module not in known]
    if missing:
        raise TrainingError(
            f"lora.target_modules names {', '.join(missing)}, which {recipe.base.model} does not have "
            f"(it has {', '.join(known)}).\n"
            "  --set lora.target_modules=all-linear   or attention, or some of those names in brackets"
        )


def check_prompts(recipe: Recipe, splits: Mapping[Role, Split], tokenizer: PreTrainedTokenizerBase) -> None:
    """Try what is asked only once training is over: prompts of test rows and of the card, the spelling of labels.

    Raises:
        DataError: a prompt does not fit data.max_source_tokens, or the tokenizer cannot spell a label.
    """
    task, limit = recipe.task_definition, recipe.data.max_source_tokens
    if task.labels and recipe.evaluation.constrained:
        label_constraint(tokenizer, task.labels)
    for name, examples in (("test", splits["test"].examples), ("the card's examples", card_examples(task))):
        prompts = [example.prompt for example in examples]
        if task.swap is not None:
            prompts += [swapped(task, example).prompt for example in examples]
        try:
            encode_sources(tokenizer, prompts, limit)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
