"""Dials: what they say, which values they give, and what is refused before anything is trained."""

from __future__ import annotations

import re

import pytest

from flan_lora.errors import RecipeError
from flan_lora.recipe import Recipe, parse_recipe
from flan_lora.training.sweep.dials import Dial, check_dials, parse_grid, parse_range, plan_trials


@pytest.fixture
def recipe() -> Recipe:
    return parse_recipe({"name": "moods", "task": "emotion", "data": {"dataset": "a/b"}}, where="test")


def settled(recipe: Recipe, *dials: Dial) -> tuple[Dial, ...]:
    return check_dials(recipe, dials)


def test_a_grids_values_are_read_as_the_recipe_reads_them(recipe: Recipe) -> None:
    """YAML's 1e-4 is a text, and brackets hold commas."""
    [rates] = settled(recipe, parse_grid("training.learning_rate=1e-4, 3e-3"))
    assert rates.choices == (1e-4, 3e-3)
    [modules] = settled(recipe, parse_grid("lora.target_modules=[q, v],[all-linear]"))
    assert modules.choices == (["q", "v"], ["all-linear"])
    [flags] = settled(recipe, parse_grid("lora.use_dora=true,false"))
    assert flags.choices == (True, False)


def test_draws_stay_in_their_range_and_fill_it(recipe: Recipe) -> None:
    dials = settled(
        recipe,
        parse_range("log", "training.learning_rate=1e-4..1e-2"),
        parse_range("uniform", "lora.dropout=0..0.3"),
    )
    trials = plan_trials(recipe, dials, samples=400, seed=0)
    rates = sorted(values["training.learning_rate"] for values in trials)
    assert 1e-4 <= rates[0] and rates[-1] <= 1e-2
    below = sum(rate < 1e-3 for rate in rates) / len(rates)
    assert 0.42 < below < 0.58, "evenly in the logarithm: the middle is 1e-3, not 5e-3"
    dropouts = sorted(values["lora.dropout"] for values in trials)
    assert 0 <= dropouts[0] < 0.02 and 0.28 < dropouts[-1] <= 0.3
    assert all(float(f"{rate:.4g}") == rate for rate in rates), "numbers that a person reads"


def test_fields_of_whole_numbers_are_drawn_in_whole_numbers(recipe: Recipe) -> None:
    dials = settled(recipe, parse_range("log", "lora.rank=1..4"), parse_range("uniform", "lora.alpha=1..3"))
    trials = plan_trials(recipe, dials, samples=200, seed=1)
    assert {values["lora.rank"] for values in trials} == {1, 2, 3, 4}
    assert {values["lora.alpha"] for values in trials} == {1, 2, 3}
    assert len(trials) == 12, "each once: what was drawn before is left out"


def test_each_point_of_the_grid_gets_its_own_draws_and_more_samples_only_add(recipe: Recipe) -> None:
    dials = settled(recipe, parse_grid("lora.rank=4,16"), parse_range("log", "training.learning_rate=1e-4..1e-2"))
    few, many = (plan_trials(recipe, dials, samples, seed=0) for samples in (2, 5))
    assert len(few) == 4 and len(many) == 10 and many[:4] == few
    assert [values["lora.rank"] for values in few] == [4, 16, 4, 16]
    assert len({values["training.learning_rate"] for values in many}) == 10
    assert plan_trials(recipe, dials, 2, seed=1) != few


@pytest.mark.parametrize(
    ("dial", "message"),
    [
        (parse_grid("lora.rnk=4"), "did you mean 'rank'"),
        (parse_grid("lora.rank=4,0"), "lora.rank=0 is not a valid recipe"),
        (parse_grid("lora.rank=4,many"), "lora.rank: "),
        (parse_range("log", "training.learning_rate=1e-4..3"), "less than or equal to 1"),
        (parse_range("log", "lora.rank=1.5..4"), "takes whole numbers (got 1.5..4)"),
        (parse_range("uniform", "lora.target_modules=1..4"), "not a number. Name its values: --grid"),
        (parse_grid("base.model=mini,other"), "a worker loads its base once"),
        (parse_grid("task=qa,emotion"), "scores of two tasks"),
        (parse_grid("training.seed=0,1"), "it also draws the validation rows"),
        (parse_grid("evaluation.select_on=accuracy,macro_f1"), "trials are compared by this score"),
        (parse_grid("data.max_validation_rows=10,20"), "the validation rows must stay the same"),
    ],
    ids=lambda value: value.key if isinstance(value, Dial) else "",
)
def test_a_bad_dial_is_named(recipe: Recipe, dial: Dial, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        check_dials(recipe, [dial])


def test_every_bad_dial_is_named_at_once(recipe: Recipe) -> None:
    with pytest.raises(RecipeError) as caught:
        check_dials(recipe, [parse_grid("lora.rnk=4"), parse_grid("name=a,b"), parse_grid("lora.alpha=8,16")])
    assert "rnk" in str(caught.value) and "another adapter" in str(caught.value)
    assert "alpha" not in str(caught.value)
    twice = [parse_grid("lora.rank=4"), parse_range("log", "lora.rank=1..4")]
    with pytest.raises(RecipeError, match="two dials"):
        check_dials(recipe, twice)


def test_values_that_do_not_go_together_are_named_with_their_trial(recipe: Recipe) -> None:
    dials = settled(recipe, parse_grid("training.batch_size=16,24"), parse_grid("training.micro_batch_size=8,16"))
    with pytest.raises(RecipeError, match=r"batch_size=24 training.micro_batch_size=16 is not a valid recipe"):
        plan_trials(recipe, dials, 1, seed=0)


@pytest.mark.parametrize(
    "text",
    [
        "training.learning_rate",
        "training..x=1..2",
        "lora.rank=4",
        "lora.rank=4..4",
        "lora.rank=a..b",
        "lora.rank=0..4",
    ],
)
def test_a_range_that_is_none_is_explained(text: str) -> None:
    with pytest.raises(RecipeError, match=r"--log '"):
        parse_range("log", text)


@pytest.mark.parametrize("text", ["lora.rank", "lora.rank=", "lora.rank=[4", "lora.rank=4,4"])
def test_a_grid_that_is_none_is_explained(text: str) -> None:
    with pytest.raises(RecipeError, match=r"--grid '"):
        parse_grid(text)


def test_a_plan_needs_something_to_vary_and_ends_somewhere(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match="nothing to vary"):
        plan_trials(recipe, [], 1, seed=0)
    with pytest.raises(RecipeError, match="the grid comes once"):
        plan_trials(recipe, settled(recipe, parse_grid("lora.rank=4,16")), 2, seed=0)
    with pytest.raises(RecipeError, match="more than 10,000"):
        plan_trials(recipe, settled(recipe, parse_range("log", "lora.rank=1..4")), 10_001, seed=0)
