"""adapter_config.json of PEFT: what its fields may be, what they mean for a linear, and what is published of it.

Somebody else may have written it, so types and sizes are checked before a value is used. Checks return lines.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flan_lora.adapters.manifest import Manifest
from flan_lora.adapters.module_pattern import module_pattern
from flan_lora.errors import AdapterError
from flan_lora.system.documents import DocumentError, parse_json
from flan_lora.system.text import shown

CONFIG = "adapter_config.json"
PLAIN_INITS = (True, False, None, "gaussian", "orthogonal", "eva", "mica")
"""Values of init_lora_weights that set A and B alone; PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA change the base."""
MAX_RANK = 4_096
MAX_ALPHA = 1e6
"""Trained adapters have 1 to 1,024; far above it products overflow and every answer is NaN."""
MAX_PATTERNS = 2_000
"""Of target_modules, rank_pattern and alpha_pattern; flan-t5-xxl has 432 linears."""
_MAX_TEXT = 5_000
_WORD = re.compile(r"\w{0,200}")
_LAYER = r".*?\.[^.]*\.(\d+)\."
"""As PEFT finds a layer's number where layers_pattern names nothing: the first one in the path."""


def read_config(content: bytes) -> tuple[dict[str, Any], list[str]]:
    """The fields, and what is wrong with those that are used here; no fields where the file is not an object."""
    try:
        config = parse_json(content)
    except DocumentError as error:
        return {}, [f"{CONFIG}: not readable as JSON: {problem}" for problem in error.problems]
    if not isinstance(config, dict):
        return {}, [f"{CONFIG}: expected an object, got {type(config).__name__}"]
    return config, [f"{CONFIG}: {line}" for line in _type_problems(config)]


def _type_problems(config: Mapping[str, Any]) -> list[str]:
    """Fields of other types than PEFT writes, or beyond what arithmetic bears."""
    lines = [
        f"{key} is {shown(config[key])}, expected {what}"
        for key, (is_right, what) in _FIELDS.items()
        if config.get(key) is not None and not is_right(config[key])
    ]
    return lines or _pattern_problems(config)


def _pattern_problems(config: Mapping[str, Any]) -> list[str]:
    """Regular expressions that are none, or that cannot be matched in bounded time."""
    expressions = [
        (field, config[field])
        for field in ("target_modules", "exclude_modules")
        if isinstance(config.get(field), str) and config[field]
    ]
    patterns = [*(config.get("rank_pattern") or ()), *(config.get("alpha_pattern") or ())]
    lines = []
    for field, expression in (
        *expressions,
        *(("rank_pattern or alpha_pattern", _at_end(pattern)) for pattern in patterns),
    ):
        try:
            module_pattern(expression)
        except AdapterError as error:
            lines.append(f"{field}: {error}")
    return lines


