"""The frozen base: which checkpoint, loaded how, and everything about it that never changes.

torch and transformers are imported inside the functions, so the CLI may import this module at start.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flan_lora.base.architecture import MODEL_TYPES, config_class, has_tied_head, model_class
from flan_lora.base.checkpoint_rows import rows_of
from flan_lora.base.fingerprint import fingerprint
from flan_lora.base.quantised import bitsandbytes_config, keep_codes, nf4_state, quiet_bitsandbytes
from flan_lora.errors import BaseModelError
from flan_lora.mini import MINI_PATH
from flan_lora.system.devices import choose_device, rest_dtype
from flan_lora.system.hub import hub_is_reachable
from flan_lora.system.malloc import return_freed_memory
from flan_lora.system.text import shorten

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase, T5Config, T5ForConditionalGeneration

    from flan_lora.recipe import BaseSection

MINI = "mini"
"""The name that stands for the embedded base in recipes, on the command line and in manifests."""


@dataclass(frozen=True)
class Base:
    """A loaded base: evaluation mode, every parameter frozen. Never written, never merged into."""

    model: T5ForConditionalGeneration
    """transformers' T5; opened for serving (`base.serving`) a `FrozenT5`, its modules without a forward pass."""
    tokenizer: PreTrainedTokenizerBase
    """transformers' T5Tokenizer; opened for serving a `FastTokenizer`."""
    spec: BaseSection
    device: torch.device
    device_reason: str
    """One line for the user: why this device, and what its precision costs."""
    dtype: torch.dtype
    """Of everything that is not quantised, so of the hidden states outside autocast."""
    fingerprint: str

    @property
    def slug(self) -> str:
        """Folder of this base's adapters under adapters/."""
        return base_slug(self.spec)


@dataclass(frozen=True)
class Location:
    """What ``from_pretrained`` needs to find a checkpoint. Built by `locate`."""

    name_or_path: str
    revision: str | None
    offline: bool

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments shared by every ``from_pretrained`` and config reader."""
        return {"revision": self.revision or "main", "local_files_only": self.offline}


def open_base(spec: BaseSection, *, device: str | None = None) -> Base:
    """Load a base frozen, in evaluation mode, on ``device`` (None: the GPU when there is one).

    int8 keeps only the attention projections and wi_* in 8 bit (LLM.int8, arXiv:2208.07339), nf4 in 4 (QLoRA,
    arXiv:2305.14314); `shared`, `lm_head`, `wo` and the norms are bf16: 0.99 GB at flan-t5-large in int8, where
    casting them to fp32 would take 1.40 GB.

    Raises:
        BaseModelError: not found, unreachable, not a T5, incomplete, already quantised, or no such device.
    """
    quiet_bitsandbytes()
    location = locate(spec)
    config = _read_config(spec, location)
    target, reason = choose_device(spec.quantization, device)
    dtype = rest_dtype(spec.quantization, target)
    model = _load_weights(spec, location, config, target, dtype)
    return_freed_memory()  # or the temporaries of quantising lie beside those of the cast
    cast_unquantised(model, dtype)
    fuse_gelu(model)
    keep_codes(model)
    model.requires_grad_(False).eval()
    return_freed_memory()
    rows = rows_of(location.name_or_path, **location.arguments) if spec.quantization == "nf4" else None
    return Base(
        model=model,
        tokenizer=_read_tokenizer(spec, location, config),
        spec=spec,
        device=target,
        device_reason=reason,
        dtype=dtype,
        fingerprint=fingerprint(model, rows),
    )


def open_config(spec: BaseSection) -> T5Config:
    """The architecture alone, without weights. Raises BaseModelError like `open_base`."""
    return _read_config(spec, locate(spec))


def open_tokenizer(spec: BaseSection) -> PreTrainedTokenizerBase:
    """The base's own tokenizer. Raises BaseModelError like `open_base`."""
    location = locate(spec)
    return _read_tokenizer(spec, location, _read_config(spec, location))


def base_slug(spec: BaseSection) -> str:
    """Folder name under adapters/: `mini`, or the last part of the Hub id or folder in lower case."""
    last = Path(spec.model).expanduser().resolve().name if is_path(spec.model) else spec.model.rsplit("/", 1)[-1]
    return re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("._-") or "base"


# Finding a checkpoint


def locate(spec: BaseSection) -> Location:
    """`mini`, a local folder, or a Hub id; for a Hub id, also whether to stay within the local cache.

    Without this question transformers retries an unreachable Hub for 25 s per file before it reads its cache.
    """
    if spec.model == MINI:
        if not (MINI_PATH / "config.json").is_file():
            raise BaseModelError(
                f"the embedded base is not in this installation.\n  looked at  {MINI_PATH}\n"
                "Reinstall flan-lora, or make it again: python -m tools.mini --help in the repository"
            )
        return Location(str(MINI_PATH), None, offline=True)
    if is_path(spec.model):
        return Location(str(_checkpoint_folder(spec.model)), None, offline=True)
    return Location(spec.model, spec.revision, offline=not hub_is_reachable())


