"""An adapter on its base: the logits of plain PEFT, and what PEFT does not check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file

from flan_lora.adapters import validation
from flan_lora.adapters.peft_loader import load_adapter
from flan_lora.adapters.store import Store
from flan_lora.base.fingerprint import fingerprint
from flan_lora.base.load import open_base
from flan_lora.errors import AdapterCorruptError, AdapterError, AdapterMismatchError
from flan_lora.recipe import BaseSection
from flan_lora.system.files import read_regular
from tests.adapters.folders import (
    B_KEY,
    BASE,
    NEW,
    WEIGHTS,
    manifest,
    rewrite_weights,
)
from tests.published import stage
from tests.tiny import tiny_t5, tiny_tokenizer


def logits(model: Any) -> torch.Tensor:
    inputs = torch.arange(3, 24).reshape(3, 7)
    with torch.no_grad():
        return model(input_ids=inputs, decoder_input_ids=inputs[:, :3]).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("lora", [{}, {"use_dora": True}, {"use_rslora": True}], ids=["plain", "dora", "rslora"])
def test_our_loading_gives_the_logits_of_plain_peft(tmp_path: Path, lora: dict[str, bool]) -> None:
    store = Store(tmp_path / "mini")
    path = store.publish(stage(tmp_path / "staged", lora_dropout=0.1, **lora), manifest(lora=lora))
    plain = PeftModel.from_pretrained(tiny_t5(), path)
    state = torch.get_rng_state()
    ours = load_adapter(tiny_t5(), store.open("emotion"))
    assert torch.equal(torch.get_rng_state(), state), "loading spends no random numbers"
    assert torch.equal(logits(ours), logits(plain))
    assert not torch.allclose(logits(ours), logits(tiny_t5()), atol=1e-2)
    assert not ours.training and not any(parameter.requires_grad for parameter in ours.parameters())
    with ours.disable_adapter():
        assert torch.equal(logits(ours), logits(tiny_t5()))


def test_an_adapter_loads_onto_an_int8_base_as_plain_peft_does(store: Store, tmp_path: Path) -> None:
    tiny_t5().save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    spec = BaseSection(model=str(tmp_path / "base"), quantization="int8")
    base, twin = open_base(spec, device="cpu"), open_base(spec, device="cpu")
    bare = logits(base.model)
    ours = load_adapter(base.model, store.open("emotion", fingerprint=base.fingerprint))
    assert torch.equal(logits(ours), logits(PeftModel.from_pretrained(twin.model, store.root / "emotion")))
    assert {p.dtype for name, p in ours.named_parameters() if "lora_" in name} == {torch.float32}
    assert not torch.allclose(logits(ours), bare, atol=1e-2)
    assert torch.equal(logits(ours.unload()), bare)


def test_a_base_of_the_same_shape_is_refused_where_plain_peft_says_nothing(store: Store) -> None:
    stored, other = store.open("emotion"), tiny_t5(seed=1)
    before = logits(other)
    with pytest.raises(AdapterMismatchError) as error:
        load_adapter(other, stored)
    version = manifest().task_version
    assert str(error.value) == (
        "adapter 'emotion' does not fit this base.\n"
        f"  trained on  mini      @ {BASE['fingerprint'][:8]}, prompt version {version}\n"
        f"  serving on  this base @ {fingerprint(other)[:8]}, prompt version {version}\n"
        "Retrain it (flan-lora train recipes/emotion.yaml) or serve the base it was trained on."
    )
    assert torch.equal(logits(other), before)
    assert load_adapter(other, stored, fingerprint=BASE["fingerprint"]), "a fingerprint that is given is believed"


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
def test_weights_that_do_not_land_are_refused_where_plain_peft_answers_as_the_base(
    staged: Path, tmp_path: Path
) -> None:
    def one_level_down(tensors: dict[str, torch.Tensor]) -> None:
        for key in list(tensors):
            tensors[key.replace("base_model.model.", "base_model.model.model.")] = tensors.pop(key)

    rewrite_weights(staged, one_level_down)
    store, base = Store(tmp_path / "mini"), tiny_t5()
    path = store.publish(staged, manifest())
    with pytest.raises(AdapterMismatchError) as error:
        load_adapter(base, store.open("emotion"))
    first, second, *_, last = str(error.value).splitlines()
    num_weights = len(load_file(path / WEIGHTS))
    assert first == f"the weights of adapter 'emotion' do not fit this base ({2 * num_weights} differ):"
    assert (
        second.startswith("  base_model.model.decoder.") and ": the file has nothing, the base takes (" in second
    )
    assert last == "Serve the base it was trained on, or publish it again."
    assert not any(isinstance(module, BaseTunerLayer) for module in base.modules()), "the base is as before"
    assert torch.equal(logits(base), logits(tiny_t5()))
    # PEFT, the day it refuses too, makes this check superfluous
    assert torch.equal(logits(PeftModel.from_pretrained(tiny_t5(), path)), logits(tiny_t5()))


def test_reading_opens_and_gives_the_weights_of_the_bytes_it_checked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, reads = load_file(store.root / "emotion" / WEIGHTS), []

    def counted(path: Path, max_bytes: int) -> bytes:
        reads.append(path.name)
        return read_regular(path, max_bytes)

    monkeypatch.setattr(validation, "read_regular", counted)
    stored, files = store.read("emotion")
    assert stored == store.open("emotion") and reads.count(WEIGHTS) == 2  # once each
    assert files.config["r"] == stored.manifest.recipe["lora"]["rank"]
    assert files.tensors.keys() == whole.keys()
    assert all(torch.equal(files.tensors[key], whole[key]) for key in whole)
    (stored.path / WEIGHTS).write_bytes(b"altered")
    with pytest.raises(AdapterCorruptError, match="truncated or altered"):
        store.read("emotion")


def test_files_that_change_between_opening_and_loading_are_refused(store: Store, staged_dirs: list[Path]) -> None:
    stored = store.open("emotion")
    store.publish(staged_dirs[1], manifest(created_at=NEW))
    with pytest.raises(AdapterCorruptError) as error:
        load_adapter(tiny_t5(), stored)
    text = str(error.value)
    assert text.startswith(f"adapter 'emotion' changed since it was opened (1 problem):\n  {WEIGHTS}: altered\n")
    assert text.endswith("If it was published anew, open it again; else restore or retrain it.")
    loaded = load_adapter(tiny_t5(), store.open("emotion"))
    got = get_peft_model_state_dict(loaded, save_embedding_layers=False)
    assert torch.equal(got[B_KEY], load_file(staged_dirs[1] / WEIGHTS)[B_KEY])


def test_a_second_adapter_on_a_loaded_base_is_refused_until_the_first_is_unloaded(store: Store) -> None:
    stored, base = store.open("emotion"), tiny_t5()
    peft_model = load_adapter(base, stored)
    expected = logits(peft_model)
    for model in (base, peft_model):
        with pytest.raises(AdapterError) as error:
            load_adapter(model, stored)  # type: ignore[arg-type]
        assert str(error.value) == (
            "cannot load adapter 'emotion': this base already carries one. Call unload() on its PeftModel first."
        )
    assert torch.equal(logits(load_adapter(peft_model.unload(), stored)), expected)
