"""Answers in every shape that SQuAD's take in files: one meaning is read, more are refused with the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flan_lora.errors import DataError
from flan_lora.tasks.answers import answer_start, answers_field


def read(value: Any) -> tuple[tuple[str, ...], dict[str, str]]:
    row = {"id": 7, "answers": value}
    return answers_field(row, "answers", "qa"), answer_start(row, "answers", "qa")


@pytest.mark.parametrize(
    "value",
    [
        {"text": ["1900"], "answer_start": [39]},
        {"text": "1900", "answer_start": 39},
        {"text": ["1900"], "answer_start": [39.0]},
        {"text": ("1900",), "answer_start": "39"},
        {"text": np.array(["1900"], dtype=object), "answer_start": np.array([39])},
        [{"text": "1900", "answer_start": 39}],
        "{'text': ['1900'], 'answer_start': [39]}",
        '{"text": ["1900"], "answer_start": [39]}',
        " {'text': '1900', 'answer_start': 39}\n",
        "[{'text': '1900', 'answer_start': 39}]",
        '[{"answer_start": 39, "text": "1900"}]',
    ],
    ids=repr,
)
def test_one_answer_in_its_usual_shapes(value: Any) -> None:
    assert read(value) == (("1900",), {"answer_start": "39"})


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("['Denver', 'Broncos', 'Denver']", ("Denver", "Broncos")),
        ('["it\'s", "so"]', ("it's", "so")),
        ("('Denver', 'Broncos')", ("Denver", "Broncos")),
        ("('Denver',)", ("Denver",)),
        ('("so", he said)', ('("so", he said)',)),
        ("1900", ("1900",)),
        ("[sic] so he said", ("[sic] so he said",)),
        ("[sic]", ("[sic]",)),
        ("{old} maps", ("{old} maps",)),
        ("a [1]", ("a [1]",)),
    ],
)
def test_lists_in_cells_and_texts_in_brackets(value: str, texts: tuple[str, ...]) -> None:
    assert read(value) == (texts, {})


@pytest.mark.parametrize("start", [None, [], -1, [-1], [None]])
def test_a_missing_place_is_no_place(start: Any) -> None:
    assert read({"text": ["x"], "answer_start": start}) == (("x",), {})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("['Denver' 'Broncos']", "numpy prints lists without commas"),
        ("['Denver'\n 'Broncos']", "numpy prints"),
        ("{'text': array(['x'], dtype=object), 'answer_start': array([39])}", "numpy prints"),
        ("{'text': ['a', 'b'], 'answer_start': [1 2]}", "numpy prints"),
        ("{'text': ['x'], 'answer_st", "neither JSON nor a Python list"),
        ("['x', open('y')]", "neither JSON nor a Python list"),
        ("['a', ..., 'b']", "none of them blank"),
        ("[1]", "none of them blank"),
        ("{}", "none of them blank"),
        ("{'text': [], 'answer_start': []}", "none of them blank"),
        ("{'x'}", "none of them blank"),
        ("[None]", "none of them blank"),
        ("[" * 500 + "'x'" + "]" * 500, "8 levels deep"),
        ("['" + "x" * 100_000 + "']", "100,000 characters"),
        ({"text": ["x"], "answer_start": "late"}, "whole numbers"),
        ({"text": ["x"], "answer_start": 1.5}, "whole numbers"),
        ({"text": ["x"], "answer_start": True}, "whole numbers"),
        ({"text": ["half \ud83d"]}, r"character 6 is the lone surrogate \\ud83d"),
        (b"x", "none of them blank"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_has_no_one_meaning_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(DataError, match=rf"task qa, row 7: column 'answers': got [\s\S]*{reason}"):
        read(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "answer_start", "x"]), inner)
    ),
    max_leaves=8,
)


@given(JSON | JSON.map(repr) | st.text(st.sampled_from("[]{}'\",: \\abc1\n")) | st.binary())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_value_gives_answers_or_an_error_that_names_the_row(value: Any) -> None:
    try:
        texts, start = read(value)
    except DataError as error:
        assert "row 7: column 'answers'" in str(error)
        return
    assert texts and all(text.strip() for text in texts)
    assert all(place.isdecimal() for place in start.values())
