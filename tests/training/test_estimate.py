"""Parameters and weights to the byte; memory against what autograd really keeps; steps, tokens and time."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import T5Config, T5ForConditionalGeneration

from flan_lora.base.load import fuse_gelu, open_base
from flan_lora.recipe import Recipe
from flan_lora.training.doctor import FLAN_T5_LARGE
from flan_lora.training.estimate import (
    Lengths,
    Machine,
    Shape,
    Speed,
    estimate,
    trainable_parameters,
    training_bytes,
    training_flops,
)
from flan_lora.training.lora import add_lora
from tests.checkpoint import save_checkpoint
from tests.tiny import tiny_config, tiny_t5

ALL = ("q", "k", "v", "o", "wi_0", "wi_1", "wo")
CPU = Machine("cpu", bf16=True)
ROWS = Lengths([30, 20, 10] * 10, [5, 4, 3] * 10, num_truncated=3)


def recipe(quantization: str = "int8", rank: int = 16, modules: tuple[str, ...] = ALL, **sections: Any) -> Recipe:
    values = {
        "name": "x",
        "task": "emotion",
        "base": {"quantization": quantization},
        "data": {"dataset": "a/b"},
        "lora": {"rank": rank, "target_modules": modules, **sections.pop("lora", {})},
        "training": {"batch_size": 8, **sections.pop("training", {})},
        "evaluation": {"batch_size": 1, **sections.pop("evaluation", {})},
    }
    assert not sections
    return Recipe.model_validate(values)


def large() -> T5Config:
    return T5Config(**FLAN_T5_LARGE)


# Counts


def test_q_and_v_at_rank_16_train_4718592_parameters_of_flan_t5_large() -> None:
    assert trainable_parameters(Shape.of(large()), recipe(modules=("q", "v")).lora) == 4_718_592


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize(
    ("modules", "overrides"),
    [
        (("q", "v"), {}),
        (ALL, {}),
        (("wo",), {"d_ff": 48, "num_decoder_layers": 3}),
        (("q", "wi_0"), {"feed_forward_proj": "relu"}),
        (("k", "o"), {"num_heads": 3}),
    ],
)
def test_trainable_parameters_are_those_that_peft_makes(
    modules: tuple[str, ...], overrides: dict[str, Any], use_dora: bool
) -> None:
    config = tiny_config(**overrides)
    with torch.device("meta"):
        model = T5ForConditionalGeneration(config)
        peft_model = get_peft_model(
            model, LoraConfig(r=3, target_modules=list(modules), use_dora=use_dora), low_cpu_mem_usage=True
        )
    expected = sum(p.numel() for p in peft_model.parameters() if p.requires_grad)
    assert trainable_parameters(
        Shape.of(config), recipe(rank=3, modules=modules, lora={"use_dora": use_dora}).lora
    ) == (expected)


def test_all_linears_of_flan_t5_large_agree_with_peft_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = T5ForConditionalGeneration(large())
        peft_model = get_peft_model(model, LoraConfig(r=16, target_modules=list(ALL)), low_cpu_mem_usage=True)
    expected = sum(p.numel() for p in peft_model.parameters() if p.requires_grad)
    assert trainable_parameters(Shape.of(large()), recipe().lora) == expected == 18_284_544


@pytest.mark.parametrize("overrides", [{}, {"num_decoder_layers": 3, "d_ff": 40}, {"feed_forward_proj": "relu"}])
def test_base_parameters_are_counted_exactly(overrides: dict[str, Any]) -> None:
    model = tiny_t5(**overrides)
    assert Shape.of(model.config).num_parameters == sum(p.numel() for p in model.parameters())


def test_a_tied_head_is_counted_once() -> None:
    config = T5Config(**{**FLAN_T5_LARGE, "tie_word_embeddings": True})
    assert Shape.of(config).num_parameters == 750_251_008
    assert Shape.of(large()).num_parameters == 783_150_080


@pytest.mark.parametrize(
    ("quantization", "num_bytes"), [("int8", 989_747_200), ("bf16", 1_566_300_160), ("fp32", 3_132_600_320)]
)
def test_flan_t5_large_takes_what_was_measured(quantization: str, num_bytes: int) -> None:
    """Measured once with `base_bytes` on a real load; test_base holds the same formula against small loads."""
    assert Shape.of(large()).base_bytes(quantization) == num_bytes


# Memory


def kept_bytes(config: T5Config, lora: Recipe, dtype: torch.dtype, rows: int, source: int, target: int) -> int:
    """What autograd keeps for the backward pass: every saved tensor once, weights left out."""
    model = T5ForConditionalGeneration(config).to(dtype).requires_grad_(False)
    fuse_gelu(model)
    peft_config = LoraConfig(
        r=1, target_modules=list(lora.lora.target_modules), lora_dropout=0.05, use_dora=lora.lora.use_dora
    )
    peft_model = get_peft_model(model, peft_config).train()
    weights = {p.untyped_storage().data_ptr() for p in peft_model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # holds the storages, so that no address is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    ids, labels = (torch.randint(2, 100, (rows, length)) for length in (source, target))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            peft_model(input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=labels)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("modules", [("q", "v"), ALL])
@pytest.mark.parametrize(("num_encoder", "num_decoder"), [(3, 2), (1, 4)])
@pytest.mark.parametrize(("quantization", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_activation_bytes_are_what_autograd_keeps(
    modules: tuple[str, ...], num_encoder: int, num_decoder: int, quantization: str, dtype: torch.dtype
) -> None:
    layers = {"num_layers": num_encoder, "num_decoder_layers": num_decoder}
    config = tiny_config(d_model=64, d_ff=96, num_heads=4, d_kv=16, **layers)
    plan = recipe(quantization, modules=modules)
    machine = Machine("cpu", bf16=dtype == torch.bfloat16)
    expected = kept_bytes(config, plan, dtype, rows=8, source=64, target=24)
    logits = 8 * 14 * 24 * config.vocab_size  # the loss, which this test does not compute
    got = training_bytes(Shape.of(config), plan, Lengths([64] * 8, [24] * 8), machine) - logits
    assert got == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize(("quantization", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_activation_bytes_of_dora_are_what_autograd_keeps(quantization: str, dtype: torch.dtype) -> None:
    config = tiny_config(d_model=64, d_ff=96, num_heads=4, d_kv=16, num_layers=3, num_decoder_layers=2)
    plan, machine = recipe(quantization, lora={"use_dora": True}), Machine("cpu", bf16=dtype == torch.bfloat16)
    expected = kept_bytes(config, plan, dtype, rows=8, source=64, target=24)
    got = training_bytes(Shape.of(config), plan, Lengths([64] * 8, [24] * 8), machine)
    assert got - 8 * 14 * 24 * config.vocab_size == pytest.approx(expected, rel=0.06)


def peak_of_a_step(recipe: Recipe, folder: Path, rows: int, source: int, target: int) -> tuple[int, T5Config]:
    """Bytes that torch's allocator has handed out at most during a training step, beside base and adapter."""
    base = open_base(recipe.base.at(str(folder)), device="cpu")
    model = add_lora(recipe, base).train()
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad])
    ids, labels = (torch.randint(2, 100, (rows, length)) for length in (source, target))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=base.dtype == torch.bfloat16):
            batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": labels}
            logits = model(**batch).logits
        torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten()).backward()
        del logits
        optimizer.step()
        optimizer.zero_grad()

    step()  # AdamW's moments are there from now on
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as found:
        step()
    assert found.profiler is not None
    events = [each for each in found.profiler.kineto_results.events() if each.name() == "[memory]"]
    sizes = [each.nbytes() for each in sorted(events, key=lambda each: each.start_ns())]
    return max(accumulate(sizes)), base.model.config


