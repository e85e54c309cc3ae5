"""`flan-lora recipe`, `train` and `data`: what they hand on and print; what they call is replaced by fakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from flan_lora.errors import DataError
from flan_lora.recipe import Recipe
from tests.cli.running import put_fake, run, succeed

RECIPES = sorted(path.stem for path in Path("recipes").glob("*.yaml"))


# Recipes


def test_recipe_list_has_all_six() -> None:
    lines = succeed("recipe", "list").splitlines()
    assert [line.split()[0] for line in lines[1:]] == RECIPES
    assert len(RECIPES) == 6


def test_recipes_ship_to_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert succeed("recipe", "list").count("\n") == 7
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "emotion.yaml").write_text("name: mine\ntask: emotion\ndata: {dataset: me/mine}\n")
    assert "me/mine" in succeed("recipe", "show", "emotion"), "a recipe of one's own wins"


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_show_prints_the_file_or_every_field(name: str) -> None:
    assert succeed("recipe", "show", name) == Path(f"recipes/{name}.yaml").read_text()
    resolved = yaml.safe_load(succeed("recipe", "show", name, "--resolved"))
    assert resolved == json.loads(succeed("recipe", "show", name, "--json"))
    assert Recipe.model_validate(resolved).name == name


def test_recipe_validate_reports_every_problem_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\ntask: emotion\ndata: {dataset: x/y}\nlora: {rank: 0}\n")
    (tmp_path / "b.yaml").write_text("name: b\ntask: emoton\ndata: {dataset: x/y}\n")
    result = run("recipe", "validate", tmp_path / "a.yaml", "emotion", tmp_path / "b.yaml")
    assert result.exit_code == 1
    assert "emotion: valid" in result.stdout
    assert "lora.rank" in result.stderr and "did you mean 'emotion'?" in result.stderr
    assert succeed("recipe", "validate").count("valid, fingerprint") == 6


def test_recipe_schema_is_json_and_describes_fields(tmp_path: Path) -> None:
    schema = json.loads(succeed("recipe", "schema"))
    assert schema["$defs"]["LoraSection"]["properties"]["rank"]["description"].startswith("Rank r")
    assert "for_base" in schema["properties"]
    assert succeed("recipe", "schema", "-o", tmp_path / "schema.json") == ""
    assert json.loads((tmp_path / "schema.json").read_text()) == schema


def test_an_unknown_recipe_names_the_near_one() -> None:
    result = run("recipe", "show", "emotoin")
    assert result.exit_code == 1
    assert "emotoin" in result.stderr and "emotion" in result.stderr


# Train


@dataclass
class FakeEstimate:
    """As much of an estimate as the command looks at."""

    num_trainable: int = 0

    def __str__(self) -> str:
        return "3,000 steps"


@dataclass
class FakePlan:
    """As much of a plan as the command looks at."""

    here: FakeEstimate = field(default_factory=FakeEstimate)

    def __str__(self) -> str:
        return str(self.here)


@dataclass
class FakeFactory:
    """Records how it is called."""

    calls: list[tuple[Any, dict[str, Any]]]

    def build_adapter(self, recipe: Recipe, source: Any, **options: Any) -> Path:
        options["echo"]("training")
        self.calls.append(((recipe, source), options))
        return Path(options["adapters_dir"]) / "mini" / recipe.name

    def plan(self, recipe: Recipe, source: Any) -> FakePlan:
        self.calls.append(((recipe, source), {}))
        return FakePlan()


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> FakeFactory:
    fake = FakeFactory([])
    put_fake(monkeypatch, "training.factory", build_adapter=fake.build_adapter, plan=fake.plan)
    return fake


def test_train_hands_everything_on(factory: FakeFactory, tmp_path: Path) -> None:
    options = "--base mini --data sample --set lora.rank=8 --resume --report-to tensorboard --name mine"
    assert "training" in succeed("train", "emotion", *options.split(), "--adapters-dir", tmp_path)
    (recipe, source), given = factory.calls[0]
    assert (recipe.base.model, recipe.lora.rank, recipe.name, source.kind) == ("mini", 8, "mine", "sample")
    assert (given["resume"], given["report_to"], given["adapters_dir"]) == (True, "tensorboard", tmp_path)
    assert given["run_dir"] == Path("runs/mini/mine")


def test_dry_run_trains_nothing(factory: FakeFactory) -> None:
    assert "3,000 steps" in succeed("train", "emotion", "--dry-run", "--data", "sample")
    assert [options for _, options in factory.calls] == [{}]


def test_json_output_holds_nothing_but_json(factory: FakeFactory) -> None:
    result = run("train", "emotion", "--data", "sample", "--json")
    assert json.loads(result.stdout) == {"path": "adapters/mini/emotion"}
    assert "training" in result.stderr


def test_another_base_drops_the_pinned_revision_and_its_own_is_kept(factory: FakeFactory, tmp_path: Path) -> None:
    pinned = tmp_path / "r.yaml"
    pinned.write_text("name: r\ntask: emotion\nbase: {model: a/b, revision: abc}\ndata: {dataset: x/y}\n")
    for options in ([], ["--base", "mini"], ["--base", "c/d", "--set", "base.revision=v1"]):
        succeed("train", pinned, "--data", "sample", *options)
    bases = [recipe.base for (recipe, _), _ in factory.calls]
    assert [(base.model, base.revision) for base in bases] == [("a/b", "abc"), ("mini", None), ("c/d", "v1")]


def test_a_strange_name_is_a_recipe_error(factory: FakeFactory) -> None:
    result = run("train", "emotion", "--data", "sample", "--name", 'x" y')
    assert result.exit_code == 1 and "name:" in result.stderr
    assert factory.calls == []


# Data


def put_fake_base(monkeypatch: pytest.MonkeyPatch, tokenizer: Callable[[Any], Any]) -> None:
    """A base whose recipe is the one that was given."""
    put_fake(monkeypatch, "base.load", open_tokenizer=tokenizer, open_config=lambda spec: None)
    put_fake(monkeypatch, "base.architecture", for_base=lambda recipe, config, tokenizer: recipe)


def test_data_inspect_and_lint_print_what_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = SimpleNamespace(problems=(), errors=(), raise_if_errors=lambda: None)
    put_fake_base(monkeypatch, tokenizer=lambda spec: spec.model)
    put_fake(
        monkeypatch,
        "data.inspect",
        inspect=lambda recipe, source, tokenizer, num_examples: (tokenizer, num_examples),
    )
    put_fake(monkeypatch, "data.lint", lint=lambda recipe, source, tokenizer: clean)
    assert json.loads(
        succeed("data", "inspect", "qa", "--base", "mini", "-n", "5", "--data", "sample", "--json")
    ) == ["mini", 5]
    assert "namespace" in succeed("data", "lint", "qa", "--data", "sample")


def test_data_lint_fails_on_errors_in_both_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Report:
        errors: tuple[str, ...] = ("too many <unk>",)

        def raise_if_errors(self) -> None:
            raise DataError("too many <unk>")

    put_fake_base(monkeypatch, tokenizer=lambda spec: None)
    put_fake(monkeypatch, "data.lint", lint=lambda *arguments: Report())
    plain, as_json = (
        run("data", "lint", "qa", "--data", "sample"),
        run("data", "lint", "qa", "--data", "sample", "--json"),
    )
    assert (plain.exit_code, as_json.exit_code) == (1, 1)
    assert plain.stderr == "Error: too many <unk>\n"
    assert json.loads(as_json.stdout) == {"errors": ["too many <unk>"]}
