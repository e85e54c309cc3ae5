"""The base as it is served: bit by bit what `open_base` gives, without what only training needs."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from flan_lora.base import serving
from flan_lora.base.fingerprint import int8_scale
from flan_lora.base.frozen_t5 import FrozenT5
from flan_lora.base.load import MINI, Base, open_base
from flan_lora.base.serving import open_serving_base
from flan_lora.errors import BaseModelError
from flan_lora.mini import MINI_PATH
from flan_lora.recipe import BaseSection
from tests.checkpoint import edit_config, save_checkpoint, spec_of

ROOT = Path(__file__).parents[2]
HEAVY = {
    "accelerate", "bitsandbytes", "datasets", "evaluate", "huggingface_hub", "matplotlib", "nltk", "pandas",
    "peft", "scipy", "sentencepiece", "sklearn", "sympy", "tensorboard", "transformers", "triton",
}  # fmt: skip
"""What serving on a CPU has no use for; each costs a tenth of a second to several."""

SERVE = """
import io, sys
from flan_lora.cli import main

def report(stage):
    print("MODULES", stage, *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)

report("help")
main(["generate", "i am so happy", "--adapter", "emotion"], standalone_mode=False)
report("generate")
sys.stdin = io.StringIO("/use emotion\\ni am so happy\\n")
main(["chat"], standalone_mode=False)
report("chat")
from flan_lora.serving.open_router import open_router
from flan_lora.serving.openai import app, server
from flan_lora.serving.openai.router_model import RouterModel
RouterModel(open_router("adapters", "mini"), 8).adapters()
report("serve")
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """Command -> the top-level modules that are there after it, of one process that runs all."""
    code = SERVE.replace('"adapters"', f"__import__('pathlib').Path({str(ROOT / 'adapters')!r})")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("joy\n"), done.stdout
    lines = [line.split()[1:] for line in done.stderr.splitlines() if line.startswith("MODULES")]
    return {stage: set(modules) for stage, *modules in lines}


@pytest.mark.parametrize("command", ["generate", "chat", "serve"])
def test_serving_imports_nothing_heavy_but_torch(imported: dict[str, set[str]], command: str) -> None:
    assert "torch" in imported[command]
    assert not imported[command] & HEAVY


def test_the_help_needs_not_even_torch(imported: dict[str, set[str]]) -> None:
    assert not imported["help"] & (HEAVY | {"torch", "numpy", "pydantic", "yaml"})


# The same base


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def assert_same(base: Base, expected: Base) -> None:
    assert isinstance(base.model, FrozenT5) and not isinstance(expected.model, FrozenT5)
    for field in ("spec", "device", "device_reason", "dtype", "fingerprint", "slug"):
        assert getattr(base, field) == getattr(expected, field)
    own, wanted = dict(base.model.named_parameters()), dict(expected.model.named_parameters())
    assert own.keys() == wanted.keys()
    for name, parameter in own.items():
        assert parameter.dtype == wanted[name].dtype and torch.equal(parameter.data, wanted[name].data), name
    modules = dict(expected.model.named_modules())
    for name, module in base.model.named_modules():
        if isinstance(module, nn.Linear):
            scale, wanted_scale = int8_scale(module), int8_scale(modules[name])
            assert (scale is None) == (wanted_scale is None)
            assert scale is None or torch.equal(scale, wanted_scale), name


@pytest.mark.parametrize("has_fast_bf16", [True, False])
@pytest.mark.parametrize("quantization", ["int8", "bf16", "fp32"])
def test_every_weight_is_that_of_the_base_opened_in_full(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, quantization: str, has_fast_bf16: bool
) -> None:
    monkeypatch.setattr("flan_lora.system.devices.has_bf16", lambda device: has_fast_bf16)
    spec = spec_of(checkpoint, quantization)
    assert_same(open_serving_base(spec), open_base(spec))


def test_the_embedded_base_is_served_as_it_is_opened_in_full() -> None:
    base, expected = open_serving_base(BaseSection(model=MINI)), open_base(BaseSection(model=MINI))
    assert_same(base, expected)
    for stack in ("encoder", "decoder"):
        first, wanted = (
            getattr(each.model, stack).block[0].layer[0].SelfAttention.compute_bias for each in (base, expected)
        )
        assert torch.equal(first(700, 700), wanted(700, 700))
        assert torch.equal(first(1, 300, past_seen_tokens=299), wanted(1, 300, past_seen_tokens=299))
    x = torch.randn(3, 256, dtype=base.dtype)
    assert torch.equal(base.model.encoder.final_layer_norm(x), expected.model.encoder.final_layer_norm(x))


