"""Merged models: the very function of base and adapter, saved so that others load it, and the base left alone."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, T5ForConditionalGeneration

from flan_lora.adapters.ctranslate2 import answer_ctranslate2, export_ctranslate2
from flan_lora.adapters.lora_config import module_scaling
from flan_lora.adapters.merge import merge, save_merged, write_whole
from flan_lora.adapters.peft_loader import load_adapter
from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import StoredAdapter
from flan_lora.adapters.weights import read_published
from flan_lora.base.load import fuse_gelu, open_base
from flan_lora.cli import main
from flan_lora.errors import AdapterError, AdapterMismatchError, DiskError, FlanLoraError
from flan_lora.tasks import TASKS
from tests.checkpoint import save_checkpoint, spec_of
from tests.published import make_manifest, stage, tiny_fingerprint
from tests.tiny import tiny_t5

SOURCE = torch.tensor([[5, 9, 13, 40, 41, 1], [60, 61, 62, 63, 64, 1]])
TARGET = torch.tensor([[7, 8, 1], [30, 31, 1]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint, and one adapter each for a base in fp32 and in int8, and a DoRA one."""
    folder = tmp_path_factory.mktemp("merge")
    save_checkpoint(folder / "base")
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "plain": ("fp32", {}),
        "eight": ("int8", {}),
        "dora": ("fp32", {"use_dora": True}),
        "rslora": ("fp32", {"use_rslora": True}),
    }
    for name, (quantization, lora) in kinds.items():
        fields = {"model": "base", "fingerprint": tiny_fingerprint(), "quantization": quantization}
        staged = stage(folder / f"staged-{name}", seed=3, **lora)
        Store(folder / "adapters" / "base").publish(staged, make_manifest(name, base=fields, lora=lora))
    return folder


def stored(folder: Path, name: str) -> StoredAdapter:
    return Store(folder / "adapters" / "base").open(name)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=SOURCE, labels=TARGET).logits.float()
    return found


@pytest.mark.parametrize("name", ["plain", "dora", "rslora"])
def test_the_merged_model_computes_what_base_and_adapter_compute(folder: Path, name: str) -> None:
    merged = merge(stored(folder, name), base=str(folder / "base"))
    base = open_base(spec_of(folder / "base"), device="cpu")
    bare = logits(base.model)
    served = logits(load_adapter(base.model, stored(folder, name)))
    # random weights amplify the rounding of W + BA a thousand times; the adapter itself moves logits by far more
    torch.testing.assert_close(logits(merged.model), served, rtol=0, atol=0.01)
    assert (served - bare).abs().max() > 1, "an adapter that does nothing would pass"
    assert merged.drift.max_logit_delta < 0.02 and merged.drift.logit_scale > 1
    assert merged.drift.num_equal_answers == merged.drift.num_prompts == len(TASKS["emotion"].card.examples)


def test_an_adapter_of_an_8_bit_base_is_folded_into_the_dequantised_weights(folder: Path) -> None:
    """W of the merged model minus the update is q * max|row| / 127: near the checkpoint's weight, not equal."""
    name = "encoder.block.0.layer.0.SelfAttention.q"
    merged = merge(stored(folder, "eight"), base=str(folder / "base"))
    files = read_published(stored(folder, "eight"))
    a, b = (files.tensors[f"base_model.model.{name}.lora_{kind}.weight"] for kind in "AB")
    folded = dict(merged.model.named_modules())[name].weight.detach()
    base_weight = folded - module_scaling(name, files.config) * (b @ a)
    checkpoint = dict(tiny_t5().named_modules())[name].weight.detach()
    step = checkpoint.abs().amax(dim=1, keepdim=True) / 127
    difference = (base_weight - checkpoint).abs()
    # half a step of rounding, and what bf16 (in which a base is read before it is quantised) adds
    assert (difference <= 0.5 * step + 2**-8 * checkpoint.abs() + 1e-6).all()
    assert (difference > 0.1 * step).any(), "these are the checkpoint's own weights"
    levels = base_weight / (base_weight.abs().amax(dim=1, keepdim=True) / 127)
    assert (levels - levels.round()).abs().max() < 0.02, "not on the grid of 8 bit"


