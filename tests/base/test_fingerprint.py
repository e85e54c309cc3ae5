"""One checkpoint has one fingerprint, however it is loaded; another has another, however similar it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import T5ForConditionalGeneration

from flan_lora.base.fingerprint import fingerprint, short
from flan_lora.base.load import open_base
from tests.checkpoint import save_checkpoint, spec_of
from tests.tiny import tiny_t5


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32 weights, as FLAN-T5's on the Hub: bf16 rounds them all, and fp16 the very small ones once more."""
    model = tiny_t5()
    model.encoder.block[0].layer[0].SelfAttention.q.weight.data *= 1e-5
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"), model)


def test_int8_bf16_and_fp32_loads_agree(checkpoint: Path) -> None:
    found = {mode: open_base(spec_of(checkpoint, mode)).fingerprint for mode in ("int8", "bf16", "fp32")}
    assert len(set(found.values())) == 1, found


def test_the_weights_differ_between_loads_whose_fingerprints_agree(checkpoint: Path) -> None:
    exact, rounded = (open_base(spec_of(checkpoint, mode)).model for mode in ("fp32", "bf16"))
    assert not torch.equal(exact.shared.weight, rounded.shared.weight.float())


def test_an_int8_base_keeps_its_fingerprint_after_a_forward_pass(checkpoint: Path) -> None:
    base = open_base(spec_of(checkpoint, "int8"))
    ids = torch.tensor([[3, 1]])
    base.model(input_ids=ids, decoder_input_ids=ids)  # moves the scales from the weight to the layer's state
    assert fingerprint(base.model) == base.fingerprint


def layer_norm(model: T5ForConditionalGeneration) -> None:
    model.decoder.block[1].layer[2].layer_norm.weight.data[5] += 0.5


def position_bias(model: T5ForConditionalGeneration) -> None:
    model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.data[31, 3] += 1.0


def query_only(model: T5ForConditionalGeneration) -> None:
    for block in model.encoder.block:
        block.layer[0].SelfAttention.q.weight.data *= 1.02


def one_wo(model: T5ForConditionalGeneration) -> None:
    model.decoder.block[0].layer[2].DenseReluDense.wo.weight.data *= 0.9


def head(model: T5ForConditionalGeneration) -> None:
    model.lm_head.weight.data *= 1.02


def swapped_layers(model: T5ForConditionalGeneration) -> None:
    first, second = (model.encoder.block[i].layer[0].SelfAttention.v for i in (0, 1))
    first.weight.data, second.weight.data = second.weight.data, first.weight.data


def untold_epsilon(model: T5ForConditionalGeneration) -> None:
    model.config.layer_norm_epsilon = 1e-5


@pytest.mark.parametrize(
    "change", [layer_norm, position_bias, query_only, one_wo, head, swapped_layers, untold_epsilon]
)
def test_a_change_anywhere_shows(change: Callable[[T5ForConditionalGeneration], None]) -> None:
    model = tiny_t5()
    before = fingerprint(model)
    change(model)
    assert fingerprint(model) != before


def test_fine_tuning_only_q_and_v_shows_in_int8_too(checkpoint: Path, tmp_path: Path) -> None:
    tuned = tiny_t5()
    generator = torch.Generator().manual_seed(1)
    for name, weight in tuned.named_parameters():
        if name.endswith((".q.weight", ".v.weight")):
            weight.data += 0.05 * torch.randn(weight.shape, generator=generator)
    other = save_checkpoint(tmp_path, tuned)
    found = {open_base(spec_of(folder, "int8")).fingerprint for folder in (checkpoint, other)}
    assert len(found) == 2


def test_another_seed_is_another_base() -> None:
    assert fingerprint(tiny_t5(seed=0)) != fingerprint(tiny_t5(seed=1))


def test_the_value_is_fixed_for_all_time() -> None:
    """Manifests carry it: a change of the algorithm would orphan every published adapter."""
    model = tiny_t5()
    for weight in model.parameters():
        weight.data = torch.arange(weight.numel()).sub(7).remainder(23).div(16).view(weight.shape)
    assert fingerprint(model) == "a97731331e3fba698b7a6d2cd18fe3611049100899aa0ae1ca56a5180bee13a2"


def test_the_short_form_is_eight_digits() -> None:
    assert short("0123456789abcdef") == "01234567"
