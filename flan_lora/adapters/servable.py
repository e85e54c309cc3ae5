"""Which of PEFT's LoRA configs can be served beside an untouched base, per row; of the others, why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flan_lora.adapters.lora_config import CONFIG, changes_base
from flan_lora.adapters.validation import MAX_PROBLEM_LINES
from flan_lora.errors import AdapterError
from flan_lora.system.schema import indented
from flan_lora.system.text import shown

_HARMLESS = frozenset(
    "alpha_pattern auto_mapping base_model_name_or_path bias corda_config ensure_weight_tying eva_config"
    " exclude_modules fan_in_fan_out inference_mode init_lora_weights layers_pattern layers_to_transform"
    " loftq_config lora_alpha lora_dropout lora_ga_config megatron_config megatron_core peft_type peft_version"
    " qalora_group_size r rank_pattern revision runtime_config target_modules task_type use_dora"
    " use_rslora".split()
)
"""Fields that change nothing (PEFT itself ignores fan_in_fan_out for a linear), or that are read here. Any other
must be empty: a field of a future PEFT that we do not know could change what the weights mean."""
_REASONS: Mapping[str, str] = {
    "modules_to_save": "whole modules of the base were trained along, and the base is shared by all adapters",
    "trainable_token_indices": "rows of the embedding were trained along, and it is shared by all adapters",
    "alora_invocation_tokens": "aLoRA changes the base only behind its invocation tokens, a slot all of it",
    "lora_bias": "T5's linears have no bias to add to",
    "layer_replication": "it repeats layers of the base, which all adapters share",
    "target_parameters": "it changes parameters that are no linears",
    "use_qalora": "QA-LoRA pools the input of A",
    "arrow_config": "it mixes other adapters per token",
}


def check_servable(name: str, config: Mapping[str, Any]) -> None:
    """Raise AdapterError, with the reasons, for what is not LoRA, rsLoRA or DoRA beside an untouched base."""
    reasons = []
    is_lora = config.get("peft_type") == "LORA"
    if not is_lora:
        reasons.append(f"peft_type is {shown(config.get('peft_type'))}, expected 'LORA'")
    if changes_base(config.get("init_lora_weights")):
        init = shown(config["init_lora_weights"])
        reasons.append(f"init_lora_weights {init} changes the base itself, under every other adapter")
    if config.get("bias", "none") != "none":
        reasons.append(f"bias is {shown(config['bias'])}: biases of the base are not part of a slot")
    reasons += [
        f"{shown(key)[1:-1]} is {shown(value)}: {_REASONS.get(key, 'not supported')}"
        for key, value in sorted(config.items())
        if key not in _HARMLESS and value
    ]
    missing = [key for key in ("r", "lora_alpha", "target_modules") if not config.get(key)]
    if is_lora and "target_parameters" not in {key for key, value in config.items() if value}:
        reasons += [f"{key} is missing" for key in missing]
    if reasons:
        raise AdapterError(
            f"adapter {name!r} cannot be served ({CONFIG}):\n{indented(reasons, MAX_PROBLEM_LINES)}\n"
            "Serve LoRA, rsLoRA or DoRA adapters; merge or convert this one with PEFT first."
        )


def describe_key(key: str) -> str:
    """What a tensor is that is no A or B of a linear, by its key in the file."""
    if "lora_embedding_" in key:
        return "updates an embedding, which all adapters share: it cannot be served"
    if ".lora_" not in key and key.startswith("base_model.model."):
        return "is a whole module (modules_to_save, or an embedding that was resized): it cannot be served"
    return "is not a LoRA weight, expected base_model.model.<module>.lora_A.weight or lora_B.weight"
