"""The further sets ask in the base's own words, and leave out what they cannot ask well."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import pytest

from flan_lora.tasks import get_task
from tools.mini import instruct_more as more


def test_feelings_are_never_spelt_as_the_adapter_spells_them_and_the_answer_is_an_option():
    assert not set(get_task("emotion").labels) & set(more.NAMED)
    places = set()
    for n in range(120):
        fields = more.feeling({"text": f"text {n}", "labels": ["gratitude"]})
        drawn = fields["options"].split(" - ")[1:]
        assert len(set(drawn)) == more.NUM_OPTIONS and drawn.count("grateful") == 1
        assert {fields["left"], fields["right"]} <= set(drawn) and "grateful" in (fields["left"], fields["right"])
        assert fields["left"] != fields["right"]
        places.add(drawn.index("grateful"))
    assert places == set(range(more.NUM_OPTIONS))


def test_texts_with_two_feelings_and_most_neutral_ones_are_left_out():
    assert more.feeling({"text": "x", "labels": ["joy", "love"]}) is None
    kept = [more.feeling({"text": f"text {n}", "label": "neutral"}) is not None for n in range(400)]
    assert 20 < sum(kept) < 90


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"label": 5.0}, "same"),
        ({"label": 0.0}, "different"),
        ({"label": 2.5}, None),
        ({"label": "neutral", "relatedness": 4.5}, "same"),
    ],
)
def test_graded_pairs_are_asked_only_where_the_grade_is_sure(row, answer):
    fields = more.graded({"sentence1": "a", "sentence2": "b", **row})
    assert (fields and fields["answer"]) == answer


def test_a_reply_is_the_turn_behind_its_dialogue_and_nobody_elses():
    lines = [f"{'AB'[n % 2]}: turn number {n}" for n in range(9)]
    fields = more.reply({"dialogue": "\n".join(lines)})
    number = int(fields["answer"].rpartition(" ")[2])
    assert number >= more.FEWEST_TURNS - 1 and fields["speaker"] == "AB"[number % 2]
    assert fields["text"].endswith(lines[number - 1]) and fields["answer"] not in fields["text"]
    assert more.reply({"dialogue": "A: one\nB: two\nA: three"}) is None


def test_hindi_pairs_are_in_latin_letters_with_and_without_nukta():
    spelt = {
        more.hindi_verdict({"sentence1": f"ज़मीन {n}", "sentence2": "फ़ल", "label": "not_entailment"})["second"]
        for n in range(20)
    }
    assert len(spelt) == 2 and all(text.isascii() for text in spelt)


def test_long_dialogues_are_left_out_not_cut():
    assert more.topic({"dialogue": "A: " + "word " * 400, "services": ["Music_1"]}) is None
    assert more.topic({"dialogue": "A: hi\nB: ho", "services": ["Music_1", "Music_2", "Hotels_1"]})["answer"] == (
        "music and hotels"
    )


def test_every_set_gives_pairs_some_written_otherwise(data_root, monkeypatch):
    from tools.mini import augment
    from tools.mini.instruct import templated

    for mix in more.MORE:
        if mix.fields in (more.reply, more.topic, more.meeting):
            continue  # the made-up dialogues have two turns
        pairs = list(templated(data_root, mix, random.Random(0)))
        assert pairs and all(pair.target for pair in pairs), mix.source
        monkeypatch.setattr(augment, "SHARE", 0.0)
        plain = list(templated(data_root, mix, random.Random(0)))
        monkeypatch.undo()
        assert len(plain) == len(pairs)
        if mix.augment is not None:
            assert {str(pair.prompt) for pair in pairs} != {str(pair.prompt) for pair in plain}, mix.source


def test_nothing_that_our_adapters_are_measured_on_is_among_the_sets():
    from tools.mini.instruct import OWN_SOURCES
    from tools.mini.probes import TASK_FILES

    assert not {mix.source for mix in more.MORE} & set(OWN_SOURCES.values())
    assert all("validation" in path for _, path in TASK_FILES.values())


def test_no_stage_reads_what_its_licence_closes(data_root, tmp_path):
    from tools.mini import corpus, tokens

    closed = {entry.name for entry in corpus.SOURCES if entry.terms == "closed"}
    assert closed and not closed & {mix.source for mix in more.MORE}

    def lengths(texts, **_):
        return SimpleNamespace(input_ids=[[len(text)] for text in texts])

    tokens.token_stream(lengths, data_root, tmp_path / "tokens.npy")
    assert set(json.loads((tmp_path / tokens.LENGTHS_FILE).read_text())) == (
        {entry.name for entry in corpus.SOURCES} - closed
    )
