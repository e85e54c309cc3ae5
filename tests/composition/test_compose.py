"""From a few rows to a mix and to one adapter, on the tiny T5."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flan_lora.adapters.store import Store
from flan_lora.base.load import open_base
from flan_lora.base.serving import open_serving_base
from flan_lora.composition.compose import ComposeOptions, Composition, compose
from flan_lora.composition.mix_model import MixModel
from flan_lora.composition.rows import read_rows, task_recipe
from flan_lora.composition.search import SearchSettings
from flan_lora.data.encoding import encode_afresh
from flan_lora.data.sources import open_source
from flan_lora.data.splits import load_split
from flan_lora.errors import AdapterError, DataError, FlanLoraError, RequestError
from flan_lora.serving.router import Router
from flan_lora.tasks import TASKS
from flan_lora.tasks.sentiment import FILM_REVIEWS
from tests.checkpoint import save_checkpoint
from tests.cli.running import run, succeed
from tests.published import tiny_fingerprint
from tests.serving.stores import publish
from tests.tiny import tiny_tokenizer

NAMES = ("emotion", "moods")
LABELS = ("joy", "sadness", "anger", "fear")
SEARCH = SearchSettings(budget=8)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_checkpoint(tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 rows with columns of their own; the last is the first once more."""
    path = tmp_path_factory.mktemp("rows") / "mail.jsonl"
    texts = [f"i am {'not ' * (number % 3)}so {LABELS[number % 4]} number {number}" for number in range(23)]
    values = [{"body": text, "label": LABELS[number % 4]} for number, text in enumerate([*texts, texts[0]])]
    path.write_text("".join(json.dumps(row) + "\n" for row in values))
    return path


@pytest.fixture
def root(tmp_path: Path, base: str) -> Path:
    """A store of two adapters under the base's own name, so that the command finds it."""
    path = tmp_path / "adapters" / Path(base).name
    for seed, name in enumerate(NAMES):  # fp32: each update is rounded by itself in bf16, and near ties decide
        publish(path, name, seed + 3, base={"fingerprint": tiny_fingerprint(), "quantization": "fp32"})
    return path


def composed(root: Path, rows: Path, base: str, **options: Any) -> Composition:
    settings = {"num_rows": 6, "search": SEARCH, "few_shot_steps": 0, **options}
    return compose(
        "emotion",
        open_source(str(rows)),
        adapters_dir=root,
        base=base,
        overrides=["data.columns.text=body"],
        options=ComposeOptions(**settings),
        echo=lambda _: None,
    )


def test_the_loss_of_a_mix_is_the_trainers_loss(root: Path, rows: Path, base: str) -> None:
    """Against a T5 whose weights have the summed update written into them."""
    recipe = task_recipe(
        "emotion",
        Store(root).open("moods").recipe.base.at(base),
        (),
        ["data.columns.text=body"],
    )
    few = read_rows(recipe, open_source(str(rows)), num_rows=6, max_held_out=None, seed=0)
    encoded = encode_afresh(few.search, recipe, tiny_tokenizer())
    mix = {"emotion": 0.6, "moods": -0.3}
    model = MixModel(open_serving_base(recipe.base), Store(root), NAMES, recipe)
    plain = open_base(recipe.base, device="cpu").model
    linears = dict(plain.named_modules())
    with torch.no_grad():
        for part in model.weights(mix):
            for name, (a, b) in part.pairs.items():
                linears[name].weight += mix[part.name] * part.scalings[name] * (b @ a)
        total, num_tokens = 0.0, 0
        for source, target in zip(encoded.input_ids, encoded.labels, strict=True):
            loss = plain(input_ids=torch.tensor([source]), labels=torch.tensor([target])).loss
            total, num_tokens = total + float(loss) * len(target), num_tokens + len(target)
    assert model.loss(mix, encoded) == pytest.approx(total / num_tokens, abs=1e-4)
    assert abs(model.loss({}, encoded) - model.loss(mix, encoded)) > 0.01, "else nothing was tested"
    model.close()


def test_rows_of_the_search_are_never_compared_on(rows: Path, base: str) -> None:
    recipe = task_recipe("emotion", open_spec(base), (), ["data.columns.text=body"])
    source = open_source(str(rows))
    for seed in range(6):
        few = read_rows(recipe, source, num_rows=10, max_held_out=None, seed=seed)
        assert few.held_out is not None and len(few.search.examples) == 10
        searched = {str(each.prompt) for each in few.search.examples}
        compared = [str(each.prompt) for each in few.held_out.examples]
        assert not searched & set(compared) and len(searched | set(compared)) == 23, "of which one stands twice"
    assert read_rows(recipe, source, num_rows=30, max_held_out=None, seed=0).held_out is None
    smaller = read_rows(recipe, source, num_rows=10, max_held_out=5, seed=0).held_out
    assert smaller is not None and len(smaller.examples) == 5


def test_rows_of_a_data_set_are_searched_on_in_train_and_compared_on_in_test(base: str) -> None:
    recipe = task_recipe("emotion", open_spec(base), ())
    few = read_rows(recipe, open_source("sample"), num_rows=9, max_held_out=None, seed=0)
    held_out = load_split(recipe, "test", open_source("sample"))
    assert few.held_out is not None and len(few.search.examples) == 9 and few.search.role == "train"
    assert [each.inputs for each in few.held_out.examples] == [each.inputs for each in held_out.examples]


