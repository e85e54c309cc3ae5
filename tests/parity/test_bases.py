"""Every kind of the T5 family, loaded from a checkpoint, in our engine and in transformers: the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from flan_lora.base.architecture import linear_names
from flan_lora.base.load import open_base, open_config
from flan_lora.base.quantised import base_bytes
from flan_lora.engine.linear import LEAST_ROWS
from flan_lora.engine.model_runner import ModelRunner
from flan_lora.training.estimate import Shape
from tests.checkpoint import spec_of
from tests.engine.running import generate
from tests.engine.served import Served, assert_equal_tokens, assert_log_probs_are_the_models, random_requests
from tests.family import KINDS, MAIN_KINDS, family_model, save_family

IDS = torch.tensor([[3, 17, 40, 9, 90, 200, 1], [5, 6, 1, 0, 0, 0, 0]])
TARGET = torch.tensor([[0, 8, 30, 77], [0, 12, 9, 4]])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("family")
    return {name: save_family(folder / name.replace(" ", "-"), kind) for name, kind in KINDS.items()}


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(
            input_ids=IDS, attention_mask=IDS.ne(0).long(), decoder_input_ids=TARGET
        ).logits.float()
    return found


@pytest.mark.parametrize("name", KINDS)
def test_a_checkpoint_is_loaded_as_the_model_that_was_saved(checkpoints: dict[str, Path], name: str) -> None:
    base = open_base(spec_of(checkpoints[name]))
    torch.testing.assert_close(logits(base.model), logits(family_model(KINDS[name])), rtol=1e-4, atol=1e-4)
    assert (base.model.lm_head.weight is base.model.shared.weight) == KINDS[name].is_tied
    assert base.model.config.tie_word_embeddings == KINDS[name].is_tied
    assert base.model.encoder.embed_tokens.weight is base.model.shared.weight


@pytest.mark.parametrize("quantization", ["int8", "bf16"])
@pytest.mark.parametrize("name", KINDS)
def test_every_precision_is_the_same_base_and_takes_the_estimated_bytes(
    checkpoints: dict[str, Path], name: str, quantization: str
) -> None:
    exact, base = open_base(spec_of(checkpoints[name])), open_base(spec_of(checkpoints[name], quantization))
    assert base.fingerprint == exact.fingerprint
    expected = logits(exact.model)
    assert (logits(base.model) - expected).norm() / expected.norm() < 0.2, "random weights blow rounding up"
    for shape in (Shape.of(base.model.config), Shape.of(open_config(base.spec))):
        assert shape.num_parameters == sum(each.numel() for each in base.model.parameters())
        assert shape.base_bytes(quantization, base.dtype.itemsize) == base_bytes(base.model)


@pytest.mark.parametrize("graphs", [False, True], ids=["eager", "graphs"])
@pytest.mark.parametrize("name", KINDS)
def test_tokens_and_log_probs_are_generates(
    checkpoints: dict[str, Path], tmp_path: Path, name: str, graphs: bool
) -> None:
    base = open_base(spec_of(checkpoints[name])).model
    adapters: dict[str, dict[str, Any]] = {
        "all": {"r": 3, "lora_alpha": 4, "target_modules": list(linear_names(base.config))},
        "qv": {"r": 5, "lora_alpha": 10, "target_modules": ["q", "v"], "use_rslora": True},
    }
    served = Served(base, tmp_path, adapters, graphs=graphs)
    assert_equal_tokens(served, random_requests(1, 10, [None, *adapters]))
    assert_equal_tokens(served, random_requests(2, 6, [None, *adapters], num_beams=3, num_return_sequences=2))
    assert_log_probs_are_the_models(served, random_requests(3, 4, [None, *adapters]))


@pytest.mark.parametrize("name", MAIN_KINDS)
def test_a_deterministic_row_is_the_same_beside_others(checkpoints: dict[str, Path], name: str) -> None:
    model = ModelRunner(open_base(spec_of(checkpoints[name])).model, deterministic=True)
    requests = random_requests(4, LEAST_ROWS // 8, [None])
    together = generate(model, requests)
    assert together == [generate(model, [request])[0] for request in requests]


def test_kinds_that_differ_only_in_their_word_are_other_bases(checkpoints: dict[str, Path]) -> None:
    prints = {name: open_base(spec_of(path)).fingerprint for name, path in checkpoints.items()}
    assert len(set(prints.values())) == len(KINDS)


def test_a_position_bias_of_the_second_layer_is_part_of_umt5(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    model = family_model(KINDS["umT5"])
    bias = model.decoder.block[1].layer[0].SelfAttention.relative_attention_bias.weight
    with torch.no_grad():
        bias[0] += 1.0
    folder = save_family(tmp_path / "other", KINDS["umT5"])
    model.save_pretrained(folder)
    other, base = open_base(spec_of(folder)), open_base(spec_of(checkpoints["umT5"]))
    assert other.fingerprint != base.fingerprint
    assert not torch.allclose(logits(other.model), logits(base.model), atol=1e-3)


def test_transformers_own_class_agrees_where_it_scales_rightly(checkpoints: dict[str, Path]) -> None:
    """transformers 5 scales an untied umT5's states as if its head were tied; we do not, as transformers 4."""
    for name, path in checkpoints.items():
        theirs, ours = logits(AutoModelForSeq2SeqLM.from_pretrained(path)), logits(open_base(spec_of(path)).model)
        if name == "umT5":
            theirs = theirs * 32**0.5
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
