"""The base as it is served: the same weights as `open_base` gives, to the bit, read without transformers.

Only for what is plain: `mini`, a folder or a pinned commit in the Hub's cache, with one safetensors file and T5's
own tokenizer.json, on a CPU. All else is opened in full, and whatever is wrong with it is said there.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flan_lora.base.fingerprint import fingerprint
from flan_lora.base.load import MINI, Base, is_path, open_base
from flan_lora.mini import MINI_PATH
from flan_lora.system.devices import choose_device, rest_dtype
from flan_lora.system.malloc import return_freed_memory

if TYPE_CHECKING:
    from flan_lora.base.fast_tokenizer import FastTokenizer
    from flan_lora.base.frozen_t5 import FrozenT5, T5Architecture
    from flan_lora.recipe import BaseSection

_COPIES = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}
"""Of the embedding, which some checkpoints hold three times."""
_COMMIT = re.compile("[0-9a-f]{40}")


def open_serving_base(spec: BaseSection, *, device: str | None = None) -> Base:
    """`open_base` for who only serves: several seconds sooner, since transformers' model is not imported.

    `Base.model` is then a `FrozenT5`, which has no forward pass and cannot be trained.

    Raises:
        BaseModelError: as `open_base`.
    """
    target, reason = choose_device(spec.quantization, device)
    folder = _folder(spec) if target.type == "cpu" and spec.quantization != "nf4" else None
    architecture = None if folder is None else _read_architecture(folder)
    if folder is None or architecture is None:
        return open_base(spec, device=device)
    tokenizer = _read_tokenizer(folder, architecture)
    model = None if tokenizer is None else _read_model(spec, folder, architecture)
    if model is None:
        return open_base(spec, device=device)
    return_freed_memory()
    dtype = rest_dtype(spec.quantization, target)
    return Base(model, tokenizer, spec, target, reason, dtype, fingerprint(model))


def _folder(spec: BaseSection) -> Path | None:
    """Where the checkpoint lies on this machine, if that is known without asking the Hub."""
    if spec.model == MINI:
        return MINI_PATH
    if is_path(spec.model):
        return Path(spec.model).expanduser()
    if spec.revision is None or not _COMMIT.fullmatch(spec.revision):
        return None  # a branch may have moved
    from huggingface_hub import try_to_load_from_cache  # a tenth of a second, and only Hub bases need it

    try:
        config = try_to_load_from_cache(spec.model, "config.json", revision=spec.revision)
    except ValueError:  # no id: `open_base` says so
        return None
    return Path(config).parent if isinstance(config, str) else None


def _read_architecture(folder: Path) -> T5Architecture | None:
    """None for what is not a T5 with a head of its own, or leaves out what the serving T5 needs to know."""
    from dataclasses import fields

    from flan_lora.base.frozen_t5 import ACTIVATIONS, T5Architecture

    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        is_plain = (
            values["model_type"] == "t5"
            and "quantization_config" not in values
            and values["feed_forward_proj"] in ACTIVATIONS
            and values["tie_word_embeddings"] is False
            and not values.get("scale_decoder_outputs", False)
        )
        if not is_plain:
            return None
        if values.get("decoder_start_token_id") is None:
            values["decoder_start_token_id"] = values["pad_token_id"]
        found = {field.name: values[field.name] for field in fields(T5Architecture) if field.name in values}
        architecture = T5Architecture(**found)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    numbers = [value for key, value in found.items() if key not in ("feed_forward_proj", "layer_norm_epsilon")]
    are_numbers = all(isinstance(value, int) for value in numbers)
    return architecture if are_numbers and isinstance(architecture.layer_norm_epsilon, float) else None


def _read_tokenizer(folder: Path, architecture: T5Architecture) -> FastTokenizer | None:
    from flan_lora.base.fast_tokenizer import read_fast_tokenizer

    tokenizer = read_fast_tokenizer(folder)
    if tokenizer is None or len(tokenizer) > architecture.vocab_size:
        return None
    # a vocabulary without words is a damaged file, as in `open_base`
    has_words = tokenizer.unk_token_id not in tokenizer(["the"])["input_ids"][0]
    return tokenizer if has_words else None


def _read_model(spec: BaseSection, folder: Path, architecture: T5Architecture) -> FrozenT5 | None:
    """The weights of one file if it holds exactly what the architecture asks for."""
    import torch
    from safetensors import SafetensorError, safe_open

    from flan_lora.base.frozen_t5 import FrozenT5

    path, shapes = folder / "model.safetensors", architecture.shapes()
    # int8 starts from bf16, as `base.load` does, and its rest goes on to the dtype of serving from there
    loaded = torch.float32 if spec.quantization == "fp32" else torch.bfloat16
    rest = rest_dtype(spec.quantization, torch.device("cpu"))
    if not os.path.isfile(path):
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if not _holds(file, shapes):
                return None

            def as_loaded(name: str) -> torch.Tensor:
                floats: torch.Tensor = file.get_tensor(name).to(loaded, copy=True)  # not the mapped file's pages
                return floats

            def weights(name: str) -> torch.Tensor:
                return as_loaded(name).to(rest)

            return FrozenT5(architecture, weights, as_loaded if spec.quantization == "int8" else None)
    except (SafetensorError, OSError):
        return None


def _holds(file: Any, shapes: dict[str, tuple[int, ...]]) -> bool:
    names = set(file.keys()) - _COPIES
    return names == set(shapes) and all(
        tuple(file.get_slice(name).get_shape()) == shape for name, shape in shapes.items()
    )
