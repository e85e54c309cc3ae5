"""Spans that a question could ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flan_lora.tasks.answer_candidates import candidates

BRIDGE = (
    "The Harbour Bridge was opened by Jack Lang on 19 March 1932. It is 503 metres long and carries eight lanes "
    'of traffic. In Sydney people call it "the Coathanger". The bridge cost 6.25 million pounds.'
)


def test_names_dates_amounts_and_quotations_are_found_in_order():
    assert [span.text for span in candidates(BRIDGE)] == [
        "Harbour Bridge",
        "Jack Lang",
        "19 March 1932",
        "503 metres",
        "eight lanes",
        "Sydney",
        "Coathanger",
        "6.25 million pounds",
    ]


def test_a_capital_at_the_beginning_of_a_sentence_is_no_name():
    assert [span.text for span in candidates("This is it. After that we left. When Ada came, nobody spoke.")] == [
        "Ada"
    ]


def test_the_same_text_is_one_candidate():
    assert [span.text for span in candidates("Ada met Bo. Then Bo met Ada.")] == ["Ada", "Bo"]


@pytest.mark.parametrize("passage", ["", "nothing here", "..."])
def test_a_passage_may_hold_none(passage):
    assert candidates(passage) == []


@given(st.text(alphabet="Aa Bb 1,.\"'%\u201c\u201d the of", max_size=80))
def test_every_candidate_stands_where_it_says_and_none_overlap(passage):
    found = candidates(passage)
    for span in found:
        assert passage[span.start : span.start + len(span.text)] == span.text and span.text.strip()
    ends = [span.start + len(span.text) for span in found]
    assert all(end <= after.start for end, after in zip(ends, found[1:], strict=False))
