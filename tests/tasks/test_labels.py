"""Which label a row's value means: exactly what is written, a place only where a number can mean nothing else."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flan_lora.errors import DataError, FlanLoraError
from flan_lora.tasks import TASKS
from flan_lora.tasks.labels import read_label, same_labels, spelt_as
from flan_lora.tasks.scorers import classification, score
from flan_lora.tasks.text import label_field

STARS = ("1", "2", "3", "4", "5")
EMOTIONS = TASKS["emotion"].labels


@pytest.mark.parametrize(
    ("labels", "value", "label"),
    [
        *(
            (STARS, value, "3")
            for value in (3, 3.0, "3", "3.0", " 3 ", np.int64(3), np.float32(3), Decimal("3.0"))
        ),
        *((("1", "0"), value, str(int(value))) for value in (1, 0, 1.0, 0.0)),
        *((("true", "false"), value, str(bool(value)).lower()) for value in (True, False, np.True_, np.False_)),
        (("true", "false"), "True", "true"),
        (("true", "false"), "FALSE", "false"),
        *((("2019", "2020"), value, "2020") for value in (2020, 2020.0, "2020", "2020.0")),
        *((("Refund", "Delivery"), value, "Refund") for value in ("Refund", "refund", "REFUND", " Refund\n")),
        (("very good", "bad"), "Very   Good", "very good"),
        (("café", "bar"), "cafe\u0301", "café"),
        (("Straße", "Weg"), "STRASSE", "Straße"),
        (("-1", "0", "1"), -1, "-1"),
        (("-1", "0", "1"), "-1.0", "-1"),
        (("0.5", "1.0"), 0.5, "0.5"),
        (("0.5", "1.0"), 1, "1.0"),
        (("01", "02"), "01", "01"),
        (("1e0", "x"), "1E0", "1e0"),
    ],
    ids=repr,
)
def test_a_value_that_equals_a_label_is_that_label(labels: tuple[str, ...], value: Any, label: str) -> None:
    assert read_label(value, labels) == (label, "name")


@pytest.mark.parametrize("value", [4, 4.0, "4", "4.0", " 4 ", np.int64(4), np.float64(4.0)], ids=repr)
def test_a_number_is_a_place_among_labels_in_words(value: Any) -> None:
    assert read_label(value, EMOTIONS) == ("fear", "index")


@pytest.mark.parametrize(
    ("labels", "value"),
    [
        *((STARS, value) for value in (0, 6, "0", -1, "03", "\uff13", True, False, "three", 2.5)),
        *((("2019", "2020"), value) for value in (0, 1, "0")),
        *((("1 star", "2 stars"), value) for value in (0, 1, "1")),
        *((("true", "false"), value) for value in (0, 1, "1")),
        *((("yes", "no"), value) for value in (0, 1)),
        (("\uff11", "\uff12"), 1),
        *(
            (EMOTIONS, value)
            for value in (True, False, "true", -1, "-1", 6, 1.5, "01", "+1", "1_0", "\uff14", "4,0", "0x1")
        ),
        *((EMOTIONS, value) for value in (None, "", " ", float("nan"), "nan", float("inf"), 10**400, "9" * 5000)),
        *(
            (EMOTIONS, value)
            for value in ([1], ("joy",), {"joy": 1}, b"joy", np.array([1, 2]), Decimal("sNaN"), 1j)
        ),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_anything_else_is_refused(labels: tuple[str, ...], value: Any) -> None:
    assert read_label(value, labels) is None
    with pytest.raises(DataError, match="column 'mood'"):
        label_field({"mood": value}, "mood", "emotion", labels)


def test_the_error_offers_places_only_where_they_are_read() -> None:
    with pytest.raises(DataError, match=r"expected  one of 1, 2, 3, 4, 5\n"):
        label_field({"label": 6}, "label", "stars", STARS)
    with pytest.raises(DataError, match=r"expected  0\.\.5 or one of sadness"):
        label_field({"label": 6}, "label", "emotion", EMOTIONS)


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=5), st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_every_label_reads_as_itself(labels: list[str], data: st.DataObject) -> None:
    if same_labels(labels):
        return
    label = data.draw(st.sampled_from(labels))
    assert read_label(label, tuple(labels)) == (label, "name")
    assert spelt_as(labels)(f" {label} ") == label


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.integers()))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_value_is_a_label_or_none(value: Any) -> None:
    for labels in (EMOTIONS, STARS, ("true", "false")):
        found = read_label(value, labels)
        assert found is None or found.label in labels


@pytest.mark.parametrize(
    "labels", [("joy", "Joy"), ("a b", "a  b"), ("é", "e\u0301"), ("1", "1.0"), ("1.1", "1.10"), ("x", "x")]
)
def test_labels_that_no_row_could_tell_apart_are_refused_when_the_task_is_made(labels: tuple[str, ...]) -> None:
    with pytest.raises(FlanLoraError, match=r"task emotion: the labels .* are one to"):
        dataclasses.replace(TASKS["emotion"], labels=labels)


def test_a_label_with_capitals_is_scored_as_itself() -> None:
    labels = ("Refund", "Delivery")
    for parse in (spelt_as(labels), str.lower):
        found = score(
            [classification(labels)], [parse("Refund"), parse("Refund")], [["Refund"], ["Delivery"]], ["", ""]
        )
        assert (found["accuracy"], found["invalid_share"]) == (0.5, 0.0)


def test_the_columns_with_labels_are_known() -> None:
    assert {name: dict(task.label_columns) for name, task in TASKS.items() if task.label_columns} == {
        "emotion": {"label": EMOTIONS},
        "paraphrase": {"label": ("no", "yes")},
        "similarity": {"label": ("no", "yes")},
    }
