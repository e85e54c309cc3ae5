"""DoRA in slots: exactly PEFT's layers, beside plain adapters, in mixes, on every precision of the base."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model

from flan_lora.adapters.weights import base_linears, open_folder
from flan_lora.base.load import open_base
from flan_lora.base.quantised import weight_of
from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.lora_batch import IndexedLora, SegmentedLora
from flan_lora.errors import AdapterError
from tests.checkpoint import save_checkpoint, spec_of
from tests.tiny import tiny_t5

Q, WO = "decoder.block.1.layer.0.SelfAttention.q", "encoder.block.0.layer.1.DenseReluDense.wo"
DORA = {"target_modules": ["q", "wo"], "use_dora": True}
ADAPTERS: dict[str, dict[str, Any]] = {"dora": DORA, "other": {**DORA, "r": 2}, "plain": {"target_modules": ["q"]}}


def save(base: Any, folder: Path, seed: int, **lora: Any) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(task_type=TaskType.SEQ_2_SEQ_LM, **{"r": 4, "lora_alpha": 8, **lora})
        model = get_peft_model(copy.deepcopy(base), config)
        for name, parameter in model.named_parameters():
            if "magnitude" in name:
                parameter.data *= torch.rand_like(parameter) + 0.5
            elif ".lora_" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("dora")
    return {name: save(tiny_t5(), place / name, seed, **ADAPTERS[name]) for seed, name in enumerate(ADAPTERS)}


def cache_of(base: Any, folders: dict[str, Path], order: tuple[str, ...] = ("plain", "dora", "other")) -> Any:
    cache = AdapterCache(base_linears(base), fingerprint="x" * 64, weight_of=weight_of(base))
    for name in order:
        cache.add(*open_folder(name, folders[name]))
    return cache


@pytest.fixture(scope="module", params=["fp32", "int8", "bf16"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return open_base(spec_of(save_checkpoint(tmp_path_factory.mktemp("base")), request.param)).model


def test_a_slot_computes_pefts_layer_whatever_is_resident(base: Any, folders: dict[str, Path]) -> None:
    """The base's own product is the same on both sides, so only what is added to it is compared."""
    cache = cache_of(base, folders)
    with cache.lease(["plain"]):
        pass  # the layout grows room for rescaling under its feet
    draw = torch.Generator().manual_seed(0)
    for name in ADAPTERS:
        peft = PeftModel.from_pretrained(copy.deepcopy(base), folders[name]).eval()
        for linear in (Q, WO):
            layer = peft.base_model.model.get_submodule(linear)
            if not hasattr(layer, "lora_A"):
                continue
            dtype = torch.bfloat16 if base.dtype == torch.bfloat16 else torch.float32
            x = torch.randn(3, 5, layer.in_features, generator=draw).to(dtype)
            with torch.inference_mode(), cache.lease(list(ADAPTERS)) as lease:
                plain = layer.base_layer(x)
                rows = [{name: 1.0}, {}, {name: 1.0}]
                ours = lease.gather(rows).add_lora(linear, x.float(), plain.clone())
                theirs = layer(x)
            tolerance = 1e-4 if base.dtype == torch.float32 else 0.05
            torch.testing.assert_close(ours[[0, 2]], theirs[[0, 2]], rtol=tolerance, atol=tolerance)
            assert torch.equal(ours[1], plain[1])
            assert (theirs - plain).abs().max() > 0.5


def test_a_mix_sums_what_each_adds_to_the_base_and_the_gpus_way_agrees(folders: dict[str, Path]) -> None:
    model = tiny_t5()
    cache = cache_of(model, folders)
    x, out = torch.randn(4, 3, 32), torch.randn(4, 3, 32)
    mixes: list[dict[str, float]] = [{"dora": 0.7, "other": -0.3, "plain": 1.0}, {"dora": 2.0}, {}, {"plain": 1.0}]
    with cache.lease(list(ADAPTERS)) as lease:
        added = {name: lease.gather([{name: 1.0}] * 4).add_lora(Q, x, out.clone()) - out for name in ADAPTERS}
        refs = [lease.refs(mix) for mix in mixes]
        found = SegmentedLora(refs).add_lora(Q, x, out.clone())
        indexed = IndexedLora.of(lease.pool, refs).add_lora(Q, x, out.clone())
        invariant = SegmentedLora(refs, is_invariant=True).add_lora(Q, x, out.clone())
    sums = [sum(weight * added[name][row] for name, weight in mix.items()) for row, mix in enumerate(mixes)]
    expected = torch.stack([out[row] + each for row, each in enumerate(sums)])
    for each in (found, indexed, invariant):
        torch.testing.assert_close(each, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(found[2], out[2])


def test_neighbouring_slots_share_a_product_also_with_dora(folders: dict[str, Path]) -> None:
    model = tiny_t5()
    cache = cache_of(model, folders)
    x, out = torch.randn(2, 3, 32), torch.randn(2, 3, 32)
    with cache.lease(["dora"]), cache.lease(["other"]), cache.lease(["dora", "other"]) as lease:
        both = lease.gather([{"dora": 1.0}, {"other": 1.0}]).add_lora(Q, x, out.clone())
        alone = [lease.gather([{name: 1.0}]).add_lora(Q, x[row : row + 1], out[row : row + 1].clone())
                 for row, name in enumerate(("dora", "other"))]  # fmt: skip
    torch.testing.assert_close(both, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_a_slot_that_a_dora_left_rescales_nothing(folders: dict[str, Path]) -> None:
    model = tiny_t5()
    cache = AdapterCache(base_linears(model), fingerprint="x" * 64, num_slots=2, weight_of=weight_of(model))
    for name in ("dora", "plain"):
        cache.add(*open_folder(name, folders[name]))
    x, out = torch.randn(1, 3, 32), torch.randn(1, 3, 32)
    alone = AdapterCache(base_linears(model), fingerprint="x" * 64)
    alone.add(*open_folder("plain", folders["plain"]))
    with alone.lease(["plain"]) as lease:
        expected = lease.gather([{"plain": 1.0}]).add_lora(Q, x, out.clone())
    with cache.lease(["dora"]):
        pass
    with cache.lease(["plain"]) as lease:
        found = lease.gather([{"plain": 1.0}]).add_lora(Q, x, out.clone())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_without_the_bases_weights_it_is_refused(folders: dict[str, Path]) -> None:
    cache = AdapterCache(base_linears(tiny_t5()), fingerprint="x" * 64)
    with pytest.raises(AdapterError, match="'dora' is a DoRA: it takes the base's weights"):
        cache.add(*open_folder("dora", folders["dora"]))
