"""Words of messages: which name was meant, and texts that are cut visibly."""

from __future__ import annotations

import time

import pytest

from flan_lora.system.text import closest, shorten, suggest

TASKS = ("emotion", "similarity", "summarization")


def test_a_slip_is_answered_with_the_name_and_a_stranger_with_all_names() -> None:
    assert closest("emotoin", TASKS) == "emotion" and closest("translate", TASKS) is None
    assert suggest("emotoin", TASKS) == ", did you mean 'emotion'?"
    assert suggest("translate", TASKS) == " (known: emotion, similarity, summarization)"
    assert suggest("translate", TASKS, list_known=False) == "" == suggest("translate", ())


def test_a_word_of_megabytes_costs_nothing() -> None:
    started_s = time.process_time()
    assert closest("emotion" * 500_000, TASKS) is None
    assert time.process_time() - started_s < 0.5


@pytest.mark.parametrize(
    ("text", "cut"), [("a\n b", "a b"), ("abcdef", "abcdef"), ("abcdefgh", "abc..."), ("", "")]
)
def test_a_text_is_one_line_of_limited_length(text: str, cut: str) -> None:
    assert shorten(text, 6) == cut
