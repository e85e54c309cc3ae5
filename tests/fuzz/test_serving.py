"""What a folder or a request says about how to answer: an answer, or one error, and the same to all who ask."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flan_lora.engine.generation_params import GenerationParams
from flan_lora.serving.completion import Completion
from flan_lora.serving.params import NAMES
from flan_lora.serving.router import Router
from tests.fuzz.routers import tiny_router
from tests.fuzz.strategies import answer_or_error, changed, fuzz, values

WEIGHTS, CONFIG, MANIFEST = "adapter_model.safetensors", "adapter_config.json", "manifest.json"
SHORT = {"max_new_tokens": 3}
"""A folder may ask for thousands of tokens, which a test need not wait for."""
_numbers = itertools.count()


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Router:
    """`whole` beside the store is what every example changes."""
    path = tmp_path_factory.mktemp("fuzz")
    router = tiny_router(path, "emotion", "bad")
    shutil.copytree(path / "adapters" / "bad", path / "whole")
    return router


def whole(router: Router) -> Path:
    return router.store.root.parent / "whole"


def ask(router: Router, adapter: str | None, params: Any) -> Completion:
    return router.generate("i am so sad", adapter, params=params)


def check(router: Router, adapter: str, *places: str) -> None:
    """Asked twice it answers twice, or refuses twice; its neighbour answers."""
    first, second = (answer_or_error(lambda: ask(router, adapter, SHORT), *places) for _ in range(2))
    assert type(first) is type(second), (first, second)
    if isinstance(first, Completion) and isinstance(second, Completion):
        assert first.text == second.text
    assert ask(router, "emotion", SHORT).adapter == "emotion"


GENERATION = (
    "num_beams max_new_tokens min_new_tokens length_penalty early_stopping constrained repetition_penalty"
    " no_repeat_ngram_size batch_size max_test_rows select_on"
).split()


@fuzz
@given(given_values=st.dictionaries(st.sampled_from(GENERATION), values(), min_size=1, max_size=3),
       limits=st.dictionaries(st.sampled_from(["max_source_tokens", "max_target_tokens"]), values(), max_size=1),
       temperature=st.one_of(st.just(1.0), values()))  # fmt: skip
def test_a_manifest_with_other_ways_to_generate(
    router: Router, given_values: dict[str, Any], limits: dict[str, Any], temperature: Any
) -> None:
    document = json.loads((whole(router) / MANIFEST).read_bytes())
    document["recipe"]["evaluation"] |= given_values
    document["recipe"]["data"] |= limits
    document["label_temperature"] = temperature
    folder = router.store.root / "bad"
    (folder / MANIFEST).write_text(json.dumps(document))
    try:
        check(router, "bad", "bad", *given_values, *limits, "label_temperature")
    finally:
        if "bad" in [each.name for each in router.status()]:
            router.unload("bad")


@fuzz
@given(data=st.data())
def test_a_plain_folder_with_another_config(router: Router, tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / f"{next(_numbers)}"
    folder.mkdir()
    config = json.loads((whole(router) / CONFIG).read_bytes())
    (folder / CONFIG).write_text(json.dumps(data.draw(changed(config))))
    shutil.copy(whole(router) / WEIGHTS, folder)
    task = data.draw(st.sampled_from([None, "emotion", "qa"]))
    loaded = answer_or_error(lambda: router.load("mine", folder, task=task), "mine", folder.name)
    if loaded is None:
        check(router, "mine", "mine", "question")
        router.unload("mine")


@fuzz
@given(
    params=st.one_of(
        st.dictionaries(st.sampled_from(NAMES), values(), max_size=4), values(st.sampled_from(NAMES))
    ),
    adapter=st.sampled_from(["emotion", None]),
)
def test_a_request_with_any_parameters(router: Router, params: Any, adapter: str | None) -> None:
    if isinstance(params, dict):
        params = SHORT | params
        if isinstance(params["max_new_tokens"], int) and params["max_new_tokens"] > 40:
            params["max_new_tokens"] = 40
    names = (*NAMES, "generation param", "params for 1 texts")
    answer_or_error(lambda: ask(router, adapter, params), *names)


@fuzz
@given(given_values=st.dictionaries(st.sampled_from(NAMES), values(), max_size=4))
def test_parameters_in_python(given_values: dict[str, Any]) -> None:
    try:
        answer_or_error(lambda: GenerationParams(**given_values), *NAMES)
    except TypeError:  # no such keyword, or none that can be had
        assert not given_values
