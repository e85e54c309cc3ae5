"""Put a published adapter onto its base as a PeftModel, checked: for evaluation, merging and calibration.

Serving does not come through here: it copies the same files into slots (`engine.adapter_cache`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flan_lora.adapters.validation import MAX_PROBLEM_LINES, StoredAdapter, check_fits
from flan_lora.adapters.weights import read_published
from flan_lora.errors import AdapterError, AdapterMismatchError
from flan_lora.system.schema import indented

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import T5ForConditionalGeneration


def load_adapter(
    base_model: T5ForConditionalGeneration, stored: StoredAdapter, *, fingerprint: str | None = None
) -> PeftModel:
    """Put an adapter onto its base for inference and return the PeftModel: frozen, in evaluation mode.

    Gives the logits of plain ``PeftModel.from_pretrained(base_model, stored.path)`` and checks what that does not:
    the base is the one it was trained on, the files are the published ones, every weight has a layer. LoRA layers,
    fp32, go into ``base_model`` itself, on its devices; ``peft_model.unload()`` takes them out again.

    Args:
        fingerprint: of ``base_model`` if known (`Base.fingerprint`), else it is computed (tens of ms).

    Raises:
        AdapterMismatchError: another base, another prompt version, or weights that do not fit this base;
            ``base_model`` is as before.
        AdapterCorruptError: the files changed since the adapter was opened.
        AdapterError: ``base_model`` already carries an adapter.
    """
    from peft import LoraConfig, PeftModelForSeq2SeqLM, set_peft_model_state_dict
    from peft.tuners.tuners_utils import BaseTunerLayer

    from flan_lora.base.fingerprint import fingerprint as fingerprint_of

    if any(isinstance(module, BaseTunerLayer) for module in base_model.modules()):
        raise AdapterError(
            f"cannot load adapter {stored.name!r}: this base already carries one. "
            "Call unload() on its PeftModel first."
        )
    check_fits(stored.manifest, fingerprint or fingerprint_of(base_model))
    files = read_published(stored)
    # Layers start on the meta device: no time and no random numbers are spent on weights that are replaced next.
    peft_model = PeftModelForSeq2SeqLM(
        base_model, LoraConfig.from_peft_type(**files.config), low_cpu_mem_usage=True
    )
    try:
        _check_shapes(stored.name, peft_model, files.tensors)
        set_peft_model_state_dict(peft_model, dict(files.tensors), low_cpu_mem_usage=True)
    except BaseException:
        peft_model.unload()
        raise
    return peft_model.requires_grad_(False).eval()


def _check_shapes(name: str, peft_model: PeftModel, tensors: Mapping[str, Tensor]) -> None:
    """Every key and shape of the file against the layers; PEFT only warns, and then answers as the bare base."""
    from peft import get_peft_model_state_dict

    # embeddings "auto" would ask the Hub for the base's config, over the network
    layers = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
    expected = {key: tuple(tensor.shape) for key, tensor in layers.items()}
    got = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    problems = [
        f"{key}: the file has {got.get(key, 'nothing')}, the base takes {expected.get(key, 'nothing')}"
        for key in sorted(got.keys() | expected.keys())
        if got.get(key) != expected.get(key)
    ]
    if problems:
        raise AdapterMismatchError(
            f"the weights of adapter {name!r} do not fit this base ({len(problems)} differ):\n"
            f"{indented(problems, MAX_PROBLEM_LINES)}\nServe the base it was trained on, or publish it again."
        )