def test_the_drift_of_an_8_bit_base_is_measured_not_assumed(folder: Path, repo: Path) -> None:
    """Random weights blow rounding up, and the number says so; on trained weights it is small."""
    exact = merge(stored(folder, "plain"), base=str(folder / "base")).drift
    rounded = merge(stored(folder, "eight"), base=str(folder / "base")).drift
    assert rounded.max_logit_delta > 10 * exact.max_logit_delta
    trained = merge(Store(repo / "adapters" / "mini").open("emotion"))
    assert 0 < trained.drift.max_logit_delta < 0.05 * trained.drift.logit_scale
    assert trained.drift.num_equal_answers >= trained.drift.num_prompts - 1
    assert set(trained.answers) <= set(TASKS["emotion"].labels)


def test_bf16_rounds_and_says_so(folder: Path) -> None:
    exact = merge(stored(folder, "plain"), base=str(folder / "base"))
    rounded = merge(stored(folder, "plain"), base=str(folder / "base"), dtype="bf16")
    assert next(rounded.model.parameters()).dtype == torch.bfloat16
    assert rounded.drift.max_logit_delta > 10 * exact.drift.max_logit_delta


def test_others_load_what_was_saved(folder: Path, tmp_path: Path) -> None:
    merged = merge(stored(folder, "plain"), base=str(folder / "base"))
    expected = logits(merged.model)
    path = save_merged(merged, tmp_path / "out" / "merged")
    assert json.loads((path / "config.json").read_text())["tie_word_embeddings"] is False
    with safe_open(path / "model.safetensors", framework="pt") as file:
        keys = set(file.keys())
    assert {"shared.weight", "lm_head.weight"} <= keys and not [key for key in keys if "lora" in key]
    loaded = T5ForConditionalGeneration.from_pretrained(path).eval()
    assert loaded.lm_head.weight.data_ptr() != loaded.shared.weight.data_ptr()
    fuse_gelu(loaded)  # else 3e-7 of the GELU, which random weights amplify, hides what is asked here
    torch.testing.assert_close(logits(loaded), expected, rtol=1e-5, atol=1e-5)
    assert AutoTokenizer.from_pretrained(path)("joy").input_ids == merged.tokenizer("joy").input_ids
    assert open_base(spec_of(path), device="cpu").fingerprint != tiny_fingerprint(), "it is another base now"
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["merged"]


def test_the_base_on_disk_is_never_written(folder: Path, tmp_path: Path) -> None:
    def digests() -> dict[str, str]:
        return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in (folder / "base").iterdir()}

    before = digests()
    save_merged(merge(stored(folder, "eight"), base=str(folder / "base")), tmp_path / "merged")
    assert digests() == before


