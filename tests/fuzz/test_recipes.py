"""Recipes and overrides: whatever stands in the file, a recipe or a RecipeError that names it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flan_lora.recipe import Recipe
from flan_lora.recipe_file import find_recipe, load_recipe
from tests.fuzz.strategies import ODD_TEXTS, answer_or_error, changed, fuzz, values

SHIPPED = find_recipe("qa").read_text(encoding="utf-8")
TOKENS = (
    *("\n", "  ", "\t", ": ", "- ", "{", "}", "[", "]", ",", "&a ", "*a", "<<: *a", "!!set ", "!!binary ", "|\n"),
    *("'", '"', "# ", "--- ", "? ", "2024-01-01", "1:20", "~", "name: ", "task: ", "data: ", "lora: ", "\r"),
    *("%YAML 1.1\n",),
)  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "mine.yaml"


def check(file: Path, content: bytes, overrides: tuple[str, ...] = ()) -> None:
    file.write_bytes(content)
    found = answer_or_error(lambda: load_recipe(file, overrides), "mine.yaml", "--set")
    if isinstance(found, Recipe):  # what was accepted can be stored and read again
        assert Recipe.model_validate(found.resolved()) == found and len(found.fingerprint()) == 64


@fuzz
@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace"))))
def test_any_bytes(file: Path, content: bytes) -> None:
    check(file, content)


@fuzz
@given(tokens=st.lists(st.one_of(st.sampled_from(TOKENS), st.sampled_from(ODD_TEXTS)), max_size=20))
def test_any_tokens_of_yaml(file: Path, tokens: list[str]) -> None:
    check(file, "".join(tokens).encode("utf-8", "replace"))


@fuzz
@given(
    cuts=st.lists(
        st.tuples(st.integers(0, len(SHIPPED)), st.integers(0, 12), st.sampled_from((*TOKENS, *ODD_TEXTS))),
        min_size=1,
        max_size=3,
    )
)
def test_a_shipped_recipe_with_something_cut_and_something_put_in(
    file: Path, cuts: list[tuple[int, int, str]]
) -> None:
    text = SHIPPED
    for place, num_cut, put_in in cuts:
        text = text[:place] + put_in + text[place + num_cut :]
    check(file, text.encode("utf-8", "replace"))


@fuzz
@given(recipe=changed(yaml.safe_load(SHIPPED), max_changes=3))
def test_a_shipped_recipe_with_other_values(file: Path, recipe: object) -> None:
    check(file, yaml.safe_dump(recipe, allow_unicode=True).encode("utf-8", "replace"))


KEYS = st.lists(
    st.sampled_from("data training lora base evaluation name rank seed columns x for_base".split()), max_size=3
)


@fuzz
@given(keys=KEYS, value=st.one_of(values().map(str), st.sampled_from(ODD_TEXTS)))
def test_any_override(file: Path, keys: list[str], value: str) -> None:
    check(file, SHIPPED.encode(), (f"{'.'.join(keys)}={value}",))
