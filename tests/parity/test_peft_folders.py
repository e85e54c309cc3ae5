"""Any LoRA folder that PEFT loads onto an fp32 base is served with the tokens that PEFT's model generates."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file, save_file

from flan_lora.adapters.lora_config import is_target
from flan_lora.adapters.weights import base_linears, open_folder
from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.errors import AdapterError
from tests.engine.served import Served, assert_equal_tokens, random_requests
from tests.tiny import tiny_t5

pytestmark = [
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to True"),
    pytest.mark.filterwarnings("ignore:aLoRA is currently only supported"),
]
ALL = ["q", "k", "v", "o", "wi_0", "wi_1", "wo"]
CONFIGS: dict[str, dict[str, Any]] = {
    "rank and alpha patterns": {
        "target_modules": ["q", "v", "wo"],
        "rank_pattern": {"SelfAttention.q": 7, r"decoder\.block\.1\..*\.v": 1, "wo": 2},
        "alpha_pattern": {"encoder.*q": 1, "wo": 32, "EncDecAttention.v": 3},
    },
    "rsLoRA with patterns": {
        "target_modules": ALL, "r": 9, "use_rslora": True, "rank_pattern": {"wi_1": 3}, "alpha_pattern": {"o": 7},
    },
    "one layer": {"target_modules": ["q", "wi_0"], "layers_to_transform": 1},
    "layers": {"target_modules": ["q", "k"], "layers_to_transform": [0, 2]},
    "layers behind a name": {"target_modules": ["q", "v"], "layers_to_transform": [0], "layers_pattern": "layer"},
    "layers behind names": {
        "target_modules": ["q", "v", "o"], "layers_to_transform": [1], "layers_pattern": ["layer", "block"],
    },
    "a whole path beside chosen layers": {
        "target_modules": ["v", "encoder.block.0.layer.0.SelfAttention.q"], "layers_to_transform": [1],
    },
    "a regex": {"target_modules": r".*\.(decoder|block\.[02])\..*\.(q|wo|wi_\d)"},
    "all-linear": {"target_modules": "all-linear", "r": 2},
    "all-linear but some": {"target_modules": "all-linear", "exclude_modules": ["wo", "EncDecAttention.k"]},
    "a regex excludes": {"target_modules": ["q", "v"], "exclude_modules": r"encoder\..*"},
    "names that the base lacks": {"target_modules": ["q", "v", "q_proj", "wi", "attn.c_attn"]},
    "gaussian": {"target_modules": ["q", "v"], "init_lora_weights": "gaussian"},
    "orthogonal": {"target_modules": ["q", "v"], "init_lora_weights": "orthogonal"},
    "MiCA": {"target_modules": ["q", "v"], "init_lora_weights": "mica"},
    "random": {"target_modules": ["k", "wo"], "init_lora_weights": False},
    "dropout": {"target_modules": ["q", "v"], "lora_dropout": 0.3},
    "another task type": {"target_modules": ["q", "v"], "task_type": None},
    "a linear stored the other way round": {"target_modules": ["q", "v"], "fan_in_fan_out": True},
    "DoRA": {"target_modules": ["q", "v", "wi_1"], "use_dora": True},
    "DoRA of all, rsLoRA, patterns": {
        "target_modules": ALL, "use_dora": True, "use_rslora": True, "rank_pattern": {"o": 2},
        "alpha_pattern": {"q": 3},
    },
    "a negative alpha": {"target_modules": ["q", "v"], "lora_alpha": -8},
}  # fmt: skip


@pytest.fixture(scope="module")
def base() -> Any:
    model = tiny_t5(3, num_layers=3, num_decoder_layers=3)
    model.lm_head.weight.data[1] *= 1.6
    return model.requires_grad_(False)


def save(base: Any, folder: Path, **lora: Any) -> Path:
    """An adapter of this config with random weights, saved by PEFT."""
    fields = {"r": 4, "lora_alpha": 8, "task_type": TaskType.SEQ_2_SEQ_LM, **lora}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = get_peft_model(copy.deepcopy(base), LoraConfig(**fields))
        for name, parameter in model.named_parameters():
            if "magnitude" in name:  # random lengths around those of the base's rows
                parameter.data *= torch.rand_like(parameter) + 0.5
            elif ".lora_" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder


def served(base: Any, folder: Path) -> Served:
    """Both sides with the folder as the adapter "one"."""
    both = Served(base, folder.parent, {})
    both.cache.add(*open_folder("one", folder))
    both.peft["one"] = PeftModel.from_pretrained(copy.deepcopy(base), folder).eval()
    return both


@pytest.mark.parametrize("name", CONFIGS)
def test_tokens_are_pefts(base: Any, tmp_path: Path, name: str) -> None:
    both = served(base, save(base, tmp_path / "one", **CONFIGS[name]))
    requests = random_requests(len(name), 5, ["one"], max_new_tokens=10)
    assert_equal_tokens(both, requests)
    bare = random_requests(len(name), 5, [None], max_new_tokens=10)
    assert [row[0].ids for row in both.ours(requests)] != [row[0].ids for row in both.ours(bare)]


def test_targets_are_pefts_for_every_linear_of_the_base(base: Any, tmp_path: Path) -> None:
    """The table above cannot show a linear that PEFT leaves alone and we expect, or the other way round."""
    linears = base_linears(base)
    for name, lora in CONFIGS.items():
        folder = save(base, tmp_path / name.replace(" ", "-"), **lora)
        config = json.loads((folder / "adapter_config.json").read_text())
        keys = load_file(folder / "adapter_model.safetensors")
        has = {key.removeprefix("base_model.model.").rsplit(".lora_", 1)[0] for key in keys}
        assert {module for module in linears if is_target(module, config)} == has, name


def test_what_trainer_leaves_beside_the_weights_is_never_opened(base: Any, tmp_path: Path) -> None:
    folder = save(base, tmp_path / "one", target_modules=["q", "v"])

    class Bomb:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("a pickle was opened",))

    (folder / "checkpoint-10").mkdir()
    for file in ("training_args.bin", "optimizer.pt", "adapter_model.bin", "checkpoint-10/rng_state.pth"):
        (folder / file).write_bytes(pickle.dumps(Bomb()))
    (folder / "trainer_state.json").write_text("no json {")
    assert_equal_tokens(served(base, folder), random_requests(1, 4, ["one"]))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterError, match=r"adapter_model\.bin: pickled weights are never loaded"):
        open_folder("one", folder)


@pytest.mark.parametrize(
    ("lora", "reason"),
    [
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is .'lm_head'.: whole modules of the base"),
        ({"bias": "lora_only"}, "biases of the base"),
        ({"alora_invocation_tokens": [5, 6]}, "aLoRA changes the base only behind its invocation tokens"),
        ({"trainable_token_indices": [5]}, "rows of the embedding"),
        ({"init_lora_weights": "pissa"}, "'pissa' changes the base"),
        ({"init_lora_weights": "olora"}, "'olora' changes the base"),
        ({"target_modules": ["q", "shared"]}, "updates an embedding"),
        ({"target_modules": ["q", "lm_head"]}, "lm_head: .* the base no linear of a layer"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_served_is_named(base: Any, tmp_path: Path, lora: dict[str, Any], reason: str) -> None:
    folder = save(base, tmp_path / "one", **{"target_modules": ["q", "v"], **lora})
    with pytest.raises(AdapterError, match=reason):
        AdapterCache(base_linears(base), fingerprint="x" * 64).add(*open_folder("one", folder))


def test_an_embedding_that_was_saved_along_is_named(base: Any, tmp_path: Path) -> None:
    folder = save(base, tmp_path / "one", target_modules=["q", "v"])
    file = folder / "adapter_model.safetensors"
    save_file({**load_file(file), "base_model.model.shared.weight": torch.zeros(2, 32)}, file)
    with pytest.raises(AdapterError, match=r"shared\.weight is a whole module"):
        open_folder("one", folder)
