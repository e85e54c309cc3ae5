"""The kinds of the T5 family: T5 (v1.0, v1.1, FLAN, ByT5), mT5, umT5. What differs between them stands here.

One set of module names serves all; they differ in the feed-forward (`wi`, or `wi_0` gated by `wi_1`), in the head
(its own, or the embedding, whose input T5 and umT5 then scale), and in how often they look up position biases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flan_lora.tasks import TASKS
from flan_lora.tasks.romanise import LETTERS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, T5Config, T5ForConditionalGeneration

    from flan_lora.recipe import Recipe

_CLASS_NAMES = {"t5": "T5", "mt5": "MT5", "umt5": "UMT5"}
MODEL_TYPES = tuple(_CLASS_NAMES)
"""`model_type` of config.json. LongT5 and SwitchTransformers compute differently under the same names."""
ATTENTION = ("q", "k", "v", "o")
_MAX_LACKED_SHARE = 0.05
"""Of Devanagari's letters, in a vocabulary that has the script; one learned from texts may lack a rare one."""


def config_class(model_type: str) -> type[T5Config]:
    """Of one of `MODEL_TYPES`; all have T5's fields."""
    import transformers

    found: type[T5Config] = getattr(transformers, f"{_CLASS_NAMES[model_type]}Config")
    return found


def model_class(config: T5Config) -> type[T5ForConditionalGeneration]:
    """Encoder, decoder and head of this config; all have T5's attributes."""
    import transformers

    name = f"{_CLASS_NAMES[config.model_type]}ForConditionalGeneration"
    found: type[T5ForConditionalGeneration] = getattr(transformers, name)
    return found


def has_tied_head(config: T5Config) -> bool:
    """Whether the head is the embedding; for configs that `base.load` read.

    T5's class says so in another field than the rest: it sets ``tie_word_embeddings`` whatever the file says.
    """
    if config.model_type == "t5":
        return bool(config.scale_decoder_outputs)
    return bool(config.tie_word_embeddings)


def output_scale(config: T5Config) -> float | None:
    """What the decoder's states are multiplied by before the head; None: nothing.

    transformers 5 scales for T5's and umT5's tied heads, and not for mT5's.
    """
    is_scaled = has_tied_head(config) and config.model_type != "mt5"
    return float(config.d_model**-0.5) if is_scaled else None


def has_bias_per_layer(config: T5Config) -> bool:
    """Whether every layer has position biases of its own (umT5, arXiv:2304.09151)."""
    return bool(config.model_type == "umt5")


def linear_names(config: T5Config) -> tuple[str, ...]:
    """Short names of the linears of this architecture's layers."""
    return (*ATTENTION, *(("wi_0", "wi_1") if config.is_gated_act else ("wi",)), "wo")


def has_devanagari(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a vocabulary can hold Hindi: nearly every letter and sign is spelt without ``<unk>``."""
    unk = tokenizer.unk_token_id
    rows = tokenizer(list(LETTERS), return_attention_mask=False, verbose=False)
    num_lacked = sum(unk in ids for ids in rows["input_ids"])
    return num_lacked <= _MAX_LACKED_SHARE * len(LETTERS)


def for_base(recipe: Recipe, config: T5Config, tokenizer: PreTrainedTokenizerBase) -> Recipe:
    """The recipe with what depends on the base spelled out: the linears by name, and the script of its prompts."""
    lora = recipe.lora.model_copy(update={"target_modules": recipe.lora.modules(linear_names(config))})
    data = recipe.data
    if data.romanise is None and TASKS[recipe.task].native is not None:
        data = data.model_copy(update={"romanise": not has_devanagari(tokenizer)})
    return recipe.model_copy(update={"lora": lora, "data": data})
