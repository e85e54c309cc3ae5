"""A caller's generation parameters over an adapter's own, and texts that end an answer."""

from __future__ import annotations

from typing import Any

import pytest

from flan_lora.engine.generation_params import GenerationParams, Sampling
from flan_lora.errors import RequestError
from flan_lora.serving.params import NAMES, cut_at_stop, held_back, over, resolve

OWN = {"num_beams": 4, "length_penalty": 0.8, "no_repeat_ngram_size": 3, "min_new_tokens": 5}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, GenerationParams(max_new_tokens=40, **OWN)),
        ({"num_beams": 2, "max_new_tokens": None}, GenerationParams(max_new_tokens=40, **{**OWN, "num_beams": 2})),
        ({"max_new_tokens": 3}, GenerationParams(max_new_tokens=3, **{**OWN, "min_new_tokens": 3})),
        (
            {"temperature": 0.7, "seed": 5},
            GenerationParams(40, 5, do_sample=True, temperature=0.7, seed=5, no_repeat_ngram_size=3),
        ),
        ({"top_k": 3}, GenerationParams(40, 5, do_sample=True, top_k=3, no_repeat_ngram_size=3)),
        ({"temperature": 0, "top_p": 0.3}, GenerationParams(40, top_p=0.3, **OWN)),
        ({"temperature": 0.7, "do_sample": False}, GenerationParams(40, temperature=0.7, **OWN)),
        ({"seed": 3}, GenerationParams(40, seed=3, **OWN)),
        ({"top_p": 1.0, "top_k": 0}, GenerationParams(40, **OWN)),
        ({"stop": "."}, GenerationParams(40, stop=(".",), **OWN)),
        ({"stop": ["a", "b"]}, GenerationParams(40, stop=("a", "b"), **OWN)),
        (GenerationParams(7), GenerationParams(7)),
    ],
)
def test_what_is_asked_for_stands_over_what_the_adapter_was_evaluated_with(given: Any, expected: Any) -> None:
    assert resolve(given, OWN, 40) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_bems": 2}, "'num_bems' is no generation parameter, did you mean 'num_beams'"),
        ({"best_of": 2}, r"'best_of' is no generation parameter \(known: max_new_tokens, "),
        ({5: 2}, "5 is no generation parameter"),
        (["num_beams"], "a mapping of names to values"),
        ({"temperature": -1}, "temperature: expected more than 0"),
        ({"temperature": "hot"}, "temperature: expected a number"),
        ({"max_new_tokens": True}, "max_new_tokens: expected a whole number"),
        ({"stop": [5]}, "stop: expected texts"),
        ({"stop": ""}, "stop: expected texts"),
        ({"temperature": 0.5, "num_beams": 2}, "sampling takes 1"),
        ({"num_return_sequences": 9}, "num_return_sequences"),
        ({"length_penalty": 5.1}, r"length_penalty: expected -3.*? to 5 .*got 5.1"),
        ({"length_penalty": float("nan")}, "length_penalty: expected"),
        ({"max_new_tokens": 512, "length_penalty": -2.0}, r"length_penalty: expected -1.* for 512 new tokens"),
    ],
)
def test_what_makes_no_sense_is_named(given: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        resolve(given, OWN, 40)


def test_the_older_keywords_are_parameters_too() -> None:
    older = {"num_beams": 2, "max_new_tokens": None, "sampling": None}
    assert over({"top_p": 0.5}, older) == {"top_p": 0.5, "num_beams": 2}
    assert over(None, {"sampling": Sampling(0.5, 0.9, 3)}) == {
        "do_sample": True,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
    }
    assert over(GenerationParams(9, num_beams=2), {"num_beams": 3}) == GenerationParams(9, num_beams=3)
    with pytest.raises(TypeError, match="unexpected keyword 'num_bems'"):
        over(None, {"num_bems": 2})
    assert set(NAMES) >= {"max_new_tokens", "stop", "seed"}


def test_a_stop_ends_a_text_and_what_may_become_one_is_held_back() -> None:
    assert cut_at_stop("one. two; three", ("; ", ".")) == "one"
    assert cut_at_stop("one", ("two",)) == "one"
    assert [held_back(text, ("END", "DX")) for text in ("a", "aE", "aEN", "aEND", "aD", "")] == [0, 1, 2, 1, 1, 0]
