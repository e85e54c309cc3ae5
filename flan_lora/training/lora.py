"""The recipe's low-rank update in PEFT's terms: one place, so that what is estimated is what is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

    from flan_lora.base.load import Base
    from flan_lora.recipe import Recipe


def peft_config(recipe: Recipe, linears: Sequence[str]) -> LoraConfig:
    """PEFT's config of the recipe's ``lora`` section, for a sequence-to-sequence base.

    Args:
        linears: short names of those that the base has (`base.architecture.linear_names`).
    """
    from peft import LoraConfig, TaskType

    lora = recipe.lora
    return LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.modules(linears)),
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        revision=recipe.base.revision,
    )


def add_lora(recipe: Recipe, base: Base) -> PeftModel:
    """Put trainable LoRA layers (fp32) beside the frozen linears of the base; B starts at zero."""
    from peft import get_peft_model

    from flan_lora.base.architecture import linear_names
    from flan_lora.base.load import enable_gradient_checkpointing

    if recipe.training.gradient_checkpointing:
        enable_gradient_checkpointing(base)
    return get_peft_model(base.model, peft_config(recipe, linear_names(base.model.config)))
