"""The doctor tries things and says what to do; whatever is broken becomes a finding, never a traceback."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import T5Config

from flan_lora.base import load as base_module
from flan_lora.errors import BaseModelError
from flan_lora.recipe import BaseSection, Recipe
from flan_lora.tasks import TASKS
from flan_lora.training import doctor
from flan_lora.training import speed as speed_module
from flan_lora.training.doctor import Finding
from flan_lora.training.estimate import Speed
from tests.tiny import tiny_config


def by_name(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


@pytest.fixture
def known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 TFLOP/s, without measuring."""
    monkeypatch.setattr(doctor, "measure_speed", lambda recipe, config: Speed(1e12, "given"))


@pytest.fixture
def recipe() -> Recipe:
    values = {"name": "x", "task": "emotion", "data": {"dataset": "a/b", "max_source_tokens": 40}}
    return Recipe.model_validate(values)


@pytest.mark.usefixtures("known_speed")
def test_an_examination_covers_everything() -> None:
    names = [finding.name for finding in doctor.examine()]
    expected = ["python", *doctor.MINIMUM_VERSIONS, "device", "bf16", "int8", "memory"]
    expected += ["hub cache", "token cache", "this folder", "hub", "mini", "recipes", "emotion on mini"]
    assert [name for name in expected if name not in names] == []
    assert "emotion on google/flan-t5-large" in names


def test_the_minimum_versions_are_those_of_pyproject(repo: Path) -> None:
    text = (repo / "pyproject.toml").read_text(encoding="utf-8")
    declared = dict(re.findall(r'^    "([a-z0-9-]+)>=([\d.]+)', text, re.MULTILINE))
    assert {name: declared[name] for name in doctor.MINIMUM_VERSIONS} == doctor.MINIMUM_VERSIONS
    assert f'requires-python = ">={".".join(map(str, doctor.MINIMUM_PYTHON))}"' in text


def test_versions_that_are_old_or_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package == "peft":
            raise importlib.metadata.PackageNotFoundError(package)
        return {"torch": "2.4.1", "transformers": "5.10.0"}.get(package, "99.0")

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    found = by_name(doctor.check_versions())
    assert found["torch"] == Finding("torch", "2.4.1 (>= 2.5)", False, "pip install 'torch>=2.5'")
    assert found["peft"] == Finding("peft", "missing (>= 0.19)", False, "pip install 'peft>=0.19'")
    assert found["transformers"].ok
    assert found["python"].ok


QUANTISED_CHECKS = {"int8": doctor.check_int8, "nf4": doctor.check_nf4}


@pytest.mark.parametrize("quantization", QUANTISED_CHECKS)
def test_quantised_linears_are_really_run(quantization: str) -> None:
    (finding,) = QUANTISED_CHECKS[quantization]()
    assert finding.ok and finding.name == quantization
    assert re.fullmatch(r"works on (cpu|cuda) \(relative error forward \d\.\d%, backward \d\.\d%\)", finding.value)


@pytest.mark.parametrize("quantization", QUANTISED_CHECKS)
def test_codes_are_rounded_so_their_error_is_never_zero(quantization: str) -> None:
    forward, backward = doctor.quantisation_errors(
        BaseSection.model_validate({"quantization": quantization}), torch.device("cpu")
    )
    assert 0.001 < forward < doctor.TOLERANCES[quantization]
    assert 0.001 < backward < doctor.TOLERANCES[quantization]


@pytest.mark.parametrize("quantization", QUANTISED_CHECKS)
@pytest.mark.parametrize("factor", [1.4, float("nan"), float("inf")])
def test_kernels_that_compute_nonsense_are_found(
    monkeypatch: pytest.MonkeyPatch, factor: float, quantization: str
) -> None:
    def broken(weight: torch.Tensor, spec: BaseSection, device: torch.device) -> torch.nn.Module:
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.bfloat16)
        linear.weight.data = (weight * factor).bfloat16()
        return linear

    monkeypatch.setattr(doctor, "quantised_linear", broken)
    (finding,) = QUANTISED_CHECKS[quantization]()
    assert not finding.ok
    assert finding.value.startswith("wrong results on")
    assert finding.advice.startswith("Use base.quantization=bf16")


