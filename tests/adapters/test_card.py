"""The model card: front matter that the Hub's own parser reads, honest words, code that runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard

from flan_lora.adapters.card import card
from flan_lora.adapters.front_matter import DATA_TERMS
from flan_lora.adapters.manifest import AdditionRecord
from flan_lora.adapters.store import Store
from flan_lora.data.mixing import Addition
from flan_lora.mini import MINI_PATH
from flan_lora.recipe import BaseSection
from flan_lora.recipe_file import load_recipe
from flan_lora.tasks import TASKS
from flan_lora.tasks.task import CardInfo
from tests.published import make_manifest, make_metrics, manifest_values, stage

REPO = Path(__file__).resolve().parents[2]
LARGE = {"model": "google/flan-t5-large", "revision": "0613663"}


def score(value: float, margin: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - margin, "high": value + margin}


def with_data(kind: str, origin: str, **data: Any) -> Any:
    """A manifest whose recipe and rows come from elsewhere."""
    values = manifest_values()
    recipe = {**values["recipe"], "data": {**values["recipe"]["data"], **data}}
    return make_manifest(recipe=recipe, data={**values["data"], "kind": kind, "origin": origin})


def front(text: str) -> dict[str, Any]:
    return dict(yaml.safe_load(text.split("---\n")[1]))


def test_a_card_says_whether_probabilities_can_be_believed() -> None:
    found = {"temperature": 1.4, "num_rows": 2000, "ece_before": 0.081, "ece_after": 0.012}
    text = card(make_manifest(), make_metrics(calibration=found))
    assert "at temperature 1.40, fitted on 2,000 validation examples." in text
    assert "0.081 on test without the temperature and 0.012 with it.\n" in text
    worse = card(make_manifest(), make_metrics(calibration={**found, "ece_after": 0.09}))
    assert "0.090 with it. Here it did not help.\n" in worse
    assert "temperature" not in card(make_manifest(), make_metrics())


def test_the_hubs_parser_reads_every_score_with_its_dataset() -> None:
    scores = {"accuracy": score(0.91234567), "macro_f1": score(0.87), "f1_joy": score(0.9)}
    metrics = make_metrics(adapter=scores, select_on="macro_f1")
    data = ModelCard(card(make_manifest(base=LARGE, scores=scores), metrics)).data
    common = {
        "task_type": "text-classification",
        "task_name": "emotion",
        "dataset_type": "dair-ai/emotion",
        "dataset_name": "dair-ai/emotion",
        "dataset_config": "split",
        "dataset_split": "test",
    }
    assert data.eval_results == [
        EvalResult(**common, metric_type="accuracy", metric_name="accuracy", metric_value=0.9123),
        EvalResult(**common, metric_type="f1", metric_name="macro_f1", metric_value=0.87),
        EvalResult(**common, metric_type="f1", metric_name="f1_joy", metric_value=0.9),
    ]
    assert data.model_name == "emotion"
    assert data.base_model == "google/flan-t5-large" and data.get("base_model_relation") == "adapter"
    assert data.library_name == "peft" and data.pipeline_tag == "text-classification"
    assert data.datasets == ["dair-ai/emotion"] and data.language == ["en"]
    assert data.metrics == ["accuracy", "f1"]
    assert data.tags == ["lora", "flan-t5", "flan-lora", "emotion"]


@pytest.mark.parametrize(
    "base",
    [{}, {"model": "my-t5"}, LARGE, {"model": "google/flan-t5-small"}],
    ids=["mini", "folder", "hub", "free"],
)
@pytest.mark.parametrize(("kind", "origin"), [("hub", "x@test"), ("file", "tweets.csv"), ("sample", "bundled")])
def test_front_matter_survives_the_hubs_parser_and_has_no_empty_fields(
    base: dict[str, str], kind: str, origin: str
) -> None:
    values = manifest_values(base=base)
    manifest = make_manifest(
        **{**values, "data": {**values["data"], "kind": kind, "origin": origin}, "base": base}
    )
    text = card(manifest, make_metrics(origin=origin))
    parsed = ModelCard(text)
    assert parsed.data.to_dict() == front(text)
    assert ModelCard(str(parsed)).data.to_dict() == front(text)
    assert all(value not in (None, [], "") for value in front(text).values())


@pytest.mark.parametrize("model", ["mini", "my-t5"])
def test_a_base_that_is_not_on_the_hub_is_said_in_words_not_in_the_metadata(model: str) -> None:
    text = card(make_manifest(base={"model": model}), make_metrics())
    assert not {"base_model", "base_model_relation"} & set(front(text))
    said = {"mini": "`mini`, the base that is embedded in flan_lora", "my-t5": "`my-t5`, a local T5 checkpoint"}
    assert f"# emotion: a LoRA adapter for {said[model]}\n" in text
    assert "huggingface.co" not in text


def test_rows_of_a_users_file_do_not_bear_the_datasets_name() -> None:
    text = card(with_data("file", "tweets.csv"), make_metrics(origin="tweets.csv"))
    assert "dair-ai" not in text
    assert not {"datasets", "language"} & set(front(text))
    [result] = front(text)["model-index"][0]["results"]
    assert result["dataset"] == {"type": "custom", "name": "tweets.csv", "split": "test"}
    assert "ask them for its terms" in text


def test_the_bundled_sample_is_free_and_a_dataset_has_its_terms() -> None:
    sample = card(with_data("sample", "bundled sample"), make_metrics(origin="bundled sample"))
    assert (
        front(sample)["license"] == "apache-2.0"
        and "under Apache-2.0" in sample
        and "datasets" not in front(sample)
    )
    local = card(make_manifest(), make_metrics())
    assert front(local)["license"] == "other" and "dair-ai/emotion is for education and research only." in local
    other = card(with_data("hub", "a@train", dataset="ann/rows"), make_metrics())
    assert "For the terms of ann/rows see its page on the Hub." in other and "language" not in front(other)


def test_auxiliary_rows_stand_on_the_card_with_their_terms() -> None:
    added = Addition("facebook/mlqa/x:train (Hub), questions of a/b", ("facebook/mlqa", "a/b"), num_rows=1200)
    missing = Addition(
        "google-research-datasets/tydiqa/x:train (Hub)", ("google-research-datasets/tydiqa",), is_missing=True
    )
    also = [AdditionRecord.model_validate(item) for item in (added, missing)]
    manifest = make_manifest(data={**manifest_values()["data"], "kind": "hub", "also": also})
    text = card(manifest, make_metrics())
    assert front(text)["datasets"] == ["dair-ai/emotion", "facebook/mlqa", "a/b"]
    assert ", and 1,200 of facebook/mlqa/x:train (Hub), questions of a/b (sha256" in text
    assert "facebook/mlqa is CC BY-SA 3.0. For the terms of a/b see its page on the Hub." in text
    assert "tydiqa" not in text


@pytest.mark.parametrize(("config", "languages"), [("mlqa.hi.en", ["en", "hi"]), ("mlqa.hi.hi", ["hi"])])
def test_languages_come_from_the_config(config: str, languages: list[str]) -> None:
    manifest = with_data("hub", "mlqa", dataset="facebook/mlqa", config=config, revision="refs/convert/parquet")
    text = card(manifest, make_metrics())
    assert front(text)["language"] == languages
    assert front(text)["model-index"][0]["results"][0]["dataset"]["revision"] == "refs/convert/parquet"


def test_scores_stand_with_their_interval_beside_base_and_baselines() -> None:
    metrics = make_metrics(
        adapter={"accuracy": score(0.9), "macro_f1": score(0.8)},
        base={"accuracy": score(0.3)},
        baselines={"majority": {"accuracy": score(0.35), "macro_f1": score(0.1)}},
    )
    text = card(make_manifest(), metrics)
    assert "| score | this adapter | 95 % interval | bare base | majority |\n" in text
    assert "| **accuracy** | 0.900 | 0.890 to 0.910 | 0.300 | 0.350 |\n" in text
    assert "| macro_f1 | 0.800 | 0.790 to 0.810 | - | 0.100 |\n" in text
    assert "Scores are from 0 to 1." in text and "2,000 test examples, dair-ai/emotion split@test" in text


def test_scores_of_texts_are_percent_and_shares_are_not() -> None:
    scores = {"ibleu": score(31.25, 1.0), "copy_share": score(0.25)}
    metrics = make_metrics(task="paraphrase", select_on="ibleu", adapter=scores, base={}, baselines={})
    text = card(make_manifest("paraphrase", task="paraphrase"), metrics)
    assert "| **ibleu** | 31.2 | 30.2 to 32.2 |\n" in text and "| copy_share | 0.250 | 0.240 to 0.260 |\n" in text
    assert "from 0 to 100, shares from 0 to 1" in text
    assert "Nothing stands beside these scores" in text


@pytest.mark.parametrize(
    ("base", "majority", "sentence"),
    [
        (0.3, 0.35, "On accuracy the adapter beats all of them; the best of the others is the majority baseline."),
        (0.85, 0.35, "On accuracy the lead over the bare base lies within the interval: it may be chance."),
        (0.3, 0.95, "**On accuracy the adapter does not beat the majority baseline.**"),
        (0.9, 0.35, "**On accuracy the adapter does not beat the bare base.**"),
    ],
)
def test_the_card_says_when_the_adapter_does_not_win(base: float, majority: float, sentence: str) -> None:
    metrics = make_metrics(
        adapter={"accuracy": score(0.9, 0.06)},
        base={"accuracy": score(base)},
        baselines={"majority": {"accuracy": score(majority)}},
    )
    text = card(make_manifest(), metrics)
    assert sentence in text.splitlines()
    assert len(re.findall("^(?:\\*\\*)?On accuracy ", text, re.MULTILINE)) == 1


def test_the_facts_of_training_are_the_manifests() -> None:
    training = {
        "num_steps": 3000,
        "best_step": 2500,
        "seconds": 1754.4,
        "device": "cpu",
        "precision": "bf16",
        "seed": 7,
        "select_on": "accuracy",
        "best_score": 0.8765,
        "num_trainable": 4718592,
    }
    text = card(make_manifest(base=LARGE, training=training), make_metrics())
    for fact in (
        "A LoRA update of rank 4 (alpha 8) on `q`, `v`, `wi_0`, 4,718,592 trained parameters",
        "| base | google/flan-t5-large, revision 0613663 |",
        "| checkpoint | step 2,500 of 3,000, by accuracy on validation (0.8765) |",
        "| time | 1,754 s on cpu, evaluations included |",
        "| optimizer | AdamW, peak learning rate 0.001, linear decay, 16 examples a step |",
        "| seed | 7 |",
        "| versions | flan-lora 0.1.0, python 3.12.1 |",
        "16,000 training, 400 validation and 2,000 test examples",
    ):
        assert fact in text
    assert "A DoRA update" in card(make_manifest(lora={"use_dora": True}), make_metrics())
    assert "A rank-stabilised LoRA update" in card(make_manifest(lora={"use_rslora": True}), make_metrics())


def test_every_label_has_an_example_and_no_answer_breaks_the_table() -> None:
    assert {item.expected for item in TASKS["emotion"].card.examples} == set(TASKS["emotion"].labels)
    assert {item.expected for item in TASKS["similarity"].card.examples} == set(TASKS["similarity"].labels)
    for task in TASKS.values():
        assert len(task.card.examples) >= 2
        for item in task.card.examples:
            assert tuple(item.inputs) == task.inputs and str(task.prompt(item.inputs))
    hostile = "a | b\n<script>x</script> *c* _d_"
    examples = [{"inputs": {"text": hostile}, "expected": "joy", "adapter": "fear", "base": ""}]
    text = card(make_manifest(), make_metrics(examples=examples))
    line = next(line for line in text.splitlines() if "script" in line)
    assert line == r"| a \| b &lt;script&gt;x&lt;/script&gt; \*c\* \_d\_ | joy | fear | (nothing) |"
    assert "## Examples" not in card(make_manifest(), make_metrics())


def test_the_training_curve_is_shown_where_it_was_drawn() -> None:
    training = {**manifest_values()["training"], "select_on": "macro_f1"}
    text = card(make_manifest(training=training), make_metrics(), picture="training_curve.png")
    assert "![macro_f1 on validation and losses by training step](training_curve.png)" in text
    assert "![" not in card(make_manifest(), make_metrics())


def test_emissions_stand_in_the_hubs_own_field_with_their_assumptions() -> None:
    training = {**manifest_values()["training"], "seconds": 3600.0, "device": "cuda (NVIDIA H200)"}
    data = ModelCard(card(make_manifest(training=training), make_metrics())).data.to_dict()
    block = data["co2_eq_emissions"]
    assert block["emissions"] == pytest.approx(0.7 * 1.56 * 473, abs=0.1)
    assert block["training_type"] == "fine-tuning" and block["hardware_used"] == "cuda (NVIDIA H200)"
    assert "700 W" in block["source"] and "estimate" in block["source"]


def test_a_bar_in_a_name_does_not_break_a_table() -> None:
    text = card(make_manifest(versions={"a|b": "1"}), make_metrics())
    assert "| versions | a\\|b 1 |" in text


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_has_a_card(task: str) -> None:
    text = card(make_manifest(task, task=task), make_metrics(task=task))
    info = TASKS[task].card
    assert info.limits in text and front(text)["pipeline_tag"] == info.pipeline_tag
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(block, task, "exec")


def test_the_words_cover_the_tasks_and_the_recipes() -> None:
    for task in TASKS.values():
        assert task.card.limits != CardInfo().limits and set(task.card.sample_inputs) == set(task.inputs)
    recipes = [load_recipe(path) for path in (REPO / "recipes").rglob("*.yaml")]
    assert recipes and {recipe.data.dataset for recipe in recipes} <= set(DATA_TERMS)


def test_the_code_of_mini_loads_the_folder_where_mini_lies() -> None:
    text = card(make_manifest(), make_metrics())
    [place] = re.findall(r'place = "(.*)"', text)
    assert (REPO / place).resolve() == MINI_PATH
    assert 'Store("adapters/mini")' in text and '"adapters/mini/emotion"' in text
    assert 'store.open("emotion").open_base())\n' in text


def test_the_code_of_a_pinned_base_names_its_revision() -> None:
    text = card(make_manifest(base=LARGE), make_metrics())
    assert text.count('from_pretrained(place, revision="0613663"') == 2
    assert 'place = "google/flan-t5-large"' in text and '"adapters/flan-t5-large/emotion"' in text


def test_the_code_in_the_card_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flan_lora.base.load import open_base
    from tests.tiny import tiny_t5, tiny_tokenizer

    base_dir = tmp_path / "path" / "to" / "tiny-t5"
    tiny_t5().save_pretrained(base_dir)
    tiny_tokenizer().save_pretrained(base_dir)
    spec = BaseSection(model=str(base_dir), quantization="fp32")
    fields = {"model": "tiny-t5", "quantization": "fp32", "fingerprint": open_base(spec).fingerprint}
    manifest, metrics = make_manifest(base=fields), make_metrics()
    staged = stage(tmp_path / "staged")
    (staged / "README.md").write_text(card(manifest, metrics), encoding="utf-8")
    path = Store(tmp_path / "adapters" / "tiny-t5").publish(staged, manifest)
    shutil.rmtree(staged)
    monkeypatch.chdir(tmp_path)
    text = (path / "README.md").read_text(encoding="utf-8")
    ours, plain = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(ours, "ours", "exec"), {})
    assert capsys.readouterr().out.strip() in TASKS["emotion"].labels
    scope: dict[str, Any] = {}
    exec(compile(plain, "plain", "exec"), scope)
    assert capsys.readouterr().out.strip()
    assert scope["output"].shape[1] > 1
