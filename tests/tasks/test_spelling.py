"""Spellings change, statements do not."""

from __future__ import annotations

import random

import pytest

from flan_lora.tasks import spelling
from flan_lora.tasks.speakers import read_dialogue

CHAT = "Ann: Are you in?\nBob B.: Yes, I am, Ann.\nAnn: Good"


@pytest.mark.parametrize(
    ("way", "text", "allowed"),
    [
        (spelling.case, "i think i'm fine. really", {"I think I'm fine. Really"}),
        (spelling.case, "Tim is Here", {"tim is here", "TIM IS HERE"}),
        (
            spelling.contractions,
            "I do not know, they're late",
            {
                "I don't know, they're late",
                "I do not know, they are late",
                "I do not know, theyre late",
                "I do not know, they're late",
            },
        ),
        (spelling.contractions, "Do not go", {"Don't go", "Do not go"}),
        (spelling.contractions, "I don't", {"I don't", "I do not", "I do n't", "I dont"}),
        (spelling.punctuation, "so happy", {"so happy.", "so happy!", "so happy...", "so happy!!"}),
        (
            spelling.punctuation,
            "Yes, I came.",
            {"Yes I came", "Yes, I came!!", "Yes, I came...", "Yes, I came!!!", "Yes, I came ."},
        ),
        (spelling.hashtag, "what a long day", {f"what a {'#' * a}long day" for a in (1,)} | {
            "#what a long day", "what a long day #long", "what a long day #what",
        }),
    ],
)  # fmt: skip
def test_a_spelling_is_one_of_those_it_may_be(way, text, allowed):
    seen = {way(text, random.Random(seed)) for seed in range(60)}
    assert seen == allowed


def test_nukta_goes_whether_composed_or_not_and_nothing_else():
    composed, apart = "\u0958\u093e \u095b", "\u0915\u093c\u093e \u091c\u093c"
    assert spelling.without_nukta(composed) == spelling.without_nukta(apart) == "\u0915\u093e \u091c"
    assert spelling.without_nukta("राजधानी é") == "राजधानी é"


def test_one_case_leaves_a_part_of_a_text_its_part():
    text = "The Bridge in Oslo"
    for seed in range(30):
        assert spelling.one_case("Oslo", random.Random(seed)) in spelling.one_case(text, random.Random(seed))


def test_a_way_in_turns_keeps_speakers_and_lines():
    lower = spelling.in_turns(lambda text, _: text.lower())
    assert lower(CHAT, random.Random(0)) == "Ann: are you in?\nBob B.: yes, i am, ann.\nAnn: good"


def test_one_spelling_holds_in_all_turns():
    for seed in range(20):
        lines = spelling.in_turns(spelling.punctuation)("A: Yes.\nB: Yes.", random.Random(seed)).splitlines()
        assert lines[0][3:] == lines[1][3:]


def test_speaker_marks_change_and_what_the_base_reads_of_plain_names_does_not():
    seen = {spelling.speaker_marks(CHAT, "Ann asks Bob B.", random.Random(seed)) for seed in range(80)}
    assert len(seen) == 10
    for dialogue, summary in seen:
        assert [line.rpartition(" ")[2] for line in dialogue.splitlines()][::2] == ["in?", "Good"]
        if summary == "Ann asks Bob B.":  # names in other marks: the prompt brings them into one form
            assert [turn.partition(":")[0].strip() for turn in read_dialogue(dialogue).turns] == [
                "Ann",
                "Bob B.",
                "Ann",
            ]
        else:  # no names: stand-ins in turns and summary alike
            assert "Ann" not in dialogue + summary and "Bob" not in dialogue + summary
            read = read_dialogue(dialogue)
            names = [turn.partition(":")[0] for turn in read.turns]
            assert read.stand_in(summary) == f"{names[0]} asks {names[1]}"
            assert read.turns[1].endswith(f"{names[0]}.")


def test_a_text_without_speakers_keeps_its_marks():
    assert spelling.speaker_marks("hello there", "A greeting.", random.Random(0)) == ("hello there", "A greeting.")
