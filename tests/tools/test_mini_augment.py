"""Spellings of posts, pairs and dialogues leave most texts, all words and every speaker."""

from __future__ import annotations

import random
import re

from tools.mini import augment


def test_most_texts_stay_and_the_same_seed_gives_the_same():
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