def is_path(model: str) -> bool:
    """A folder if it exists or cannot be a Hub id (``owner/name`` or ``name``)."""
    if model == MINI:
        return False
    cannot_be_id = model.startswith((".", "~", "/")) or model.count("/") > 1 or "\\" in model
    return cannot_be_id or os.path.isdir(Path(model).expanduser())  # not is_dir, which raises for long names


def _checkpoint_folder(model: str) -> Path:
    if not os.path.isdir(folder := Path(model).expanduser()):
        raise BaseModelError(
            f"no base at {shorten(model, 300)}: there is no such folder.\n"
            "Give a folder that holds config.json and model.safetensors, a Hub id, or --base mini."
        )
    folder = folder.resolve()
    if not (folder / "config.json").is_file():
        names = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise BaseModelError(
            f"{model} is not a checkpoint: it has no config.json (it holds {names}).\n"
            "Give a folder that save_pretrained wrote, a Hub id, or --base mini."
        )
    return folder


# Reading it


def _read_config(spec: BaseSection, location: Location) -> T5Config:
    from transformers import PretrainedConfig

    try:
        values, _ = PretrainedConfig.get_config_dict(location.name_or_path, **location.arguments)
    except (OSError, ValueError) as error:
        raise _not_found(spec, location, error) from error
    _check_config(spec, values)
    config: T5Config = config_class(values["model_type"]).from_dict(values)
    config.tie_word_embeddings = bool(values.get("tie_word_embeddings", True))  # transformers 5 forces True
    if getattr(config, "decoder_start_token_id", None) is None:  # T5's decoder starts with the padding token
        config.decoder_start_token_id = config.pad_token_id
    return config


def _check_config(spec: BaseSection, values: dict[str, Any]) -> None:
    """Refuse what the rest of the package would get wrong in silence."""
    model_type = values.get("model_type")
    if model_type not in MODEL_TYPES:
        raise BaseModelError(
            f"base {spec.model} is not a T5 (model_type is {model_type!r}, expected {' or '.join(MODEL_TYPES)}).\n"
            "LongT5 and Switch Transformers compute differently under the same parameter names. Use FLAN-T5 "
            "(google/flan-t5-small to -xxl), another T5, mT5, umT5 or ByT5 checkpoint, or --base mini."
        )
    if "quantization_config" in values:
        method = values["quantization_config"].get("quant_method", "unknown")
        raise BaseModelError(
            f"base {spec.model} is already quantised ({method}); adapters are trained on and merged into the "
            "original weights.\nGive the unquantised checkpoint and set base.quantization: int8 or nf4."
        )


def _read_tokenizer(spec: BaseSection, location: Location, config: T5Config) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        with _quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(location.name_or_path, **location.arguments)
    except (OSError, ValueError) as error:
        raise _bad_tokenizer(spec, _first_line(error)) from error
    # for want of files, transformers 5 makes an empty tokenizer
    if tokenizer.unk_token_id in tokenizer("the").input_ids:
        raise _bad_tokenizer(spec, "its files are missing, or hold no words")
    if len(tokenizer) > config.vocab_size:
        raise _bad_tokenizer(spec, f"it has {len(tokenizer)} pieces, the model only {config.vocab_size}")
    return tokenizer


def _bad_tokenizer(spec: BaseSection, reason: str) -> BaseModelError:
    return BaseModelError(
        f"base {spec.model} has no tokenizer that can be used: {reason}.\n"
        "Put the model's own (spiece.model or tokenizer.json, tokenizer_config.json) beside its config.json."
    )


def _load_weights(
    spec: BaseSection, location: Location, config: T5Config, device: torch.device, rest: torch.dtype
) -> T5ForConditionalGeneration:
    """safetensors -> model on ``device``; the head is checked against the config's word.

    Args:
        rest: the dtype of what is not quantised, in the end.
    """
    import torch
    from safetensors import SafetensorError

    # T5 overflows in fp16 (at wo), so a checkpoint's own dtype is never followed. Codes are made of bf16
    # too: int8's row maxima then equal those of a bf16 load, so the fingerprint is one for all.
    dtype = torch.float32 if spec.quantization == "fp32" else torch.bfloat16
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "device_map": {"": device}}
    options["ignore_mismatched_sizes"] = True  # reported below, for every quantization alike
    if (quantised := bitsandbytes_config(spec, rest)) is not None:
        options["quantization_config"] = quantised
    try:
        with _quiet_transformers():
            model, info = model_class(config).from_pretrained(
                location.name_or_path,
                config=_tied(config),  # untied, the two stacks would get random embeddings
                output_loading_info=True,
                **options,
                **location.arguments,
            )
    except (OSError, ValueError, SafetensorError) as error:
        raise _not_found(spec, location, error) from error
    _check_complete(spec, model, {*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])})
    _settle_head(spec, model, config)
    return model