def test_texts_become_the_tokens_that_transformers_makes_of_them() -> None:
    own = open_serving_base(BaseSection(model=MINI)).tokenizer
    expected = open_base(BaseSection(model=MINI)).tokenizer
    rng = random.Random(0)
    alphabets = [
        range(32, 127),
        range(32, 0x3000),
        range(0x1F300, 0x1F900),
        (9, 10, 13, 0xA0, 0x200B, 0xAD, 0xFEFF),
    ]
    texts = ["", "  two  spaces ", "<pad> a</s> b <unk><extra_id_7>c", "don't . ,", "ﬁ ½ Å İ"]
    texts += [
        "".join(chr(rng.choice(rng.choice(alphabets))) for _ in range(rng.randrange(50))) for _ in range(500)
    ]
    ids = own(texts, return_attention_mask=False, verbose=False)["input_ids"]
    assert ids == expected(texts, return_attention_mask=False, verbose=False)["input_ids"]
    for row in ids:
        for part in (row, row[1:-2]):
            options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
            assert own.decode(part, **options) == expected.decode(part, **options)
            assert own.convert_ids_to_tokens(part) == expected.convert_ids_to_tokens(part)
    assert len(own) == len(expected)
    special = ("eos_token_id", "unk_token_id", "pad_token_id")
    assert [getattr(own, name) for name in special] == [getattr(expected, name) for name in special]


# What is opened in full instead


def edit_tokenizer(file: str, **changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        values = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps(values | changes), encoding="utf-8")

    return edit


def drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.block.0.layer.1.DenseReluDense.wo.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def cut_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["shared.weight"] = tensors["shared.weight"][:-1].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def truncate_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


UNUSUAL: dict[str, Callable[[Path], None]] = {
    "another model type": lambda folder: edit_config(folder, model_type="mt5"),
    "already quantised": lambda folder: edit_config(folder, quantization_config={"quant_method": "gptq"}),
    "another activation": lambda folder: edit_config(folder, feed_forward_proj="gated-silu"),
    "a tied head": lambda folder: edit_config(folder, tie_word_embeddings=True),
    "several ends": lambda folder: edit_config(folder, eos_token_id=[1, 2]),
    "a tensor is missing": drop_tensor,
    "a tensor of another shape": cut_tensor,
    "damaged weights": truncate_weights,
    "no tokenizer.json": lambda folder: (folder / "tokenizer.json").unlink(),
    "a damaged tokenizer.json": lambda folder: (folder / "tokenizer.json").write_text("{"),
    "a tokenizer of another class": edit_tokenizer("tokenizer_config.json", tokenizer_class="LlamaTokenizer"),
    "more special tokens": edit_tokenizer("tokenizer_config.json", extra_ids=3),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_what_is_not_plain_is_left_to_transformers(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    UNUSUAL[case](folder)
    asked: list[BaseSection] = []

    def opened_in_full(spec: BaseSection, *, device: str | None = None) -> None:
        asked.append(spec)

    monkeypatch.setattr(serving, "open_base", opened_in_full)
    spec = spec_of(folder, "int8")
    open_serving_base(spec)
    assert asked == [spec]


def test_what_is_wrong_is_said_as_ever(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="there is no such folder"):
        open_serving_base(BaseSection(model=str(tmp_path / "nothing")))
    with pytest.raises(BaseModelError, match="unknown device"):
        open_serving_base(BaseSection(model=MINI), device="abacus")


def test_a_pinned_commit_is_found_in_the_hubs_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    commit, asked = "0" * 40, []

    def cached(repo_id: str, filename: str, revision: str) -> str:
        asked.append((repo_id, filename, revision))
        return str(MINI_PATH / filename)

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    base = open_serving_base(BaseSection(model="google/flan-t5-small", revision=commit))
    assert asked == [("google/flan-t5-small", "config.json", commit)]
    assert isinstance(base.model, FrozenT5)


@pytest.mark.parametrize("revision", [None, "main", "0" * 39])
def test_a_branch_of_the_hub_is_left_to_transformers(
    monkeypatch: pytest.MonkeyPatch, revision: str | None
) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(serving, "open_base", lambda spec, device: asked.append(spec.revision))
    open_serving_base(BaseSection(model="google/flan-t5-small", revision=revision))
    assert asked == [revision]
