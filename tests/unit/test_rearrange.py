"""Sentences said otherwise, and the compared pairs made of them."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from flan_lora.mini.rearrange import exchanged, moved, reworded
from flan_lora.mini.selfmade import compared

LEADING = "In the spring of 2004, the mayor of Berlin met the mayor of Paris."
EQUALS = "the talks between Berlin and Paris went on for weeks."


def _words(sentence: str) -> Counter[str]:
    return Counter(sentence.lower().replace(",", "").strip(".").split())


def test_a_leading_phrase_moves_to_the_end_and_the_words_stay():
    results = {moved(LEADING, random.Random(seed)) for seed in range(20)} - {None}
    assert results == {"The mayor of Berlin met the mayor of Paris in the spring of 2004."}


def test_equals_change_places_and_a_plain_sentence_has_no_other_order():
    assert moved(EQUALS, random.Random(0)) == "the talks between Paris and Berlin went on for weeks."
    assert moved("The mayor met him.", random.Random(0)) is None


@pytest.mark.parametrize("seed", range(12))
def test_an_exchange_keeps_the_words_and_changes_the_statement(seed):
    other = exchanged(LEADING, random.Random(seed))
    assert other != LEADING and _words(other) == _words(LEADING)


def test_one_word_cannot_be_exchanged():
    assert exchanged("He said so.", random.Random(0)) is None


@pytest.mark.parametrize("num_places", [0, 1, 3])
def test_rewording_touches_no_more_places_than_asked(num_places):
    for seed in range(30):
        before, after = _words(LEADING), _words(reworded(LEADING, random.Random(seed), num_places))
        assert sum((before - after).values()) <= num_places >= sum((after - before).values())


def test_compared_pairs_hold_both_answers_and_never_one_sentence_twice():
    document = f"{LEADING} They spoke of the river Spree and of the river Seine, and of the money for both."
    pairs = [compared(document, random.Random(seed)) for seed in range(300)]
    answers = Counter(pair.target for pair in pairs if pair)
    for alike, other in (("kept", "changed"), ("one", "two"), ("agree", "disagree")):
        assert min(answers[alike], answers[other]) > 20
    bodies = [re.split(" (?:Second|Sentence 2): ", pair.prompt.body) for pair in pairs if pair]
    assert all(first != second for first, second in bodies)