def _tied(config: T5Config) -> T5Config:
    tied = copy.deepcopy(config)
    tied.tie_word_embeddings = True
    return tied


def _check_complete(spec: BaseSection, model: T5ForConditionalGeneration, problems: set[str]) -> None:
    """Refuse a model that was filled up with random weights, or whose codes have a shape of their own."""
    from torch import nn

    for name, module in model.named_modules():  # transformers 5.23 does not compare shapes when it quantises
        if not isinstance(module, nn.Linear):
            continue
        state = nf4_state(module)
        shape = module.weight.shape if state is None else state.shape
        if shape != (module.out_features, module.in_features):
            problems.add(f"{name}.weight")
    if problems:
        raise BaseModelError(
            f"base {spec.model} is incomplete: {len(problems)} of its tensors are missing or of another shape "
            f"than config.json says.\n  the first   {', '.join(sorted(problems)[:3])}\n"
            "Download it again, or use another base."
        )


def _settle_head(spec: BaseSection, model: T5ForConditionalGeneration, config: T5Config) -> None:
    """Check that an untied head stayed untied, and make the model's config say which it is from now on.

    transformers 5 forces ``config.tie_word_embeddings = True`` for the whole family; what a T5's file said
    survives as ``scale_decoder_outputs``. Loading needs the forced value; afterwards it is a trap:
    ``tie_weights()`` and ``resize_token_embeddings()`` would throw an own head away, and umT5 scale its input.
    """
    if config.model_type == "t5" and has_tied_head(config):  # the original T5: tied, outputs scaled
        return
    if model.lm_head.weight is not model.shared.weight:
        model.config.tie_word_embeddings = False
    elif not has_tied_head(config):
        raise BaseModelError(
            f"base {spec.model} says that its output head is its own (tie_word_embeddings: false), but its "
            "weights hold no lm_head.weight that differs from the embedding.\nIt was saved from a tied model and "
            "would answer nonsense: download it again, or use another base."
        )


def cast_unquantised(model: T5ForConditionalGeneration, dtype: torch.dtype) -> None:
    """bf16 -> fp32 for a GPU without bf16 (nothing to do elsewhere); int8 weights stay."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.dtype != dtype:
            parameter.data = parameter.data.to(dtype)


def fuse_gelu(model: T5ForConditionalGeneration) -> None:
    """Compute FLAN-T5's GELU (tanh form, arXiv:1606.08415) in torch's one kernel, as its feed-forwards' `act`.

    transformers' eight steps give the same function, 3e-7 apart in fp32, and round after each in bf16; in training
    each keeps a tensor of d_ff per token for the backward pass.
    """
    from transformers.activations import ACT2FN, NewGELUActivation

    for module in model.modules():
        if isinstance(getattr(module, "act", None), NewGELUActivation):
            module.act = ACT2FN["gelu_pytorch_tanh"]


def _not_found(spec: BaseSection, location: Location, error: Exception) -> BaseModelError:
    """The user's next step for whatever transformers said."""
    if "file named model.safetensors" in str(error):
        return BaseModelError(
            f"base {spec.model} has no model.safetensors; pickled weights (pytorch_model.bin) are never loaded.\n"
            "Use a revision that has safetensors, or convert it with save_pretrained where you trust it."
        )
    name = shorten(spec.model, 300)
    if is_path(spec.model) or spec.model == MINI:
        return BaseModelError(
            f"base {name} cannot be read: {_first_line(error)}\n"
            "Restore the folder (config.json, model.safetensors), or use another base."
        )
    at = f" @ {spec.revision}" if spec.revision else ""
    if location.offline:
        return BaseModelError(
            f"base {name}{at} is not in the local cache and the Hugging Face Hub cannot be reached.\n"
            "Use --base mini (embedded, no network), give a local folder as --base, or go online once."
        )
    return BaseModelError(
        f"base {name}{at} was not found on the Hugging Face Hub: {_first_line(error)}\n"
        "Check the id and the revision (a private one needs `hf auth login`), or use --base mini."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No weight-loading bar, and no advice to tie FLAN-T5's head."""
    from transformers.utils import logging as transformers_logging

    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def enable_gradient_checkpointing(base: Base) -> None:
    """Recompute each block's activations in the backward pass; works before or after PEFT wraps the model.

    Non-reentrant: gradients then equal those without checkpointing bit by bit (int8 and bf16 on the CPU), though
    the embeddings are frozen. It saves less in int8 than in bf16: bitsandbytes keeps the input of every int8
    linear where checkpointing cannot see it.
    """
    _checkpointing(base, "enable")({"use_reentrant": False})


def disable_gradient_checkpointing(base: Base) -> None:
    """Keep the activations again."""
    _checkpointing(base, "disable")()


def _checkpointing(base: Base, verb: str) -> Callable[..., None]:
    name = f"activation_checkpointing_{verb}"  # transformers < 5.20 has only the name it deprecates
    method: Callable[..., None] = getattr(
        base.model, name if hasattr(base.model, name) else f"gradient_checkpointing_{verb}"
    )
    return method
