"""``serve_precision="int8"``: head and ``wo`` by codes of the engine's own; the base stays as it was opened."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

from flan_lora.base.frozen_t5 import Int8Linear
from flan_lora.base.load import MINI, open_base
from flan_lora.base.serving import open_serving_base
from flan_lora.engine.kv_cache import DynamicKVCache
from flan_lora.engine.lora_batch import NO_LORA
from flan_lora.engine.model_runner import ModelRunner
from flan_lora.engine.t5 import T5
from flan_lora.errors import BaseModelError
from flan_lora.recipe import BaseSection
from flan_lora.serving.router import Router
from tests.checkpoint import save_checkpoint, spec_of

ROOT = Path(__file__).parents[2]


@torch.inference_mode()
def logits(t5: T5, num_rows: int, num_steps: int = 3) -> torch.Tensor:
    """Of the first tokens after sources of 20 ids."""
    ids = torch.randint(3, 8000, (num_rows, 20), generator=torch.Generator().manual_seed(0))
    cross, visible = t5.prefill(ids, torch.ones_like(ids), NO_LORA)
    cache = DynamicKVCache(
        t5.new_cache(num_rows, num_steps), cross, visible, t5.position_bias(num_steps), [()] * num_rows, 1
    )
    return torch.stack([t5.decode(ids[:, step], [cache], NO_LORA) for step in range(num_steps)])


def test_head_and_wo_are_codes_of_their_own_and_the_logits_stay_close() -> None:
    model = open_serving_base(BaseSection(model=MINI)).model
    before = {name: each.clone() for name, each in model.state_dict().items()}
    exact, t5 = T5(model), T5(model, all_int8=True)
    wo = model.decoder.block[0].layer[-1].DenseReluDense.wo
    made, wanted = t5._decoder[0].feed_forward.wo, Int8Linear(wo.weight)
    assert made.scale is not None and torch.equal(made.weight, wanted.weight)
    assert torch.equal(made.scale, wanted.int8_scale)
    assert t5._head.scale is not None and exact._head.scale is None
    assert all(block.feed_forward.wo.scale is not None for block in (*t5._encoder, *t5._decoder))
    for num_rows in (1, 5):
        found, expected = logits(t5, num_rows), logits(exact, num_rows)
        assert not torch.equal(found, expected)
        share = (found - expected).norm() / expected.norm()
        assert share < 0.03, share
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], each) for name, each in before.items())


@pytest.mark.parametrize("quantization", ["fp32", "bf16"])
def test_a_base_that_is_not_int8_is_refused(quantization: str, tmp_path: Path) -> None:
    model = open_base(spec_of(save_checkpoint(tmp_path), quantization), device="cpu").model
    with pytest.raises(BaseModelError, match=r"serve_precision: int8 .*got another precision on cpu") as error:
        ModelRunner(model, serve_precision="int8")
    assert "Open the base in int8" in str(error.value)
    ModelRunner(model)


def test_a_router_answers_in_it() -> None:
    assert inspect.signature(Router.open).parameters["serve_precision"].default == "exact"
    router = Router.open(ROOT / "adapters" / "mini", serve_precision="int8")
    assert router.pipeline.engine._model._t5._head.scale is not None
    assert router.generate("i am so happy", "emotion").text == "joy"
