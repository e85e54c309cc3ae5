"""4-bit bases: which linears, the same base as in every other precision, what they take, trained and served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model

from flan_lora.base.load import open_base
from flan_lora.base.quantised import base_bytes, dequantised, nf4_state
from flan_lora.errors import BaseModelError
from flan_lora.training.estimate import Shape
from tests.checkpoint import save_checkpoint, spec_of
from tests.engine.served import Served, assert_equal_tokens, assert_log_probs_are_the_models, random_requests
from tests.tiny import tiny_t5

WIDE = {"d_model": 64, "d_kv": 16, "d_ff": 128}
"""Blocks are of 64 weights."""
IDS = torch.tensor([[3, 17, 40, 9, 1], [5, 6, 1, 0, 0]])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("wide"), tiny_t5(**WIDE))


@pytest.fixture
def no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not quantised is fp32, so that two ways to compute the same differ by its rounding only."""
    monkeypatch.setattr("flan_lora.system.devices.has_bf16", lambda device: False)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(
            input_ids=IDS, attention_mask=IDS.ne(0).long(), decoder_input_ids=IDS[:, :3]
        ).logits.float()
    return found


@pytest.mark.parametrize("double", [True, False])
def test_attention_and_wi_are_4_bit_and_take_the_estimated_bytes(checkpoint: Path, double: bool) -> None:
    base = open_base(spec_of(checkpoint, "nf4", nf4_double_quant=double))
    names = {name.rsplit(".", 1)[-1] for name, each in base.model.named_modules() if nf4_state(each) is not None}
    assert names == {"q", "k", "v", "o", "wi_0", "wi_1"}
    assert nf4_state(base.model.encoder.block[0].layer[0].SelfAttention.q).nested == double
    expected = Shape.of(base.model.config).base_bytes("nf4", base.dtype.itemsize, double_quant=double)
    assert base_bytes(base.model) == expected


@pytest.mark.parametrize("double", [True, False])
def test_it_is_the_same_base_and_nearly_the_same_function(checkpoint: Path, double: bool) -> None:
    exact, base = open_base(spec_of(checkpoint)), open_base(spec_of(checkpoint, "nf4", nf4_double_quant=double))
    assert base.fingerprint == exact.fingerprint
    difference = (logits(base.model) - logits(exact.model)).norm() / logits(exact.model).norm()
    assert 0.001 < difference < 1, "random weights blow rounding up"
    for name, linear in exact.model.named_modules():
        if nf4_state(codes := base.model.get_submodule(name)) is not None:
            error = (dequantised(codes) - linear.weight).norm() / linear.weight.norm()
            assert error < 0.15, name


def test_the_fingerprint_of_a_sharded_checkpoint_is_read_from_its_shards(checkpoint: Path, tmp_path: Path) -> None:
    tiny_t5(**WIDE).save_pretrained(tmp_path, max_shard_size="100KB")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((checkpoint / file).read_bytes())
    assert (tmp_path / "model.safetensors.index.json").is_file()
    assert open_base(spec_of(tmp_path, "nf4")).fingerprint == open_base(spec_of(checkpoint)).fingerprint


def test_a_change_of_one_linear_shows_in_the_fingerprint(checkpoint: Path, tmp_path: Path) -> None:
    model = tiny_t5(**WIDE)
    model.decoder.block[1].layer[0].SelfAttention.q.weight.data[0] *= 1.5
    other = open_base(spec_of(save_checkpoint(tmp_path, model), "nf4"))
    assert other.fingerprint != open_base(spec_of(checkpoint, "nf4")).fingerprint


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    from tests.checkpoint import edit_config

    edit_config(save_checkpoint(tmp_path, tiny_t5(**WIDE)), d_ff=192)
    with pytest.raises(BaseModelError, match="of another shape"):
        open_base(spec_of(tmp_path, "nf4"))


def test_gradients_are_those_of_the_weights_that_codes_stand_for(checkpoint: Path, no_bf16: None) -> None:
    """Also after an evaluation, which must leave the codes as training reads them."""
    base = open_base(spec_of(checkpoint, "nf4")).model
    plain = tiny_t5(**WIDE).requires_grad_(False)
    for name, module in plain.named_modules():
        if nf4_state(codes := base.get_submodule(name)) is not None:
            module.weight.data = dequantised(codes)
        elif isinstance(module, torch.nn.Linear):
            module.weight.data = codes.weight.data.clone()
    plain.shared.weight.data = base.shared.weight.data.clone()
    plain.lm_head.weight.data = base.lm_head.weight.data.clone()
    gradients = []
    for model in (base, plain):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            config = LoraConfig(
                task_type=TaskType.SEQ_2_SEQ_LM, target_modules=["q", "wi_0"], init_lora_weights=False
            )
            adapted = get_peft_model(model, config)
        adapted.eval()
        logits(adapted)
        loss = adapted(input_ids=IDS, attention_mask=IDS.ne(0).long(), labels=IDS[:, :3].contiguous()).loss
        loss.backward()
        gradients.append({name: each.grad for name, each in adapted.named_parameters() if each.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 10
    for name, found in gradients[0].items():
        torch.testing.assert_close(found, gradients[1][name], rtol=0.02, atol=0.02 * float(found.abs().max()))


def test_adapters_are_served_with_the_tokens_of_pefts_model(
    checkpoint: Path, tmp_path: Path, no_bf16: None
) -> None:
    base = open_base(spec_of(checkpoint, "nf4")).model
    adapters: dict[str, dict[str, Any]] = {
        "qv": {"r": 4, "target_modules": ["q", "v"]},
        "dora": {"r": 2, "target_modules": ["q", "wi_0"], "use_dora": True},
    }
    served = Served(base, tmp_path, adapters)
    assert_equal_tokens(served, random_requests(1, 8, [None, "qv", "dora"]))
    assert_log_probs_are_the_models(served, random_requests(3, 4, [None, "qv"]))
