"""An adapter folded into its base: one plain T5 checkpoint that knows nothing of adapters.

The base is never written. An adapter that was trained on 8-bit weights is folded into those weights, dequantised,
and not into the checkpoint's own, which it never saw; nothing is folded into int8, where most updates would round
away. What the fold changes is measured, against the adapter as it is served.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flan_lora.adapters.peft_loader import load_adapter
from flan_lora.adapters.validation import StoredAdapter
from flan_lora.base.encode import encode_sources, encode_targets
from flan_lora.base.load import Base, open_base
from flan_lora.base.quantised import dequantised, is_quantised
from flan_lora.errors import AdapterError
from flan_lora.evaluation.predict import predict
from flan_lora.recipe import Recipe
from flan_lora.system.files import check_writable, disk_errors
from flan_lora.tasks.task import Example, Task, probe_examples

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase, T5ForConditionalGeneration

Dtype = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Drift:
    """How far a merged model is from the adapter as it is served, on the task's card examples."""

    max_logit_delta: float
    """Largest absolute difference of a logit."""
    logit_scale: float
    """Largest absolute logit, to judge the delta by."""
    num_prompts: int
    num_equal_answers: int


@dataclass(frozen=True)
class Merged:
    """A plain T5 in memory, and what it should say."""

    model: T5ForConditionalGeneration
    tokenizer: PreTrainedTokenizerBase
    name: str
    task: Task
    recipe: Recipe
    drift: Drift
    answers: tuple[str, ...]
    """The merged model's own, to the task's card examples."""


def merge(stored: StoredAdapter, *, base: str | None = None, dtype: Dtype = "fp32") -> Merged:
    """Fold an adapter into the weights it was trained against, and measure the difference.

    Args:
        base: another name or place of the adapter's base; the fingerprint still decides.
        dtype: of the merged weights; bf16 halves the file and rounds.

    Raises:
        BaseModelError: the base cannot be loaded.
        AdapterMismatchError: the adapter belongs to another base.
    """
    import torch

    recipe = stored.recipe
    served = stored.open_base(base, device="cpu")
    target = open_base(recipe.base.at(base).model_copy(update={"quantization": "fp32"}), device="cpu")
    _copy_dequantised(served.model, target.model)
    with torch.no_grad():
        peft_model = load_adapter(target.model, stored, fingerprint=served.fingerprint)
        model = peft_model.merge_and_unload(safe_merge=True)
    if dtype == "bf16":
        model = model.bfloat16()
    model.config.tie_word_embeddings = model.lm_head.weight is model.shared.weight
    task = recipe.task_definition
    with_adapter = load_adapter(served.model, stored, fingerprint=served.fingerprint)
    examples = probe_examples(task)
    answers = answer_with(model, served, task, recipe, examples)
    drift = _drift(with_adapter, model, served, task, recipe, answers)
    return Merged(model, served.tokenizer, stored.name, task, recipe, drift, tuple(answers))


def save_merged(merged: Merged, folder: Path) -> Path:
    """Write config.json, model.safetensors and the tokenizer; whole, or nothing.

    Raises:
        AdapterError: ``folder`` exists and is not empty.
        DiskError: the disk refuses.
    """

    def write(place: Path) -> None:
        merged.model.save_pretrained(place)
        merged.tokenizer.save_pretrained(place)
        _say_untied(place / "config.json", merged.model)

    return write_whole(folder, write)


def write_whole(folder: Path, write: Callable[[Path], None]) -> Path:
    """Let ``write`` fill a new folder beside ``folder``, then rename it: a crash leaves no half of a model.

    Raises:
        AdapterError: ``folder`` exists and is not empty.
        DiskError: the disk refuses.
    """
    check_new_folder(folder)
    temporary = _temporary(folder)
    try:
        with disk_errors(str(folder)):
            temporary.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            if folder.exists():
                folder.rmdir()
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def check_new_folder(folder: Path) -> None:
    """Refuse a folder that a model cannot be written to as a whole, before the work for it is done.

    Raises:
        AdapterError: it exists and is not empty.
        DiskError: its name cannot be one, or we may not write there.
    """
    check_writable(folder)
    if folder.exists() and any(folder.iterdir()):
        raise AdapterError(f"{folder} exists and is not empty.\nGive a new folder (--out), or remove this one.")


def _temporary(folder: Path) -> Path:
    return folder.with_name(f".{folder.name[:200]}.{os.getpid()}.tmp")


def answer_with(model: Any, base: Base, task: Task, recipe: Recipe, examples: Sequence[Example]) -> list[str]:
    """What a model says, decoded as the adapter's evaluation does."""
    limit = recipe.data.max_source_tokens
    return predict(model, base.tokenizer, task, examples, evaluation=recipe.evaluation, max_source_tokens=limit)


def _copy_dequantised(served: T5ForConditionalGeneration, target: T5ForConditionalGeneration) -> None:
    """Write what quantised weights stand for into an fp32 model of the same checkpoint."""
    import torch

    linears = dict(target.named_modules())
    with torch.no_grad():
        for name, module in served.named_modules():
            if is_quantised(module):
                linears[name].weight.copy_(dequantised(module))


def _drift(
    served: Any, merged: T5ForConditionalGeneration, base: Base, task: Task, recipe: Recipe, answers: Sequence[str]
) -> Drift:
    """Both models read the examples and the merged model's answers, token by token."""
    examples = probe_examples(task)
    deltas, scales = [], []
    for example, answer in zip(examples, answers, strict=True):
        [source] = encode_sources(base.tokenizer, [example.prompt], recipe.data.max_source_tokens)
        [target] = encode_targets(base.tokenizer, [answer or "yes"], task.max_new_tokens)
        theirs, ours = (_logits(model, source.input_ids, target.input_ids) for model in (served, merged))
        deltas.append(float((theirs - ours).abs().max()))
        scales.append(float(theirs.abs().max()))
    equal = sum(a == b for a, b in zip(answers, answer_with(served, base, task, recipe, examples), strict=True))
    return Drift(max(deltas), max(scales), len(examples), equal)


def _logits(model: Any, source: Sequence[int], target: Sequence[int]) -> torch.Tensor:
    """(T, V) fp32, the decoder reading the target."""
    import torch

    with torch.inference_mode():
        output = model(input_ids=torch.tensor([list(source)]), labels=torch.tensor([list(target)]))
    logits: torch.Tensor = output.logits[0].float()
    return logits


def _say_untied(path: Path, model: T5ForConditionalGeneration) -> None:
    """T5's head is its own in v1.1: a config that says otherwise makes transformers 4 throw the head away."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tie_word_embeddings"] = bool(model.config.tie_word_embeddings)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