@pytest.mark.parametrize("errors", [(0.01, float("nan")), (float("nan"), 0.01), (0.01, 0.5)])
def test_one_wrong_direction_is_enough(monkeypatch: pytest.MonkeyPatch, errors: tuple[float, float]) -> None:
    monkeypatch.setattr(doctor, "quantisation_errors", lambda spec, device: errors)
    assert not next(doctor.check_int8()).ok


def test_a_check_that_breaks_is_a_finding_and_keeps_what_it_found() -> None:
    def check_kettle() -> Iterator[Finding]:
        yield Finding("water", "hot")
        raise RuntimeError("no gas\nand no matches")

    first, second = doctor.findings_of(check_kettle)
    assert first == Finding("water", "hot")
    assert second == Finding("kettle", "failed: RuntimeError: no gas", False, second.advice)
    assert "Reinstall" in second.advice


def test_an_error_that_has_a_next_step_keeps_it() -> None:
    def check_mini() -> Iterator[Finding]:
        raise BaseModelError("it is gone.\nGet it back.")
        yield

    (finding,) = doctor.findings_of(check_mini)
    assert finding.advice == "it is gone.\nGet it back."


def test_a_container_has_less_memory_than_its_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    limit = tmp_path / "memory.max"
    limit.write_text("3000000000\n")
    assert doctor.container_limit_bytes(limit) == 3_000_000_000
    limit.write_text("max\n")
    assert doctor.container_limit_bytes(limit) is None
    assert doctor.container_limit_bytes(tmp_path / "none") is None

    monkeypatch.setattr(doctor, "container_limit_bytes", lambda: 3_000_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=20e9, total=24e9))
    finding = next(doctor.check_memory())
    assert re.fullmatch(r"[012]\.\d GB free of 3\.0 GB", finding.value)


def test_a_full_disk_is_found_and_the_home_folder_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e9))
    monkeypatch.setenv("FLAN_LORA_CACHE", str(Path.home() / "not" / "yet" / "there"))
    finding = by_name(doctor.check_disk())["token cache"]
    assert not finding.ok
    assert finding.value.replace("\\", "/").startswith("~/not/yet/there, 1 GB free")


def test_a_cache_that_is_off_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAN_LORA_CACHE", "off")
    assert by_name(doctor.check_disk())["token cache"] == Finding("token cache", "off")


def test_being_offline_is_a_finding_with_the_ways_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "hub_is_reachable", lambda timeout_s: False)
    (finding,) = doctor.check_hub()
    assert not finding.ok
    assert "--base mini" in finding.advice
    monkeypatch.setattr(doctor, "hub_is_reachable", lambda timeout_s: True)
    (finding,) = doctor.check_hub()
    assert finding.ok


def test_the_embedded_base_is_loaded_and_shows_one_fingerprint() -> None:
    (finding,) = doctor.check_mini()
    assert finding.ok
    assert re.match(r"fingerprint [0-9a-f]{8}, [\d,]+ parameters$", finding.value)


def test_an_embedded_base_that_is_missing_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(base_module, "MINI_PATH", tmp_path)
    (finding,) = doctor.findings_of(doctor.check_mini)
    assert not finding.ok
    assert "Reinstall flan-lora" in finding.advice


def test_loads_that_disagree_on_the_fingerprint_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.open_base
    fakes = iter("ab")

    def disagreeing(spec: object) -> object:
        base = real(spec)  # type: ignore[arg-type]
        return SimpleNamespace(model=base.model, device=base.device, fingerprint=next(fakes) * 64)

    monkeypatch.setattr(doctor, "open_base", disagreeing)
    (finding,) = doctor.check_mini()
    assert not finding.ok
    assert "int8 and fp32 disagree" in finding.value