def test_another_base_is_refused(folder: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other", tiny_t5(seed=9))
    with pytest.raises(AdapterMismatchError):
        merge(stored(folder, "plain"), base=str(tmp_path / "other"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["python", "safetensors"],
)
def test_a_folder_with_files_is_refused_and_a_crash_leaves_nothing(tmp_path: Path, error: Exception) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me")
    with pytest.raises(AdapterError, match="exists and is not empty"):
        write_whole(tmp_path / "full", lambda place: place.mkdir())

    def crash(place: Path) -> None:
        place.mkdir()
        (place / "half").write_text("x")
        raise error

    with pytest.raises(DiskError, match=r"cannot write .*new: No space left on device\.\nMake room"):
        write_whole(tmp_path / "new", crash)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


@pytest.mark.parametrize("command", ["merge", "export"])
@pytest.mark.parametrize("name", ["full", "file", "file/x", "x" * 5000])
def test_a_place_for_the_model_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    (tmp_path / "file").touch()
    monkeypatch.setattr("flan_lora.adapters.merge.merge", lambda *_, **__: pytest.fail("work was done"))
    result = CliRunner().invoke(main, ["adapter", command, "emotion", "--out", str(tmp_path / name)])
    assert result.exit_code in (1, 2) and str(tmp_path) in result.stderr and len(result.stderr) < 12_000


# CTranslate2


def test_ctranslate2_answers_as_the_merged_model(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2", reason="the extra `export` is not installed")
    merged = merge(stored(folder, "plain"), base=str(folder / "base"))
    exported = export_ctranslate2(merged, tmp_path / "ct2", quantization="float32")
    prompts = [str(TASKS["emotion"].prompt(item.inputs)) for item in TASKS["emotion"].card.examples]
    plain = T5ForConditionalGeneration.from_pretrained(save_merged(merged, tmp_path / "merged")).eval()
    expected = []
    for prompt in prompts:
        ids = plain.generate(**merged.tokenizer(prompt, return_tensors="pt"), max_new_tokens=8, do_sample=False)
        expected.append(merged.tokenizer.decode(ids[0], skip_special_tokens=True))
    assert list(exported.answers) == expected and len(set(expected)) > 1
    assert exported.num_equal_answers == len(prompts)
    again = answer_ctranslate2(tmp_path / "ct2", merged.tokenizer, prompts, max_new_tokens=8)
    assert again == expected
    assert json.loads((tmp_path / "ct2" / "config.json").read_text())["eos_token"] == "</s>"


def test_the_output_of_an_untied_head_is_not_scaled(folder: Path, tmp_path: Path) -> None:
    """CTranslate2's own way reads the config through transformers 5, where every T5 is tied and scaled."""
    ctranslate2 = pytest.importorskip("ctranslate2", reason="the extra `export` is not installed")
    merged = merge(stored(folder, "plain"), base=str(folder / "base"))
    export_ctranslate2(merged, tmp_path / "ct2", quantization="float32")
    source, target = SOURCE[0].tolist(), TARGET[0].tolist()
    to_tokens = merged.tokenizer.convert_ids_to_tokens
    translator = ctranslate2.Translator(str(tmp_path / "ct2"), device="cpu")
    [found] = translator.score_batch([to_tokens(source)], [to_tokens(target[:-1])])
    expected = logits(merged.model)[0].log_softmax(-1).gather(1, TARGET[0][:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(found.log_probs), expected, rtol=1e-3, atol=1e-3)


def test_the_conversion_to_8_bit_leaves_the_model_as_it_was(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2", reason="the extra `export` is not installed")
    merged = merge(stored(folder, "plain"), base=str(folder / "base"))
    before = logits(merged.model)
    exported = export_ctranslate2(merged, tmp_path / "ct2", quantization="int8")
    assert torch.equal(logits(merged.model), before)
    float32 = export_ctranslate2(merged, tmp_path / "float", quantization="float32")
    sizes = [(path.folder / "model.bin").stat().st_size for path in (exported, float32)]
    assert sizes[0] < 0.6 * sizes[1]


def test_a_trained_adapter_answers_alike_in_8_bit(repo: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2", reason="the extra `export` is not installed")
    merged = merge(Store(repo / "adapters" / "mini").open("emotion"))
    exported = export_ctranslate2(merged, tmp_path / "ct2", quantization="int8")
    assert exported.num_equal_answers >= merged.drift.num_prompts - 1


def test_without_ctranslate2_the_error_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    merged = merge(stored(folder, "plain"), base=str(folder / "base"))
    with pytest.raises(FlanLoraError, match=r"pip install 'flan-lora\[export\]'"):
        export_ctranslate2(merged, tmp_path / "x")
    assert not (tmp_path / "x").exists()


# The command line


def run(folder: Path, *arguments: str) -> str:
    places = ("--base", str(folder / "base"), "--adapters-dir", str(folder / "adapters"))
    result = CliRunner().invoke(main, ["adapter", *arguments, *places])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_merge_and_export_print_what_they_measured(folder: Path, tmp_path: Path) -> None:
    out = run(folder, "merge", "eight", "--out", str(tmp_path / "merged"))
    assert "logits move by" in out and "of 6 answers" in out
    printed = json.loads(
        run(folder, "export", "plain", "--to", "safetensors", "--out", str(tmp_path / "s"), "--json")
    )
    assert printed["drift"]["num_prompts"] == 6 and (tmp_path / "s" / "model.safetensors").is_file()
    pytest.importorskip("ctranslate2", reason="the extra `export` is not installed")
    out = run(folder, "export", "plain", "--out", str(tmp_path / "ct2"), "--quantization", "float32")
    assert "CTranslate2, float32: 6 of 6 answers equal the merged model's" in out
