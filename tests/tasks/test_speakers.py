"""Speakers' marks become names that the base knows, answers get them back, and plain chats stay as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flan_lora.serving.prompts import ServingConfig
from flan_lora.tasks import TASKS
from flan_lora.tasks.speakers import STAND_INS, read_dialogue
from flan_lora.tasks.text import plain

SUMMARIZATION = TASKS["summarization"]


@pytest.mark.parametrize(
    "dialogue",
    [
        "<b>Ann</b>: hi\n<b>Bob</b>: see you at 10:30",
        "<i>Ann:</i> hi\n<i>Bob:</i> see you at 10:30",
        "**Ann:** hi\n**Bob**: see you at 10:30",
        "__Ann__: hi\n*Bob:* see you at 10:30",
        "[Ann] hi\n[Bob]: see you at 10:30",
        "(Ann): hi\n(Bob): see you at 10:30",
        "<Ann> hi\n<Bob> see you at 10:30",
        "#Ann#: hi\n#Bob#: see you at 10:30",
        "Ann - hi\nBob \u2013 see you at 10:30",
        "Ann> hi\nBob>> see you at 10:30",
        "- Ann: hi\n\u2022 Bob: see you at 10:30",
        "1. Ann: hi\n2) Bob: see you at 10:30",
        "[10:15] Ann: hi\n(10:16 pm) Bob: see you at 10:30",
        "10:15:07 Ann: hi\n10:16 - Bob: see you at 10:30",
        "12/31/20, 10:15 PM - Ann: hi\n12/31/20, 10:16 PM - Bob: see you at 10:30",
        "Ann (10:15): hi\nBob [10:16 AM]: see you at 10:30",
    ],
)
def test_names_in_other_forms_become_a_chat(dialogue: str) -> None:
    found = read_dialogue(dialogue)
    assert found.turns == ("Ann: hi", "Bob: see you at 10:30")
    assert found.marks == {}


@pytest.mark.parametrize(
    ("first", "second"),
    [("#Person1#", "#Person2#"), ("SPEAKER_00", "SPEAKER_01"), ("Speaker 1", "Speaker 2"), ("P1", "P2")],
)
def test_marks_that_are_no_names_get_stand_ins_and_come_back(first: str, second: str) -> None:
    found = read_dialogue(f"{first}: hi {second}\n{second}: hello, {first}'s friend!")
    assert found.turns == ("Sam: hi Alex", "Alex: hello, Sam's friend!")
    assert (
        found.restore("Sam greets Alex. Samuel is Sam's friend.")
        == f"{first} greets {second}. Samuel is {first}'s friend."
    )
    assert found.stand_in(f"{first} greets {second}.") == "Sam greets Alex."


@pytest.mark.parametrize(
    ("dialogue", "turns"),
    [
        ("<b>A</b>: A hi\n<b>B</b>: yo", ("Sam: A hi", "Alex: yo")),
        ("[A] hi\n[B] yo\n[laughs]", ("Sam: hi", "Alex: yo", "[laughs]")),
        ("A - hi\nB - no\nA - ok", ("Sam: hi", "Alex: no", "Sam: ok")),
        ("1: hi\n2: 1 more", ("Sam: hi", "Alex: 1 more")),
        ("\u0410\u043d\u043d\u0430: hi\n\u674e: so", ("Sam: hi", "Alex: so")),
        ("<b>Speaker 1</b>: hi", ("Sam: hi",)),
        ("#Person1#: hi, it's Sam and alex", ("Chris: hi, it's Sam and alex",)),
        ("\u2022 hi\n\u2022 there", ("hi", "there")),
    ],
)
def test_stand_ins_are_nobody_in_the_dialogue(dialogue: str, turns: tuple[str, ...]) -> None:
    assert read_dialogue(dialogue).turns == turns


@pytest.mark.parametrize(
    "dialogue",
    [
        "Ann: hi\nBob : see you\nAnn: at 10:30?\nBob: [laughs] ok - fine",
        "A: hi\nB: hi\nTeam_V: hello",
        "Ann: look\nhttps://example.org/1:2\n<file_gif>\nBob: nice",
        "See you at 10:30\nok 11:15\nWell - I think so - no",
        "[laughs]\nAnn: x\nBob: y",
        "Room 5: the big one\nno marks here\nnor here",
        "just a text",
        "",
    ],
)
def test_plain_chats_stay_letter_by_letter(dialogue: str) -> None:
    found = read_dialogue(dialogue)
    assert found.turns == tuple(dialogue.split("\n") if dialogue else ())
    assert found.marks == {}
    assert found.restore("Sam greets Alex.") == "Sam greets Alex."


def test_letters_come_back_and_an_article_is_nobody() -> None:
    found = read_dialogue("[A] hi\n[B] yo")
    assert found.restore("Sam greets Alex.") == "A greets B."
    assert found.stand_in("A greets B. A man and a dog see A, B's friend.") == (
        "Sam greets Alex. A man and a dog see Sam, Alex's friend."
    )


def test_more_speakers_than_stand_ins_keep_their_marks() -> None:
    found = read_dialogue("\n".join(f"P{number}: hi" for number in range(30)))
    assert len(found.marks) == len(STAND_INS)
    assert found.turns[-1] == "P29: hi"


TEXTS = st.lists(
    st.sampled_from([*"AB1:-[]<>#*() \n", "Sam", "#Person1#", "10:15", "<b>", "</b>", "Ann: "]), max_size=30
)


@given(st.text(max_size=60) | TEXTS.map("".join), st.text(max_size=20))
@settings(max_examples=300, deadline=None, derandomize=True)
@example("#1#:\n#1#:", "Sam")
def test_any_text_is_read_and_any_answer_comes_back(dialogue: str, answer: str) -> None:
    found = read_dialogue(dialogue)
    assert all(turn.strip() for turn in found.turns)
    assert all("\n" not in turn for turn in found.turns)
    assert not set(found.marks) - set(STAND_INS)
    marks = " ".join(mark for mark in found.marks.values() if not mark.isdecimal() and len(mark) > 1)
    assert found.restore(found.stand_in(marks)) == marks
    assert isinstance(found.restore(answer), str)


def test_training_and_serving_read_the_same_names() -> None:
    row = {"id": 1, "dialogue": "#Person1#: hi\n#Person2#: yo", "summary": "#Person1# greets #Person2#."}
    (item,) = SUMMARIZATION.examples(row)
    assert item.prompt.body == "Sam: hi | Alex: yo"
    assert (item.target, item.references) == ("Sam greets Alex.", ("#Person1# greets #Person2#.",))
    assert item.prompt == SUMMARIZATION.prompt({"dialogue": row["dialogue"]})
    assert SUMMARIZATION.answer(f" {item.target} ", item.inputs) == item.references[0]
    config = ServingConfig(SUMMARIZATION)
    assert config.parse(item.target, {"dialogue": row["dialogue"]}) == item.references[0]


def test_every_row_of_samsum_is_read_as_before(shared_data: Path) -> None:
    """The published adapter learnt from these prompts: version 1 stays what it was."""
    num_rows = 0
    for split in ("train", "validation", "test"):
        file = shared_data / "knkarthick__samsum" / "default" / f"{split}.jsonl"
        for line in file.read_text(encoding="utf-8").split("\n"):
            row = json.loads(line) if line else {"dialogue": ""}
            lines = [turn.strip() for turn in (row["dialogue"] or "").splitlines() if turn.strip()]
            for item in SUMMARIZATION.examples(row) if lines else ():
                assert item.prompt.body == " | ".join(map(plain, lines))
                assert item.target == plain(row["summary"].strip())
                assert SUMMARIZATION.answer("Sam meets Alex.", item.inputs) == "Sam meets Alex."
                num_rows += 1
    assert num_rows > 16_000
