"""What is measured: a base of a given shape, adapters for it, prompts. Random weights where no checkpoint is.

Speed and memory do not depend on what the weights say; answers do, so every comparison checks that two systems
with the same weights write the same tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flan_lora.base.load import Base, open_base
from flan_lora.recipe import BaseSection

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from flan_lora.adapters.weights import Linears

SHAPES = {
    "mini": None,
    "base": {"d_model": 768, "d_kv": 64, "d_ff": 2048, "num_heads": 12, "num_layers": 12},
    "large": {"d_model": 1024, "d_kv": 64, "d_ff": 2816, "num_heads": 16, "num_layers": 24},
}
"""flan-t5's shapes by name (vocabulary 32,128); mini is the checkpoint that ships."""
RANK, ALPHA = 16, 32
TARGETS = {"qv": ("q", "v"), "all": ("q", "k", "v", "o", "wi_0", "wi_1", "wo")}
"""Linears of the adapters: q and v take 18.9 MB an adapter at large; all, as the recipes have it, 73.1 MB."""
NUM_FILES = 16
"""Distinct adapters on disk; more names than that point to the same files."""


@dataclass(frozen=True)
class Stage:
    """Folders that every system reads."""

    base_path: Path
    adapter_paths: tuple[Path, ...]
    device: str = "cpu"
    """Of torch models; as torch spells it."""

    def adapter(self, number: int) -> Path:
        """The folder of the adapter of that number; they repeat after `NUM_FILES`."""
        return self.adapter_paths[number % len(self.adapter_paths)]


def set_up(shape: str, folder: Path, *, targets: str = "qv", device: str = "cpu") -> Stage:
    """Write the base (where it is random) and the adapters."""
    base_path = _write_base(shape, folder)
    chosen = {name: size for name, size in _linears(base_path).items() if name.endswith(TARGETS[targets])}
    adapters = tuple(_write_adapter(folder / f"adapter-{n}", n, chosen) for n in range(NUM_FILES))
    return Stage(base_path, adapters, device)


def open_staged(stage: Stage, quantization: Literal["int8", "bf16", "fp32"] = "int8") -> Base:
    """The base, unable to end an answer: every system writes as many tokens as it may."""
    base = open_base(BaseSection(model=str(stage.base_path), quantization=quantization), device=stage.device)
    never_end(base.model)
    return base


def never_end(model: object) -> None:
    """Give eos a logit of 0, which is never the highest of thousands."""
    model.lm_head.weight.data[1].zero_()  # type: ignore[attr-defined]


def make_sources(num_rows: int, num_tokens: int, *, seed: int = 0) -> list[list[int]]:
    """Random prompts of one length, eos last; ids below every vocabulary's end."""
    draw = random.Random(seed)
    return [[draw.randrange(3, 8000) for _ in range(num_tokens - 1)] + [1] for _ in range(num_rows)]


def spread(num_rows: int, num_adapters: int) -> list[int]:
    """Which adapter each row asks for: all equally often, in mixed order."""
    return [row % num_adapters for row in range(num_rows)]


def zipf(num_requests: int, num_adapters: int, *, seed: int = 0) -> list[int]:
    """Adapters of popularity 1 / rank, one per request."""
    weights = [1 / (rank + 1) for rank in range(num_adapters)]
    return random.Random(seed).choices(range(num_adapters), weights, k=num_requests)


def _write_base(shape: str, folder: Path) -> Path:
    from flan_lora.mini import MINI_PATH

    values = SHAPES[shape]
    if values is None:
        return MINI_PATH
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    layers = {"num_decoder_layers": values["num_layers"]}
    config = T5Config(
        vocab_size=32128, feed_forward_proj="gated-gelu", decoder_start_token_id=0, **values, **layers
    )
    config.tie_word_embeddings = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = T5ForConditionalGeneration(config).to(torch.bfloat16)
    # with tying off, transformers makes three embeddings; T5 has one for both stacks
    model.encoder.embed_tokens.weight = model.decoder.embed_tokens.weight = model.shared.weight
    model.save_pretrained(folder / shape)
    AutoTokenizer.from_pretrained(MINI_PATH).save_pretrained(folder / shape)
    return folder / shape


def _linears(base_path: Path) -> Linears:
    """Without weights."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from flan_lora.adapters.weights import base_linears

    with torch.device("meta"):
        return base_linears(T5ForConditionalGeneration(T5Config.from_pretrained(base_path)))


def _write_adapter(folder: Path, seed: int, linears: Linears) -> Path:
    """A PEFT folder with random A and B for these linears; B = 0 would be the base."""
    import torch
    from peft import LoraConfig
    from safetensors.torch import save_file

    modules = sorted({name.rsplit(".", 1)[-1] for name in linears})
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=RANK, lora_alpha=ALPHA, target_modules=modules)
    config.inference_mode = True
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (features_in, features_out) in linears.items():
        key = f"base_model.model.{name}"
        tensors[f"{key}.lora_A.weight"] = _random((RANK, features_in), features_in**-0.5, generator)
        tensors[f"{key}.lora_B.weight"] = _random((features_out, RANK), 0.02, generator)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def _random(shape: Sequence[int], scale: float, generator: Generator) -> Tensor:
    import torch

    return torch.randn(*shape, generator=generator) * scale
