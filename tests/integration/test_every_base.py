"""The main job on every kind of the T5 family: trained, published, verified, served, merged, exported."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from flan_lora.adapters.ctranslate2 import export_ctranslate2
from flan_lora.adapters.manifest import load_metrics
from flan_lora.adapters.merge import merge, save_merged
from flan_lora.adapters.peft_loader import load_adapter
from flan_lora.adapters.store import Store
from flan_lora.base.architecture import has_devanagari
from flan_lora.base.decode import decode
from flan_lora.base.encode import encode_targets
from flan_lora.base.load import open_base, open_tokenizer
from flan_lora.data.sources import open_source
from flan_lora.errors import TrainingError
from flan_lora.evaluation.predict import predict
from flan_lora.recipe import Recipe, parse_recipe
from flan_lora.serving.router import Router
from flan_lora.tasks import TASKS
from flan_lora.tasks.task import card_examples
from flan_lora.training.factory import build_adapter, is_published, plan
from tests.checkpoint import spec_of
from tests.family import KINDS, MAIN_KINDS, save_family

HINDI_CONTEXT = "भारत की राजधानी नई दिल्ली है। यह एक बड़ा नगर है॥"
HAVE_DEVANAGARI = {"T5 v1.0": False, "T5 v1.1": False, "ByT5": True, "mT5": True, "umT5": True}
FULL_ATTENTION = ["q", "k", "v", "o"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of every kind, and questions about English and Hindi texts."""
    folder = tmp_path_factory.mktemp("family")
    for name in MAIN_KINDS:
        save_family(folder / slug(name), KINDS[name])
    with (folder / "mine.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["context", "question", "answers"])
        for number in range(30):
            writer.writerow([f"the bridge was opened in {1900 + number}", "is it long?", str(1900 + number)])
            writer.writerow([f"{HINDI_CONTEXT} {number}", "यह है?", "नई दिल्ली"])
    return folder


def slug(name: str) -> str:
    return name.lower().replace(" ", "-")


def recipe_of(folder: Path, name: str, **sections: Any) -> Recipe:
    values = {
        "name": "answers",
        "task": "qa",
        "base": {"model": str(folder / slug(name)), "quantization": "int8", **sections.pop("base", {})},
        "data": {"dataset": "owner/name", "max_source_tokens": 400, "max_target_tokens": 64},
        "lora": {"rank": 4, **sections.pop("lora", {})},
        "training": {"precision": "fp32", "learning_rate": 0.01, "max_steps": 3, "evals_per_epoch": 1},
        "evaluation": {"max_new_tokens": 12, "max_test_rows": 4},
    }
    return parse_recipe(values, where="test")


@pytest.mark.parametrize("name", MAIN_KINDS)
def test_a_base_is_trained_published_served_merged_and_exported(folder: Path, name: str, tmp_path: Path) -> None:
    recipe, source = recipe_of(folder, name), open_source(str(folder / "mine.csv"))
    options = {"adapters_dir": tmp_path / "adapters", "run_dir": tmp_path / "run", "echo": lambda line: None}
    path = build_adapter(recipe, source, **options)
    store = Store(path.parent)
    assert store.verify("answers") == []
    assert is_published(recipe, source, tmp_path / "adapters")
    stored = store.open("answers")
    feed_forward = ["wi", "wo"] if name == "T5 v1.0" else ["wi_0", "wi_1", "wo"]
    assert stored.manifest.recipe["lora"]["target_modules"] == FULL_ATTENTION + feed_forward
    assert stored.manifest.recipe["data"]["romanise"] is not HAVE_DEVANAGARI[name]

    place = str(folder / slug(name))
    router = Router.open(store.root, stored.open_base(place, device="cpu"))
    text = {"context": HINDI_CONTEXT, "question": "यह है?"}
    answer = router.generate(text, adapter="answers")
    assert answer.adapter == "answers"

    merged = merge(stored, base=place)
    assert merged.drift.max_logit_delta < 0.5 * merged.drift.logit_scale, "random weights blow rounding up"
    saved = save_merged(merged, tmp_path / "merged")
    ids = torch.tensor([encode_targets(merged.tokenizer, ["the bridge"], 64)[0].input_ids])
    with torch.inference_mode():
        again = open_base(spec_of(saved)).model(input_ids=ids, decoder_input_ids=ids).logits
        right = merged.model(input_ids=ids, decoder_input_ids=ids).logits
    torch.testing.assert_close(again, right, rtol=1e-4, atol=1e-4)
    exported = export_ctranslate2(merged, tmp_path / "ct2", quantization="float32")
    assert exported.num_equal_answers == len(exported.answers)


@pytest.mark.parametrize("quantization", ["fp32", "bf16", "int8", "nf4"])
def test_dora_is_trained_and_served_in_every_precision(folder: Path, quantization: str, tmp_path: Path) -> None:
    recipe = recipe_of(folder, "T5 v1.1", lora={"use_dora": True}, base={"quantization": quantization})
    source, place = open_source(str(folder / "mine.csv")), str(folder / slug("T5 v1.1"))
    path = build_adapter(
        recipe, source, adapters_dir=tmp_path / "adapters", run_dir=tmp_path / "run", echo=lambda line: None
    )
    stored = Store(path.parent).open("answers")
    assert stored.manifest.recipe["lora"]["use_dora"] and stored.manifest.base.quantization == quantization
    base = stored.open_base(place, device="cpu")
    examples = card_examples(recipe.task_definition)
    router = Router.open(path.parent, base)
    ours = [router.generate(example.inputs, adapter="answers").text for example in examples]
    bare = [answer.base for answer in load_metrics(path / "metrics.json").examples]
    theirs = predict(
        load_adapter(base.model, stored, fingerprint=base.fingerprint), base.tokenizer, recipe.task_definition,
        examples, evaluation=recipe.evaluation, max_source_tokens=recipe.data.max_source_tokens,
    )  # fmt: skip
    assert ours != bare, "an adapter that does nothing would pass"
    if quantization == "fp32":
        assert ours == theirs


@pytest.mark.parametrize("name", MAIN_KINDS)
def test_the_tokenizer_says_whether_hindi_is_romanised(folder: Path, name: str) -> None:
    tokenizer = open_tokenizer(spec_of(folder / slug(name)))
    assert has_devanagari(tokenizer) == HAVE_DEVANAGARI[name]
    if HAVE_DEVANAGARI[name]:
        (encoded,) = encode_targets(tokenizer, ["नई दिल्ली"], 64)
        assert decode(tokenizer, encoded.input_ids) == "नई दिल्ली"
        native = TASKS["qa"].native
        assert native is not None and native.answer("नई दिल्ली #5", {}) == "नई दिल्ली #5"
        assert HINDI_CONTEXT in str(native.prompt({"context": HINDI_CONTEXT, "question": "?"}))
    assert AutoTokenizer.from_pretrained(folder / slug(name)).eos_token_id == 1


def test_a_linear_that_a_base_lacks_is_an_error_before_training(folder: Path) -> None:
    source = open_source(str(folder / "mine.csv"))
    for name, modules, has in (
        ("T5 v1.0", ["q", "wi_0"], r"wi_0, which .* \(it has q, k, v, o, wi, wo\)"),
        ("umT5", ["attention", "wi"], r"wi, which .* \(it has q, k, v, o, wi_0, wi_1, wo\)"),
    ):
        with pytest.raises(TrainingError, match=has):
            plan(recipe_of(folder, name, lora={"target_modules": modules}), source)


def test_limits_of_byt5_count_bytes(folder: Path) -> None:
    """ "é" is two bytes, a Devanagari letter three."""
    tokenizer = open_tokenizer(spec_of(folder / "byt5"))
    (encoded,) = encode_targets(tokenizer, ["é भ ab"], 64)
    assert len(encoded.input_ids) == 2 + 1 + 3 + 1 + 2 + 1
    (cut,) = encode_targets(tokenizer, ["word भारत"], 8)
    assert decode(tokenizer, cut.input_ids) == "word"
