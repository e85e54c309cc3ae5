"""Every recipe on FLAN-T5-large's widths, vocabulary and tokenizer, without its weights: trained, served.

The base has random weights and one layer on each side. Everything else is the real thing: 1,024 wide, 16 heads,
32,128 tokens, int8 linears, the recipe as it ships for google/flan-t5-large.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration, T5Tokenizer

from flan_lora.adapters.store import Store
from flan_lora.base.encode import Collator, encode_sources
from flan_lora.base.load import open_base
from flan_lora.data.sources import DataSource, open_source
from flan_lora.data.splits import load_split
from flan_lora.mini import MINI_PATH
from flan_lora.recipe import BaseSection
from flan_lora.recipe_file import known_recipes, load_recipe
from flan_lora.serving.router import Router
from flan_lora.tasks import TASKS
from flan_lora.training.factory import build_adapter

pytestmark = pytest.mark.slow

LARGE = {"d_model": 1024, "d_kv": 64, "d_ff": 2816, "num_heads": 16, "vocab_size": 32128}
"""Of google/flan-t5-large's config.json."""
SETTINGS = (
    "training.max_steps=2",
    "training.evals_per_epoch=1",
    "data.max_train_rows=40",
    "data.max_validation_rows=3",
    "evaluation.max_test_rows=3",
)


@pytest.fixture(scope="module")
def source(request: pytest.FixtureRequest) -> DataSource:
    """Real rows where the local data root is there, else the bundled ones."""
    try:
        return DataSource("local", request.getfixturevalue("shared_data"))
    except pytest.skip.Exception:
        return open_source("sample")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, source: DataSource) -> Path:
    """A folder as the Hub would give it: weights in bf16 and the real tokenizer (mini's where there is none)."""
    folder = tmp_path_factory.mktemp("large") / "flan-t5-large-narrow"
    torch.manual_seed(0)
    config = T5Config(
        **LARGE, num_layers=1, num_decoder_layers=1, feed_forward_proj="gated-gelu", decoder_start_token_id=0
    )
    config.tie_word_embeddings = False
    model = T5ForConditionalGeneration(config).to(torch.bfloat16)
    model.encoder.embed_tokens.weight = model.decoder.embed_tokens.weight = model.shared.weight
    model.save_pretrained(folder)
    real = source.path / "t5" if source.kind == "local" and source.path is not None else None
    tokenizer = T5Tokenizer.from_pretrained(str(real), extra_ids=100) if real else None
    (tokenizer or AutoTokenizer.from_pretrained(MINI_PATH)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", sorted(known_recipes()))
def test_a_recipe_trains_publishes_and_serves_at_large_widths(
    name: str, checkpoint: Path, source: DataSource, tmp_path: Path
) -> None:
    recipe = load_recipe(name, ["base.revision=null", f"base.model={checkpoint}", *SETTINGS])
    assert (
        recipe.base.quantization == "int8"
        and recipe.training.learning_rate == load_recipe(name).training.learning_rate
    )
    path = build_adapter(
        recipe, source, adapters_dir=tmp_path / "adapters", run_dir=tmp_path / "run", echo=lambda line: None
    )
    store = Store(path.parent)
    assert store.verify(name) == []
    example = load_split(recipe, "test", source, max_rows=1).examples[0]
    router = Router.open(path.parent, base=str(checkpoint))
    asked = {column: example.inputs[column] for column in TASKS[name].inputs}
    answer = router.generate(asked if len(asked) > 1 else next(iter(asked.values())), name)
    assert answer.adapter == name and answer.num_tokens >= 1
    assert _peft_logits(path, recipe.base, example.prompt, recipe.data.max_source_tokens).isfinite().all()


def _peft_logits(path: Path, spec: BaseSection, prompt: object, max_tokens: int) -> torch.Tensor:
    """First-step logits of plain PEFT on the int8 base, with the adapter's effect on them checked."""
    base = open_base(spec, device="cpu")
    source = encode_sources(base.tokenizer, [prompt], max_tokens)[0]  # type: ignore[list-item]
    batch = Collator(0, 0)([{"input_ids": source.input_ids, "labels": [1]}])
    with torch.inference_mode():
        bare = base.model(**batch).logits
        tuned = PeftModel.from_pretrained(base.model, path).eval()(**batch).logits
    assert not torch.equal(bare, tuned), "the adapter changes nothing"
    return tuned