def _is_number(value: Any, limit: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < abs(value) <= limit


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_RANK


def _is_alpha(value: Any) -> bool:
    return _is_number(value, MAX_ALPHA)


def _are_names(value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= _MAX_TEXT
    is_list = isinstance(value, list) and 0 < len(value) <= MAX_PATTERNS
    return is_list and all(isinstance(name, str) and 0 < len(name) <= _MAX_TEXT for name in value)


def _may_be_names(value: Any) -> bool:
    return value in ("", []) or _are_names(value)


def _are_layers(value: Any) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return len(numbers) <= MAX_PATTERNS and all(
        isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers
    )


def _are_words(value: Any) -> bool:
    """PEFT takes expressions here too, but a layer's number is looked up behind a name."""
    names = [value] if isinstance(value, str) else value
    return isinstance(names, list) and all(isinstance(name, str) and _WORD.fullmatch(name) for name in names)


def _patterns_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        is_mapping = isinstance(value, dict) and len(value) <= MAX_PATTERNS
        return is_mapping and all(is_right(item) for item in value.values())

    return check


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "r": (_is_rank, f"a whole number from 1 to {MAX_RANK:,}"),
    "lora_alpha": (_is_alpha, f"a number up to {MAX_ALPHA:g}, not 0"),
    "target_modules": (_are_names, f"a text, or up to {MAX_PATTERNS:,} of them"),
    "exclude_modules": (_may_be_names, f"a text, or up to {MAX_PATTERNS:,} of them"),
    "layers_to_transform": (_are_layers, "a layer's number, or a list of them"),
    "layers_pattern": (_are_words, "a name of letters, digits and '_', or a list of them"),
    "rank_pattern": (_patterns_of(_is_rank), f"a rank for each of up to {MAX_PATTERNS:,} patterns"),
    "alpha_pattern": (_patterns_of(_is_alpha), f"a number up to {MAX_ALPHA:g} for each pattern"),
    "use_rslora": (_is_flag, "true or false"),
    "use_dora": (_is_flag, "true or false"),
}


# Against the manifest


def canonical_config(config: Mapping[str, Any], manifest: Manifest) -> bytes:
    """adapter_config.json as it is published: equal adapters give equal bytes, and no local path leaks.

    PEFT writes target_modules in the order of a set, and the base as the folder that it was loaded from.
    """
    fixed = {
        "target_modules": sorted(config["target_modules"]),
        "base_model_name_or_path": manifest.base.model,
        "revision": manifest.base.revision,
        "inference_mode": True,
    }
    return (json.dumps({**config, **fixed}, sort_keys=True, indent=2) + "\n").encode()


def config_problems(content: bytes, manifest: Manifest) -> list[str]:
    """Where adapter_config.json departs from the recipe, or asks for what is not a plain LoRA update.

    The manifest's recipe must have been checked (`validation.recipe_problems`).
    """
    config, problems = read_config(content)
    if problems:
        return problems
    problems = [
        f"{CONFIG}: {key} is {shown(config.get(key))}, expected {value!r}"
        for key, value in _expected_config(manifest).items()
        if (config.get(key) or None) != (value or None)
    ]
    modules, named = config.get("target_modules"), manifest.recipe["lora"]["target_modules"]
    if not isinstance(modules, list) or sorted(modules) != sorted(named):
        problems.append(f"{CONFIG}: target_modules is {shown(modules)}, expected {named!r}")
    if changes_base(config.get("init_lora_weights")):
        init = shown(config["init_lora_weights"])  # PiSSA, OLoRA and their like change the base under all others
        problems.append(f"{CONFIG}: init_lora_weights {init} changes the weights of the base, expected True")
    return problems


def published_config_problems(content: bytes, manifest: Manifest) -> list[str]:
    """`config_problems`, and the base's name, which publishing writes into the file."""
    problems = config_problems(content, manifest)
    if not problems and (base := json.loads(content).get("base_model_name_or_path")) != manifest.base.model:
        problems = [f"{CONFIG}: base_model_name_or_path is {shown(base)}, expected {manifest.base.model!r}"]
    return problems


def _expected_config(manifest: Manifest) -> dict[str, Any]:
    """Fields with one right value. Ranks per module, or whole modules beside A and B, would not stack."""
    lora = manifest.recipe["lora"]
    absent = ("rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication", "lora_bias")
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_2_SEQ_LM",
        "r": lora["rank"],
        "lora_alpha": lora["alpha"],
        "use_dora": lora["use_dora"],
        "use_rslora": lora["use_rslora"],
        "bias": "none",
        **dict.fromkeys(absent),
    }


# What it means for a linear


def is_target(module: str, config: Mapping[str, Any]) -> bool:
    """Whether PEFT adapts a linear: its path ends in one of target_modules, or matches the regex as a whole.

    Source: `peft.tuners.tuners_utils.check_target_module_exists`; a path that is named whole is adapted whatever
    layers are chosen.
    """
    if (excluded := config.get("exclude_modules")) and _is_named(module, excluded):
        return False
    targets = config["target_modules"]
    if isinstance(targets, str):
        return targets.lower() == "all-linear" or module_pattern(targets).fullmatch(module)
    return module in targets or (_is_named(module, targets) and _is_in_chosen_layer(module, config))


def _is_named(module: str, names: str | Sequence[str]) -> bool:
    if isinstance(names, str):
        return module_pattern(names).fullmatch(module)
    return any(module == name or module.endswith(f".{name}") for name in names)


def _is_in_chosen_layer(module: str, config: Mapping[str, Any]) -> bool:
    chosen = config.get("layers_to_transform")
    if chosen is None or chosen == []:
        return True
    names = config.get("layers_pattern") or ()
    patterns = [rf"(?:^|.*?\.){name}\.(\d+)\." for name in ([names] if isinstance(names, str) else names)]
    match = next((found for each in patterns or (_LAYER,) if (found := re.match(each, module))), None)
    return match is not None and int(match[1]) in (chosen if isinstance(chosen, list) else [chosen])


def changes_base(init_lora_weights: Any) -> bool:
    """Whether PEFT changes the base's weights when it makes an adapter of this init_lora_weights."""
    name = init_lora_weights.lower() if isinstance(init_lora_weights, str) else init_lora_weights
    return name not in PLAIN_INITS


def module_rank(module: str, config: Mapping[str, Any]) -> int:
    """Rank of a module's update: of the first pattern that fits it, else the adapter's."""
    return int(_of_pattern("rank_pattern", module, config, config["r"]))


def module_scaling(module: str, config: Mapping[str, Any]) -> float:
    """alpha / r (LoRA) or alpha / sqrt(r) (rsLoRA, arXiv:2312.03732), patterns applied."""
    rank = module_rank(module, config)
    alpha = float(_of_pattern("alpha_pattern", module, config, config["lora_alpha"]))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_pattern(field: str, module: str, config: Mapping[str, Any], default: float) -> float:
    """PEFT's rule: a pattern is a regex for the end of the module's path, and the first that fits wins."""
    for pattern, value in (config.get(field) or {}).items():
        if module == pattern or module_pattern(_at_end(pattern)).match(module):
            return float(value)
    return default


def _at_end(pattern: str) -> str:
    """As PEFT asks it (`peft.utils.other.get_pattern_key`)."""
    return rf"(.*\.)?({pattern})$"
