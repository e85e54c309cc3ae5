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


def remove_lora(base: Base) -> None:
    """Make the base what it was before `add_lora`: the same linears, frozen. Without LoRA nothing happens."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    from flan_lora.base.load import disable_gradient_checkpointing

    layers = [name for name, module in base.model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name in layers:
        parent, _, last = name.rpartition(".")
        layer = base.model.get_submodule(name)
        setattr(base.model.get_submodule(parent), last, layer.get_base_layer())
    if hasattr(base.model, "peft_config"):  # else PEFT warns of a second adapter at the next `add_lora`
        del base.model.peft_config
    disable_gradient_checkpointing(base)
    base.model.requires_grad_(False).eval()