@pytest.mark.parametrize("use_dora", [False, True], ids=["LoRA", "DoRA"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("quantization", ["fp32", "bf16", "int8", "nf4"])
def test_a_step_takes_what_is_estimated_within_15_percent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantization: str, checkpointing: bool, use_dora: bool
) -> None:
    monkeypatch.setattr("flan_lora.system.devices.has_bf16", lambda device: quantization != "fp32")
    layers = {"num_layers": 4, "num_decoder_layers": 4}
    save_checkpoint(tmp_path, tiny_t5(d_model=64, d_ff=128, num_heads=4, d_kv=16, **layers))
    plan = recipe(
        quantization,
        lora={"use_dora": use_dora, "dropout": 0.05},
        training={"gradient_checkpointing": checkpointing},
        rank=2,
    )
    found, config = peak_of_a_step(plan, tmp_path, rows=8, source=96, target=48)
    shape, machine = Shape.of(config), Machine("cpu", bf16=quantization != "fp32")
    gradients = 4 * trainable_parameters(shape, plan.lora)
    expected = training_bytes(shape, plan, Lengths([96] * 8, [48] * 8), machine) + gradients
    assert expected == pytest.approx(found, rel=0.15)


def activation_bytes(rows: Lengths = ROWS, machine: Machine = CPU, **sections: Any) -> int:
    return estimate(recipe(**sections), large(), rows, machine).activation_bytes


def test_checkpointing_and_smaller_micro_batches_save_memory() -> None:
    plain = activation_bytes()
    assert activation_bytes(training={"gradient_checkpointing": True}) < 0.3 * plain
    assert activation_bytes(training={"micro_batch_size": 2}) == pytest.approx(plain / 4, rel=0.01)


def test_devices_share_a_batch() -> None:
    assert activation_bytes(machine=Machine("cpu", True, num_processes=4)) == pytest.approx(
        activation_bytes() / 4, rel=0.01
    )


def test_only_the_cpu_keeps_attention_scores() -> None:
    long_rows = Lengths([512] * 8, [16] * 8)
    assert activation_bytes(long_rows, Machine("cuda", True)) < 0.7 * activation_bytes(long_rows, CPU)


def test_generation_counts_when_it_needs_more_than_training() -> None:
    small = {"training": {"batch_size": 8, "micro_batch_size": 1, "gradient_checkpointing": True}}
    one, many = (activation_bytes(**small, evaluation={"batch_size": n}) for n in (1, 256))
    assert many > 10 * one


def test_the_peak_is_the_sum_of_its_parts() -> None:
    cost = estimate(recipe(), large(), ROWS, CPU)
    parts = cost.base_bytes + cost.activation_bytes + cost.optimizer_bytes + cost.process_bytes
    assert cost.peak_bytes == parts
    assert cost.optimizer_bytes == 4 * cost.adapter_bytes == 16 * cost.num_trainable


# Steps, tokens, time


@pytest.mark.parametrize(
    ("training", "num_steps", "passes"),
    [
        ({"epochs": 3.0}, 12, 3.0),
        ({"epochs": 0.5}, 2, 0.5),
        ({"max_steps": 6}, 6, 1.5),
        ({"batch_size": 30, "epochs": 2.0}, 2, 2.0),
    ],
)
def test_steps_and_tokens(training: dict[str, Any], num_steps: int, passes: float) -> None:
    cost = estimate(recipe(training=training), large(), ROWS, CPU)
    assert cost.num_steps == num_steps
    assert cost.num_source_tokens == 600 * passes
    assert cost.num_target_tokens == 120 * passes
    assert cost.truncated_share == 0.1


def test_flops_of_a_token_are_four_per_weight_that_it_meets() -> None:
    """A frozen weight: two operations forward, two for its input's gradient. One row, hand-counted."""
    shape = Shape.of(tiny_config())  # d_model 32, inner 32, d_ff 64, 2 + 2 layers, vocabulary 128
    attention, feed_forward = 4 * 32 * 32, 3 * 32 * 64
    encoder, cross = 2 * (attention + feed_forward), 2 * (2 * 32 * 32)
    decoder = 2 * (attention + 2 * 32 * 32 + feed_forward) + 32 * 128
    pairs = 2 * 10 * 10 + 2 * 4 * (10 + 4)
    expected = 4 * (10 * (encoder + cross) + 4 * decoder) + 12 * 32 * pairs
    assert training_flops(shape, Lengths([10], [4]), gradient_checkpointing=False) == expected
    assert training_flops(shape, Lengths([10], [4]), gradient_checkpointing=True) == 1.5 * expected


def test_time_needs_a_measured_speed() -> None:
    unknown = estimate(recipe(), large(), ROWS, CPU)
    assert unknown.seconds is None
    assert unknown.seconds_reason == "no speed was measured"
    speed = Speed(flops_per_s=unknown.flops / 50, origin="measured here")
    known = estimate(recipe(), large(), ROWS, Machine("cpu", True, num_processes=2, speed=speed))
    assert known.seconds == pytest.approx(25)
    assert known.seconds_reason == "measured here"


def test_the_printed_form_names_every_quantity() -> None:
    text = str(estimate(recipe(modules=("q", "v")), large(), ROWS, CPU))
    for part in (
        "30 (10.0% of the sources are cut)",
        "optimizer steps     12",
        "1,800 source, 360 target",
        "783,150,080 parameters, 989.7 MB",
        "4,718,592 parameters, adapter file 18.9 MB",
        "unknown (no speed was measured)",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(30, "about 30 s"), (600, "about 10 min"), (36_000, "about 10.0 h")]
)
def test_times_are_printed_in_a_fitting_unit(seconds: float, text: str) -> None:
    flops = estimate(recipe(), large(), ROWS, CPU).flops
    machine = Machine("cpu", True, speed=Speed(flops / seconds, "measured here"))
    assert f"{text} (measured here)" in str(estimate(recipe(), large(), ROWS, machine))


def test_this_machine_is_looked_at_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("flan_lora.system.devices.has_bf16", lambda device: True)
    assert Machine.here(recipe(training={"precision": "fp32"})) == Machine("cpu", False, 2)
    monkeypatch.setattr("flan_lora.system.devices.has_bf16", lambda device: False)
    assert Machine.here(recipe()) == Machine("cpu", False, 2, rest_bytes=4)
    assert Machine.here(recipe(training={"precision": "bf16"})).bf16


def test_an_encoded_split_gives_its_lengths() -> None:
    from flan_lora.data.encoding import EncodedSplit

    rows = EncodedSplit(
        input_ids=[[5, 6, 1], [7, 1]], labels=[[8, 1], [9, 9, 1]], num_source_truncated=1, num_target_truncated=0,
        unk_share_source=0.0, unk_share_target=0.0, content_hash="x",
    )  # fmt: skip
    assert estimate(recipe(), large(), rows, CPU) == estimate(recipe(), large(), Lengths([3, 2], [2, 3], 1), CPU)