def test_a_task_of_ones_own_needs_no_recipe_and_another_adapters_columns_are_not_asked_for(
    root: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, "sentiment", FILM_REVIEWS)
    recipe = task_recipe("sentiment", open_spec(base), (), ["data.max_source_tokens=99"])
    assert recipe.task_definition is FILM_REVIEWS and recipe.data.max_source_tokens == 99
    stored = Store(root).open("moods")
    values = {**stored.manifest.recipe, "data": {**stored.manifest.recipe["data"], "columns": {"text": "post"}}}
    values["evaluation"] = {**values["evaluation"], "num_beams": 3}
    stored = replace(stored, manifest=stored.manifest.model_copy(update={"recipe": values}))
    own = task_recipe("emotion", open_spec(base), (stored,))
    assert own.data.columns == {} and own.evaluation.num_beams == 3, "its limits hold, its rows' columns do not"
    with pytest.raises(FlanLoraError, match="unknown task 'emotoin', did you mean 'emotion'"):
        task_recipe("emotoin", open_spec(base), ())


def open_spec(base: str) -> Any:
    from tests.checkpoint import spec_of

    return spec_of(base)


def test_a_mix_is_published_as_one_adapter_that_serves_as_it_was_compared(
    root: Path, rows: Path, base: str
) -> None:
    found = composed(root, rows, base, few_shot_steps=2, publish_as="mixed", rank=8)
    assert set(found.adapter_mix) <= set(NAMES) and found.num_rows == 6 and found.num_held_out >= 16
    (single,) = found.search.single.weights
    assert [each.name for each in found.compared[:3]] == ["mix", f"{single} alone", "bare base"]
    assert [each.name for each in found.compared[3:]] == ["few-shot LoRA", "merged"]
    for each in found.compared:
        score = each.scores[found.select_on]
        assert score.low <= score.value <= score.high
        assert bool(each.against_mix) == (each.name != "mix")
    assert found.merged is not None and found.published == str(root / "mixed")
    assert found.merged.relative_error < 1e-5 and found.merged.equal_share == 1.0, "rank 8 has room for 4 + 4"
    stored = Store(root).open("mixed")
    assert Store(root).verify("mixed") == []
    manifest = stored.manifest
    assert manifest.composition is not None and manifest.training.num_steps == 0
    assert {part.name: part.weight for part in manifest.composition.parts} == dict(found.adapter_mix)
    assert manifest.recipe["lora"]["rank"] == 8 and manifest.data.num_train_rows == 6
    card = (stored.path / "README.md").read_text()
    assert "## Composition" in card and "6 rows" in card and "AdamW" not in card
    router = Router.open(root, open_serving_base(stored.recipe.base.at(base)))
    texts = ["i am so sad", "what is joy", "no love is the question"]
    mixed = router.generate(texts, found.adapter_mix, task="emotion")
    assert [item.text for item in router.generate(texts, "mixed")] == [item.text for item in mixed]


def test_a_smaller_rank_loses_what_it_says(root: Path, rows: Path, base: str) -> None:
    found = composed(root, rows, base, publish_as="mixed", rank=1)
    assert found.merged is not None and 0.1 < found.merged.relative_error < 1.0
    assert found.merged.largest_error[1] >= found.merged.relative_error


def test_equal_seeds_compose_the_same(root: Path, rows: Path, base: str) -> None:
    one, other = (composed(root, rows, base) for _ in range(2))
    assert one.adapter_mix == other.adapter_mix and one.compared == other.compared


def test_what_cannot_be_composed_is_refused_before_the_search(root: Path, rows: Path, base: str) -> None:
    with pytest.raises(DataError, match="nothing is published without a score"):
        composed(root, rows, base, num_rows=50, publish_as="mixed")
    with pytest.raises(RequestError, match="--publish NAME"):
        composed(root, rows, base, rank=4)
    with pytest.raises(AdapterError, match="not an adapter name"):
        composed(root, rows, base, publish_as="Not/A/Name")
    with pytest.raises(AdapterError, match="no adapters in"):
        composed(root.parent / "empty", rows, base)


def test_the_command_prints_a_mix_that_generate_takes(root: Path, rows: Path, base: str) -> None:
    arguments = [
        "--task",
        "emotion",
        "--data",
        str(rows),
        "--set",
        "data.columns.text=body",
        "--rows",
        "6",
        "--budget",
        "6",
    ]
    place = ["--base", base, "--adapters-dir", str(root.parent)]
    shown = succeed("compose", *arguments, *place, "--few-shot-steps", "0")
    assert "95 % INTERVAL" in shown and "bare base" in shown and "adapter_mix" in shown
    values = json.loads(succeed("compose", *arguments, *place, "--few-shot-steps", "0", "--json"))
    mix = values["adapter_mix"]
    assert json.dumps(mix) in shown and len(values["search"]["evaluated"]) == 6
    answer = json.loads(
        succeed("generate", "--adapter", json.dumps(mix), "--task", "emotion", *place, "--json", "so sad")
    )
    assert answer[0]["input"] == "so sad" and answer[0]["answer"]
    broken = run("generate", "--adapter", '{"emotion": ', *place, "sad")
    assert broken.exit_code == 2 and "a mix is JSON" in broken.output
