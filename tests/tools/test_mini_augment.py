"""Spellings change, statements do not."""

from __future__ import annotations

import random
import re

import pytest

from tools.mini import augment


@pytest.mark.parametrize(
    ("way", "text", "allowed"),
    [
        (augment.case, "i think i'm fine. really", {"I think I'm fine. Really"}),
        (augment.case, "Tim is Here", {"tim is here", "TIM IS HERE"}),
        (
            augment.contractions,
            "I do not know, they're late",
            {"I don't know, they're late", "I do not know, they are late", "I do not know, theyre late"},
        ),
        (augment.contractions, "Do not go", {"Don't go", "Do not go"}),
        (augment.punctuation, "so happy", {"so happy.", "so happy!", "so happy...", "so happy!!"}),
        (
            augment.punctuation,
            "Yes, I came.",
            {"Yes I came", "Yes, I came!!", "Yes, I came...", "Yes, I came!!!", "Yes, I came ."},
        ),
        (augment.hashtag, "what a long day", {f"what a {'#' * a}long day" for a in (1,)} | {
            "#what a long day", "what a long day #long", "what a long day #what",
        }),
    ],
)  # fmt: skip
def test_a_spelling_is_one_of_those_it_may_be(way, text, allowed):
    seen = {way(text, random.Random(seed)) for seed in range(60)}
    assert seen == allowed


def test_most_texts_stay_and_the_same_seed_gives_the_same(caplog):
    texts = [f"I do not think that number {n} is right, is it?" for n in range(300)]
    for way in (augment.post, augment.sentence):
        written = [way(text, random.Random(n)) for n, text in enumerate(texts)]
        assert written == [way(text, random.Random(n)) for n, text in enumerate(texts)]
        changed = sum(a != b for a, b in zip(texts, written, strict=True))
        assert 0.15 < changed / len(texts) < 0.5


def test_posts_keep_their_words():
    text = "what a lovely day it was"
    for seed in range(200):
        words = re.findall(r"[a-z]+", augment.post(text, random.Random(seed)).lower())
        assert words[:6] == text.split()


def test_turns_keep_their_speakers_and_their_order():
    text = "Ann: Are you in? | Bob B.: Yes, I am. | Ann: Good"
    seen = {augment.dialogue(text, random.Random(seed)) for seed in range(200)}
    assert text in seen and len(seen) > 20
    for written in seen:
        places = [written.lower().index(name) for name in ("ann", "bob b.", "good")]
        assert places == sorted(places) and written.count("Ann") == 2


def test_nukta_goes_whether_composed_or_not_and_nothing_else():
    composed, apart = "\u0958\u093e \u095b", "\u0915\u093c\u093e \u091c\u093c"
    assert augment.without_nukta(composed) == augment.without_nukta(apart) == "\u0915\u093e \u091c"
    assert augment.without_nukta("राजधानी é") == "राजधानी é"