# Costs


@pytest.mark.usefixtures("known_speed")
def test_every_shipped_recipe_is_costed_on_both_bases(repo: Path) -> None:
    names = {path.stem for path in (repo / "recipes").glob("*.yaml")}
    found = by_name(doctor.check_recipes())
    for name in names:
        small, large = (found[f"{name} on {model}"].value for model in ("mini", "google/flan-t5-large"))
        assert re.fullmatch(r"\d+\.\d GB, about \d+ (s|min|h|days) \([\d,]+ steps\)", small)
        assert float(small.split()[0]) < float(large.split()[0])
    assert names


@pytest.mark.usefixtures("known_speed")
def test_a_recipe_that_does_not_fit_names_the_dials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "free_bytes", lambda recipe: 1e9)
    finding = by_name(doctor.check_recipes())["qa on google/flan-t5-large"]
    assert not finding.ok
    assert "training.micro_batch_size" in finding.advice
    assert "training.gradient_checkpointing=true" in finding.advice


def test_typical_lengths_are_known_for_every_task() -> None:
    assert all(task.public_data is not None for task in TASKS.values())


def test_a_task_without_public_data_is_planned_by_the_recipes_limits(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, "emotion", replace(TASKS["emotion"], public_data=None))
    lengths = speed_module.typical_lengths(recipe)
    assert len(lengths.source) == 10_000 and set(lengths.source) == {recipe.data.max_source_tokens}
    assert set(lengths.target) == {recipe.data.max_target_tokens}


def test_typical_lengths_keep_the_recipes_limits(recipe: Recipe) -> None:
    lengths = speed_module.typical_lengths(recipe)
    assert len(lengths.source) == len(lengths.target) == 16_000
    assert max(lengths.source) == 40  # the typical emotion prompt has 59 tokens
    assert max(lengths.target) == recipe.data.max_target_tokens
    few = recipe.model_copy(update={"data": recipe.data.model_copy(update={"max_train_rows": 10})})
    assert len(speed_module.typical_lengths(few).source) == 10


@pytest.mark.parametrize("quantization", ["int8", "bf16", "fp32"])
def test_a_speed_is_measured_by_running_a_stub(recipe: Recipe, quantization: str) -> None:
    base = recipe.base.model_copy(update={"quantization": quantization})
    speed = speed_module.measure_speed(recipe.model_copy(update={"base": base}), tiny_config())
    assert 1e5 < speed.flops_per_s < 1e15
    assert speed.origin.endswith("measured just now on a few layers")


def test_the_measured_stub_is_quantised_like_a_base(recipe: Recipe) -> None:
    peft_model = speed_module.stub_model(recipe, tiny_config(num_layers=1), torch.device("cpu"))
    int8 = {name.split(".")[-2] for name, m in peft_model.named_modules() if type(m).__name__ == "Linear8bitLt"}
    assert int8 == {"q", "k", "v", "o", "wi_0", "wi_1"}
    assert peft_model.get_base_model().lm_head.weight.dtype == torch.bfloat16


def test_a_stub_keeps_the_widths_and_a_small_base_whole() -> None:
    large = T5Config(**doctor.FLAN_T5_LARGE)
    stub = speed_module.stub_config(large)
    assert (stub.num_layers, stub.num_decoder_layers, stub.vocab_size) == (1, 1, 8192)
    assert (stub.d_model, stub.d_ff, stub.num_heads, stub.d_kv) == (1024, 2816, 16, 64)
    assert not stub.scale_decoder_outputs
    tiny = speed_module.stub_config(tiny_config(num_layers=3, num_decoder_layers=2))
    assert (tiny.num_layers, tiny.num_decoder_layers, tiny.vocab_size) == (3, 2, 128)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "about 1 s"), (80, "about 80 s"), (600, "about 10 min"), (7200, "about 2 h"), (1e6, "about 12 days")],
)
def test_times_are_rough(seconds: float, text: str) -> None:
    assert doctor.rough_duration(seconds) == text
