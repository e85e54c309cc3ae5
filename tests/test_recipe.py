"""Recipes: every shipped file is valid, every mistake is named in one message, overrides are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flan_lora.errors import RecipeError
from flan_lora.recipe import Recipe, parse_recipe
from flan_lora.recipe_file import apply_overrides, load_recipe
from flan_lora.system.schema import sections_in
from flan_lora.tasks import TASKS
from flan_lora.tasks.task import score_names

RECIPES = sorted((Path(__file__).parents[1] / "recipes").rglob("*.yaml"))
MINIMAL = {"name": "mine", "task": "emotion", "data": {"dataset": "owner/name"}}


def test_there_is_one_recipe_per_task():
    assert sorted(load_recipe(path).task for path in RECIPES) == sorted(TASKS)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipe_is_valid_and_named_after_its_file(path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.base.model == "google/flan-t5-large" and recipe.base.quantization == "int8"
    assert recipe.training.batch_size in (8, 16), "the source project trained with batches of 8 or 16"
    assert 3 <= recipe.training.epochs <= 5
    assert recipe.select_on == TASKS[recipe.task].select_on


def test_shipped_recipes_share_rank_and_targets_so_that_adapters_stack():
    assert len({(r.lora.rank, r.lora.target_modules) for r in map(load_recipe, RECIPES)}) == 1


def test_all_problems_of_a_file_come_in_one_message(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(
        "name: Bad/Name\ntask: emotoin\ndata: {dataset: a/b}\nlora: {rank: 0, taget_modules: [q]}\ntraning: {}\n"
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    text = str(caught.value)
    assert "5 problems" in text and str(file) in text
    assert "lora.rank: Input should be greater than or equal to 1 (got 0)" in text
    assert "lora.taget_modules: unknown key, did you mean 'target_modules'? (got ['q'])" in text
    assert "traning: unknown key, did you mean 'training'?" in text
    assert "task: unknown task, did you mean 'emotion'? (got 'emotoin')" in text
    assert "name: " in text and "Bad/Name" in text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("training: {epochs: 1}\ntraining: {epochs: 2}\n", r"line 5: 'training' stands twice, first in line 4"),
        ("data: {dataset: a/b}", r"line 4: 'data' stands twice, first in line 3"),
        ("base: {revision: 2024-01-01}", r"line 4: a value that is a date"),
        ("base: &base {model: *base}", r"line 4: nested more than 32 deep"),
        ("base: {model: [mini]}", r"base.model: Input should be a valid string \(got \['mini'\]\)"),
        ("base: {model: {a: b}}", r"base.model: Input should be a valid string"),
        ("base: [mini]", r"base: Input should be a valid dictionary"),
        (
            "for_base: {google/flan-t5-large: [x]}",
            r"flan-t5-large: expected sections, got \['x'\]",
        ),
        ("lora: {rank: yes}", r"lora.rank: expected a number, not a truth value \(got True\)"),
        ("lora: {alpha: 1000000}", r"lora.alpha: .*less than"),
        ("training: {seed: 4294967296}", r"training.seed: Input should be less than 4294967296"),
        ("training: {epochs: .inf}", r"line 4: the number inf is not finite"),
        ("training: {epochs: '.inf'}", r"training.epochs: "),
        ("training: {epochs: 'inf'}", r"training.epochs: Input should be a finite number"),
        ("training: {weight_decay: 'nan'}", r"training.weight_decay: Input should be a finite number"),
        ("evaluation: {repetition_penalty: 0}", r"evaluation.repetition_penalty: .*greater than 0"),
        ("evaluation: {early_stopping: always}", r"evaluation.early_stopping"),
        (
            "evaluation: {min_new_tokens: 9, max_new_tokens: 4}",
            r"min_new_tokens=9 is more than max_new_tokens=4",
        ),
        ("evaluation: {num_beams: 100000}", r"evaluation.num_beams: .*less than or equal to 64"),
        (
            "evaluation: {select_on: nothing}",
            r"select_on: 'nothing' is no score of emotion \(known: accuracy,",
        ),
        ("evaluation: {select_on: acuracy}", r"is no score of emotion, did you mean 'accuracy'"),
        ("data.x: " + "y" * 50_000, r"data.x: unknown key"),
    ],
    ids=lambda value: value[:28],
)
def test_hostile_recipes_end_in_one_short_error(tmp_path, text, problem):
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: mine\ntask: emotion\ndata: {{dataset: owner/name}}\n{text}\n")
    with pytest.raises(RecipeError, match=problem) as caught:
        load_recipe(file)
    assert str(file) in str(caught.value) and len(str(caught.value)) < 2000


def test_every_score_of_a_task_may_pick_the_checkpoint():
    for task in TASKS.values():
        for name in score_names(task):
            values = {**MINIMAL, "task": task.name, "evaluation": {"select_on": name}}
            assert parse_recipe(values, where="here").select_on == name


def test_a_thousand_mistakes_are_counted_not_listed(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("".join(f"key{number}: {number}\n" for number in range(1000)))
    with pytest.raises(RecipeError, match=r"1003 problems(.|\n)*\n  and 983 more") as caught:
        load_recipe(file)
    assert len(str(caught.value).splitlines()) == 22


def test_what_is_no_file_is_not_read_as_a_recipe(tmp_path):
    with pytest.raises(RecipeError, match="no recipe at"):
        load_recipe("x" * 5000)
    with pytest.raises(RecipeError, match="no recipe at"):
        load_recipe("a\0b")
    with pytest.raises(RecipeError, match="no recipe at"):
        load_recipe(tmp_path)
    large = tmp_path / "large.yaml"
    large.write_bytes(b" " * 500_000)
    with pytest.raises(RecipeError, match=r"large.yaml cannot be read: 500,000 bytes"):
        load_recipe(large)
    large.write_bytes(b"name: \xff")
    with pytest.raises(RecipeError, match=r"large.yaml is not UTF-8: .* at byte 6"):
        load_recipe(large)


def test_unclose_words_list_what_is_known():
    with pytest.raises(RecipeError, match=r"lora.zzz: unknown key \(known: rank, alpha"):
        parse_recipe({**MINIMAL, "lora": {"zzz": 1}}, where="here")


def test_missing_keys_are_named():
    with pytest.raises(RecipeError, match=r"data.dataset: required, but missing"):
        parse_recipe({"name": "mine", "task": "qa", "data": {}}, where="here")


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "a: [1", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        load_recipe(file)


def test_unknown_recipe_lists_where_it_looked_and_suggests():
    with pytest.raises(RecipeError, match=r"did you mean 'emotion'"):
        load_recipe("emotoin")


def test_overrides_are_yaml_and_validated():
    recipe = load_recipe(
        "emotion", ["training.learning_rate=3e-5", "lora.target_modules=[q, v]", "training.patience=null"]
    )
    assert recipe.training.learning_rate == 3e-5  # PyYAML reads 3e-5 as a string; the schema makes it a number
    assert recipe.lora.target_modules == ("q", "v")
    assert recipe.training.patience is None
    with pytest.raises(RecipeError, match=r"training.epochs: .*\(got -1\)"):
        load_recipe("emotion", ["training.epochs=-1"])


def _for_mini(tmp_path: Path, section: str) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\ntask: emotion\ndata: {dataset: a/b}\ntraining: {epochs: 4, batch_size: 8}\n"
        f"for_base: {section}\n"
    )
    return file


def test_values_for_one_base_hold_on_that_base_only_and_set_wins(tmp_path):
    file = _for_mini(tmp_path, "{mini: {training: {learning_rate: 2.0e-3, epochs: 1}}}")
    large, mini = load_recipe(file), load_recipe(file, iter(["base.model=mini"]))
    assert (large.training.epochs, mini.training.epochs) == (4, 1)
    assert (large.training.batch_size, mini.training.batch_size) == (8, 8)
    assert mini.training.learning_rate == 2e-3
    assert load_recipe(file, ["base.model=mini", "training.epochs=2"]).training.epochs == 2
    assert "for_base" not in mini.resolved()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipe_is_valid_on_mini(path):
    assert load_recipe(path, ["base.model=mini"]).base.model == "mini"


def test_mistakes_in_values_for_a_base_are_named(tmp_path):
    file = _for_mini(tmp_path, "{mini: {training: {learning_rat: 2.0e-3}}}")
    with pytest.raises(RecipeError, match=r"training.learning_rat: unknown key, did you mean 'learning_rate'"):
        load_recipe(file, ["base.model=mini"])
    with pytest.raises(RecipeError, match=r"for_base: expected base.model -> sections, got \['mini'\]"):
        load_recipe(_for_mini(tmp_path, "[mini]"))


@pytest.mark.parametrize(
    "override",
    [
        "nonsense",
        "=3",
        "a..b=3",
        "data.x=[",
        "data.x=2024-01-01",
        "name.x=1",
        'name="x" y',
        "lora.target_modules=[q",
    ],
)
def test_malformed_override_is_refused(override):
    with pytest.raises(RecipeError, match="--set"):
        load_recipe("emotion", [override])


def test_overrides_do_not_touch_their_input():
    values = {"data": {"dataset": "a/b"}}
    apply_overrides(values, ["data.config=x"])
    assert values == {"data": {"dataset": "a/b"}}


@pytest.mark.parametrize("quantization", ["fp16", "int4", "float16"])
def test_half_precision_that_overflows_is_not_offered(quantization):
    with pytest.raises(RecipeError, match=r"base.quantization"):
        parse_recipe({**MINIMAL, "base": {"quantization": quantization}}, where="here")


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_initialisations_that_change_the_base_are_not_offered(init):
    with pytest.raises(RecipeError, match=r"lora.init_lora_weights: unknown key"):
        parse_recipe({**MINIMAL, "lora": {"init_lora_weights": init}}, where="here")


def test_micro_batch_must_divide_the_batch():
    with pytest.raises(RecipeError, match="micro_batch_size must divide batch_size"):
        parse_recipe({**MINIMAL, "training": {"batch_size": 16, "micro_batch_size": 3}}, where="here")


def test_fingerprint_ignores_spelling_and_sees_every_value():
    plain = parse_recipe(MINIMAL, where="here")
    spelled_out = parse_recipe(plain.resolved(), where="here")
    changed = parse_recipe({**MINIMAL, "training": {"seed": 1}}, where="here")
    assert plain.fingerprint() == spelled_out.fingerprint() != changed.fingerprint()


def test_every_field_has_help():
    def sections(section):
        yield section
        for field in section.model_fields.values():
            for below in sections_in(field.annotation):
                yield from sections(below)

    missing = [
        f"{s.__name__}.{n}" for s in sections(Recipe) for n, f in s.model_fields.items() if not f.description
    ]
    assert missing == []


def test_published_recipes_keep_their_fingerprint(repo: Path) -> None:
    """A field that is younger than an adapter must not make it another one: train-all would train it again."""
    for file in sorted((repo / "adapters").glob("*/*/manifest.json")):
        manifest = json.loads(file.read_text(encoding="utf-8"))
        assert Recipe.model_validate(manifest["recipe"]).fingerprint() == manifest["recipe_fingerprint"], (
            file.parent.name
        )


def test_targets_are_spelled_out_for_a_base() -> None:
    linears = ("q", "k", "v", "o", "wi", "wo")
    for given, named in (
        ("all-linear", linears),
        ("attention", linears[:4]),
        (["wo", "attention"], ("wo", "q", "k", "v", "o")),
        (["q", "attention", "all-linear"], linears),
        (["wi_0"], ("wi_0",)),
    ):
        assert (
            parse_recipe({**MINIMAL, "lora": {"target_modules": given}}, where="test").lora.modules(linears)
            == named
        )
    with pytest.raises(RecipeError, match=r"lora\.target_modules"):
        parse_recipe({**MINIMAL, "lora": {"target_modules": "all_linear"}}, where="test")


def test_what_is_younger_than_an_adapter_leaves_its_fingerprint() -> None:
    plain = parse_recipe(MINIMAL, where="test")
    every = ["q", "k", "v", "o", "wi_0", "wi_1", "wo"]
    for same in (
        {"lora": {"target_modules": every}},
        {"data": {**MINIMAL["data"], "romanise": True}},
        {"base": {"nf4_double_quant": True}},
    ):
        assert parse_recipe({**MINIMAL, **same}, where="test").fingerprint() == plain.fingerprint()
    for other in (
        {"lora": {"target_modules": "attention"}},
        {"data": {**MINIMAL["data"], "romanise": False}},
        {"base": {"nf4_double_quant": False}},
    ):
        assert parse_recipe({**MINIMAL, **other}, where="test").fingerprint() != plain.fingerprint()
