"""The frozen base: what is loaded in which precision, what is refused, and what each refusal says."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import T5ForConditionalGeneration

from flan_lora.base import load as base_module
from flan_lora.base.load import (
    MINI,
    Base,
    base_slug,
    enable_gradient_checkpointing,
    open_base,
    open_config,
    open_tokenizer,
)
from flan_lora.base.quantised import base_bytes
from flan_lora.errors import BaseModelError
from flan_lora.mini import MINI_PATH
from flan_lora.training.estimate import Shape
from tests.checkpoint import edit_config, save_checkpoint, spec_of
from tests.tiny import tiny_config, tiny_t5

QUANTIZATIONS = ("int8", "bf16", "fp32")
IDS = torch.tensor([[3, 17, 40, 9, 1], [5, 6, 1, 0, 0]])
MASK = IDS.ne(0).long()
LABELS = torch.tensor([[8, 30, 1], [12, 1, -100]])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkpoint of the test's own, to damage."""
    return save_checkpoint(tmp_path / "copy")


def logits(base: Base, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.inference_mode():
        return base.model(
            input_ids=ids, attention_mask=ids.ne(0).long(), decoder_input_ids=ids[:, :2]
        ).logits.float()


# What is loaded


@pytest.mark.parametrize("has_fast_bf16", [True, False])
def test_int8_covers_the_attention_and_wi_and_the_rest_is_what_the_hardware_is_fast_at(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, has_fast_bf16: bool
) -> None:
    monkeypatch.setattr("flan_lora.system.devices.has_bf16", lambda device: has_fast_bf16)
    rest = torch.bfloat16 if has_fast_bf16 else torch.float32
    base = open_base(spec_of(checkpoint, "int8"))
    kinds: dict[torch.dtype, set[str]] = {}
    for name, parameter in base.model.named_parameters():
        kinds.setdefault(parameter.dtype, set()).add(name.split(".")[-2])
    assert kinds == {
        torch.int8: {"q", "k", "v", "o", "wi_0", "wi_1"},
        rest: {"wo", "lm_head", "shared", "layer_norm", "final_layer_norm", "relative_attention_bias"},
    }
    assert base.dtype == rest


@pytest.mark.parametrize("has_fast_bf16", [True, False])
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_weights_take_exactly_the_bytes_that_the_estimate_says(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, quantization: str, has_fast_bf16: bool
) -> None:
    monkeypatch.setattr("flan_lora.system.devices.has_bf16", lambda device: has_fast_bf16)
    model = open_base(spec_of(checkpoint, quantization)).model
    rest_bytes = 2 if has_fast_bf16 else 4
    assert base_bytes(model) == Shape.of(model.config).base_bytes(quantization, rest_bytes)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_a_base_is_frozen_and_in_evaluation_mode(checkpoint: Path, quantization: str) -> None:
    model = open_base(spec_of(checkpoint, quantization)).model
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(("quantization", "tolerance"), [("int8", 0.1), ("bf16", 0.05), ("fp32", 1e-6)])
def test_every_precision_computes_what_the_checkpoint_computes(
    checkpoint: Path, quantization: str, tolerance: float
) -> None:
    with torch.inference_mode():
        expected = tiny_t5()(input_ids=IDS, attention_mask=MASK, decoder_input_ids=IDS[:, :2]).logits
    got = logits(open_base(spec_of(checkpoint, quantization)))
    assert (got - expected).norm() / expected.norm() < tolerance


def test_a_feed_forward_keeps_three_wide_tensors_for_the_backward_pass(checkpoint: Path) -> None:
    """The GELU's input and output, and the gate; transformers' own steps keep six."""
    dense: Any = open_base(spec_of(checkpoint, "fp32")).model.encoder.block[0].layer[-1]
    x = torch.randn(2, 5, 32, requires_grad=True)
    kept: dict[int, torch.Size] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.shape
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = dense.DenseReluDense(x)
    assert output.requires_grad and list(kept.values()).count(torch.Size((2, 5, 64))) == 3


@pytest.mark.parametrize(("quantization", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_a_half_precision_checkpoint_is_never_run_in_fp16(
    tmp_path: Path, quantization: str, dtype: torch.dtype
) -> None:
    folder = save_checkpoint(tmp_path, tiny_t5().half())
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"
    model = open_base(spec_of(folder, quantization)).model
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


def test_the_outlier_threshold_reaches_every_int8_linear(checkpoint: Path) -> None:
    for threshold in (0.0, 6.0):
        model = open_base(spec_of(checkpoint, "int8", int8_threshold=threshold)).model
        found = {m.state.threshold for m in model.modules() if type(m).__name__ == "Linear8bitLt"}
        assert found == {threshold}


def test_a_row_gets_the_answer_in_a_batch_that_it_gets_alone(checkpoint: Path) -> None:
    base = open_base(spec_of(checkpoint, "int8"))
    together = logits(base)
    for row in range(len(IDS)):
        torch.testing.assert_close(logits(base, IDS[row : row + 1])[0], together[row], rtol=0, atol=0.02)


def test_int8_matmuls_do_not_log(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = open_base(spec_of(checkpoint, "int8"))
    with caplog.at_level(logging.WARNING):
        logits(base)
    assert [record.message for record in caplog.records if "MatMul8bitLt" in record.message] == []


def test_loading_prints_nothing(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    open_base(spec_of(checkpoint, "bf16"))
    assert capfd.readouterr() == ("", "")


def test_what_quantising_freed_is_given_back_before_the_cast_takes_more(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of flan-t5-large's shapes the peak of opening is 1.6 GB this way, and 2.2 to 2.5 GB otherwise."""
    order: list[str] = []

    def cast(
        model: T5ForConditionalGeneration, dtype: torch.dtype, real: Any = base_module.cast_unquantised
    ) -> None:
        order.append("cast")
        real(model, dtype)

    monkeypatch.setattr(base_module, "return_freed_memory", lambda: order.append("given back"))
    monkeypatch.setattr(base_module, "cast_unquantised", cast)
    open_base(spec_of(checkpoint, "int8"), device="cpu")
    assert order == ["given back", "cast", "given back"]


def test_the_mini_base_opens() -> None:
    if not MINI_PATH.is_dir():
        pytest.skip("the embedded checkpoint is not in this checkout")
    base = open_base(spec_of(MINI, "int8"))
    ids = base.tokenizer("What is the emotion?", return_tensors="pt").input_ids
    assert base.slug == "mini"
    assert ids[0, -1] == base.model.config.eos_token_id
    assert logits(base, ids).isfinite().all()


# The head


def test_an_untied_head_stays_untied_whatever_is_called(checkpoint: Path) -> None:
    model = open_base(spec_of(checkpoint, "fp32")).model
    head = model.lm_head.weight.clone()
    model.tie_weights()
    assert torch.equal(model.lm_head.weight, head)
    assert model.lm_head.weight is not model.shared.weight
    assert model.encoder.embed_tokens.weight is model.shared.weight
    assert model.decoder.embed_tokens.weight is model.shared.weight


def test_a_base_that_is_saved_again_says_that_its_head_is_untied(checkpoint: Path, tmp_path: Path) -> None:
    open_base(spec_of(checkpoint, "fp32")).model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    assert torch.equal(
        load_file(tmp_path / "model.safetensors")["lm_head.weight"],
        load_file(checkpoint / "model.safetensors")["lm_head.weight"],
    )


def test_the_original_t5_with_its_tied_head_opens(tmp_path: Path) -> None:
    config = tiny_config(tie_word_embeddings=True)
    config.tie_word_embeddings = True
    folder = save_checkpoint(tmp_path, T5ForConditionalGeneration(config))
    model = open_base(spec_of(folder, "fp32")).model
    assert model.config.scale_decoder_outputs
    assert model.lm_head.weight is model.shared.weight


def test_a_checkpoint_that_lost_its_head_is_refused(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseModelError, match=r"its weights hold no lm_head\.weight that differs"):
        open_base(spec_of(copy))


# What is refused, and what it says


@pytest.mark.parametrize("model_type", ["longt5", "switch_transformers", "bart", None])
def test_only_the_t5_family_is_accepted(copy: Path, model_type: str | None) -> None:
    edit_config(copy, model_type=model_type)
    with pytest.raises(BaseModelError, match=r"is not a T5 \(model_type is .*expected t5 or mt5 or umt5\)"):
        open_base(spec_of(copy))


def test_a_quantised_checkpoint_is_refused(copy: Path) -> None:
    edit_config(copy, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    with pytest.raises(BaseModelError, match=r"already quantised \(bitsandbytes\).*\n.*unquantised checkpoint"):
        open_base(spec_of(copy, "int8"))


def test_a_missing_folder_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"there is no such folder\.\nGive a folder .*--base mini"):
        open_base(spec_of(tmp_path / "nowhere"))


def test_a_folder_without_a_config_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BaseModelError, match=r"has no config\.json \(it holds notes\.txt\)"):
        open_config(spec_of(tmp_path))


def test_a_config_that_is_not_json_is_an_error(copy: Path) -> None:
    (copy / "config.json").write_text("{")
    with pytest.raises(BaseModelError, match=r"cannot be read: .*\nRestore the folder"):
        open_config(spec_of(copy))


def test_pickled_weights_are_never_loaded(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(BaseModelError, match=r"has no model\.safetensors; pickled weights .* are never loaded\."):
        open_base(spec_of(copy))


def test_a_folder_without_weights_is_an_error(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(BaseModelError, match=r"has no model\.safetensors"):
        open_base(spec_of(copy))


def test_a_truncated_file_is_an_error(copy: Path) -> None:
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(BaseModelError, match="cannot be read"):
        open_base(spec_of(copy))


@pytest.mark.parametrize("damage", ["missing", "reshaped"])
@pytest.mark.parametrize("quantization", ["int8", "fp32"])
def test_an_incomplete_checkpoint_is_refused_not_filled_with_noise(
    copy: Path, damage: str, quantization: str
) -> None:
    tensors = load_file(copy / "model.safetensors")
    name = "encoder.block.1.layer.1.DenseReluDense.wi_0.weight"
    weight = tensors.pop(name)
    if damage == "reshaped":
        tensors[name] = weight[:7].clone()
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseModelError, match=r"is incomplete: 1 of its tensors .*\n.*wi_0\.weight"):
        open_base(spec_of(copy, quantization))


def test_a_checkpoint_without_a_tokenizer_does_not_get_an_empty_one(copy: Path) -> None:
    for file in copy.glob("*token*"):
        file.unlink()
    with pytest.raises(BaseModelError, match=r"no tokenizer that can be used: its files are missing.*\nPut the"):
        open_tokenizer(spec_of(copy))


def test_a_tokenizer_file_that_cannot_be_read_is_an_error(copy: Path) -> None:
    (copy / "tokenizer_config.json").write_text("{")
    with pytest.raises(BaseModelError, match="no tokenizer that can be used"):
        open_tokenizer(spec_of(copy))


def test_a_tokenizer_with_more_pieces_than_the_model_is_refused(copy: Path) -> None:
    edit_config(copy, vocab_size=100)
    with pytest.raises(BaseModelError, match="it has 113 pieces, the model only 100"):
        open_tokenizer(spec_of(copy))


@pytest.mark.parametrize("open_part", [open_base, open_config, open_tokenizer])
def test_offline_and_not_cached_points_to_mini(open_part: object) -> None:
    assert callable(open_part)
    with pytest.raises(
        BaseModelError, match=r"nobody/no-such-base @ v2 is not in the local cache .*\nUse --base mini"
    ):
        open_part(spec_of("nobody/no-such-base", revision="v2"))


def test_an_unknown_hub_id_is_told_apart_from_being_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_module, "hub_is_reachable", lambda: True)
    with pytest.raises(BaseModelError, match=r"was not found on the Hugging Face Hub: .*\nCheck the id"):
        open_config(spec_of("nobody/no-such-base"))


def test_an_installation_without_mini_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(base_module, "MINI_PATH", tmp_path / "checkpoint")
    with pytest.raises(BaseModelError, match=r"embedded base is not in this installation\.\n.*\nReinstall"):
        open_base(spec_of(MINI))


# Names


@pytest.mark.parametrize(
    ("model", "slug"),
    [
        ("mini", "mini"),
        ("google/flan-t5-large", "flan-t5-large"),
        ("t5-small", "t5-small"),
        ("Someone/My_T5 v1.1", "my_t5-v1.1"),
        ("./bases/My Base/", "my-base"),
        ("../..../", "base"),
    ],
)
def test_the_slug_is_a_safe_folder_name(model: str, slug: str) -> None:
    assert base_slug(spec_of(model)) == slug


def test_a_folder_called_mini_is_a_folder_when_written_as_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "mini")
    monkeypatch.chdir(tmp_path)
    assert open_config(spec_of("./mini")).vocab_size == tiny_config().vocab_size


def test_a_config_without_a_decoder_start_gets_t5s_own(copy: Path) -> None:
    edit_config(copy, decoder_start_token_id=None)
    assert open_config(spec_of(copy)).decoder_start_token_id == 0


# Gradient checkpointing


def lora_gradients(folder: Path, quantization: str, checkpointing: str) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of every LoRA weight, and how often the first block ran."""
    base = open_base(spec_of(folder, quantization))
    if checkpointing == "before LoRA":
        enable_gradient_checkpointing(base)
    torch.manual_seed(0)
    peft_model = get_peft_model(base.model, LoraConfig(r=2, target_modules=["q", "v", "wi_0"], lora_dropout=0.2))
    if checkpointing == "after LoRA":
        enable_gradient_checkpointing(base)
    trainable = {name: weight for name, weight in peft_model.named_parameters() if weight.requires_grad}
    for weight in trainable.values():
        torch.nn.init.normal_(weight)  # B = 0 would make the gradient of A zero either way
    runs: list[int] = []
    base.model.encoder.block[0].layer[0].SelfAttention.k.register_forward_hook(lambda *_: runs.append(1))
    torch.manual_seed(1)  # the dropout must be the same in the second forward pass
    peft_model.train()(input_ids=IDS, attention_mask=MASK, labels=LABELS).loss.backward()
    assert all(weight.grad is not None for weight in trainable.values())
    return {name: weight.grad for name, weight in trainable.items() if weight.grad is not None}, len(runs)


@pytest.mark.parametrize("quantization", ["int8", "bf16"])
def test_checkpointing_recomputes_and_changes_no_gradient(checkpoint: Path, quantization: str) -> None:
    plain, num_runs = lora_gradients(checkpoint, quantization, "none")
    assert num_runs == 1
    for order in ("before LoRA", "after LoRA"):
        gradients, num_runs = lora_gradients(checkpoint, quantization, order)
        assert num_runs == 2
        assert all(torch.equal(plain[name], gradients[name]) for name in plain)
    assert any(gradient.abs().sum() > 0 for gradient in plain.values())
