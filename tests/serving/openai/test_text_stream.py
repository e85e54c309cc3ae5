"""Pieces of text that are never taken back, and stop strings."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flan_lora.base.decode import decode as decode_ids
from flan_lora.base.fast_tokenizer import read_fast_tokenizer
from flan_lora.base.load import open_tokenizer
from flan_lora.mini import MINI_PATH
from flan_lora.recipe import BaseSection
from flan_lora.serving.openai.text_stream import Decode, TextStream, TokenTexts, first_stop
from flan_lora.tasks import TASKS
from flan_lora.tasks.romanise import romanise

PIECES = [" a", " ab", "b", " end", "END", " ", "#", " #", ".", " bhaa", "rat", "E"]


def decode(ids: Sequence[int]) -> str:
    return "".join(PIECES[each] for each in ids)


def run(ids: Sequence[int], stop: Sequence[str] = (), decode: Decode = decode) -> list[str]:
    stream = TextStream(TokenTexts(decode), str.strip, stop=stop)
    pieces = [stream.push(each) for each in ids]
    return [*pieces, stream.finish()]


@given(
    st.lists(st.integers(0, len(PIECES) - 1), max_size=20), st.sampled_from([(), ("END",), (" end", "b"), ("EN",)])
)
def test_pieces_joined_are_the_text_up_to_the_first_stop(ids: list[int], stop: tuple[str, ...]) -> None:
    whole = decode(ids).strip()
    # a stop string that stood in an earlier text may have ended it: the first moment counts, as for a reader
    for end in range(len(ids) + 1):
        text = decode(ids[:end]).strip()
        if (place := first_stop(text, stop)) is not None:
            whole = text[:place]
            break
    assert "".join(run(ids, stop)) == whole


@pytest.mark.parametrize("errors", ["ignore", "replace"])
@given(st.lists(st.sampled_from([*"aé€😀 ".encode(), 0xC3, 0xE2, 0xFF]), max_size=16))
def test_characters_of_several_tokens_come_whole(errors: str, ids: list[int]) -> None:
    """ByT5 has a token for each byte, and leaves out what is no character; others show that it is none."""

    def decode_bytes(ids: Sequence[int]) -> str:
        return bytes(ids).decode("utf-8", errors=errors)

    assert "".join(run(ids, decode=decode_bytes)) == decode_bytes(ids).strip()
    text = "aé€😀"
    assert run(list(f"{text} {text}".encode()), decode=decode_bytes)[:12].count("") == 11


@pytest.mark.parametrize("task", sorted(TASKS))
@given(words=st.lists(st.sampled_from(["Joy", "in", romanise("भारत की राजधानी"), "#", "1947", "x."]), max_size=6))
def test_what_a_task_parses_comes_out_whole(task: str, words: list[str]) -> None:
    text = " ".join(words)
    characters = [*range(len(text))]
    stream = TextStream(TokenTexts(lambda ids: "".join(text[each] for each in ids)), TASKS[task].parse)
    pieces = [stream.push(each) for each in characters]
    sent = "".join([*pieces, stream.finish()])
    assert sent == TASKS[task].parse(text)


def test_words_come_when_they_are_whole() -> None:
    assert run([0, 2, 1, 3]) == ["", "", "ab", " ab", " end"]


def test_a_stop_string_that_began_is_held_back_until_it_is_none() -> None:
    stream = TextStream(TokenTexts(decode), str.strip, stop=["ab end"])
    assert [stream.push(each) for each in (0, 1, 3)] == ["", "", "a "]
    assert stream.is_stopped and stream.text == "a "
    assert stream.push(0) == "" and stream.finish() == "" and stream.num_tokens == 3


@given(
    st.lists(st.sampled_from(["Sam", "Alex", "Samson", "met", "at 8.", "Customer"]), max_size=7),
    st.integers(1, 4),
)
def test_speakers_come_out_under_their_own_names(words: list[str], size: int) -> None:
    inputs = {"dialogue": "Customer 12: hi\nAgent 1: hello\nCustomer 12: ok"}
    task = TASKS["summarization"]
    answer = " ".join(words)
    pieces = [answer[start : start + size] for start in range(0, len(answer), size)]

    def restore(text: str) -> str:
        assert task.restore is not None
        return task.restore(text, inputs)

    stream = TextStream(TokenTexts(lambda ids: "".join(pieces[each] for each in ids)), task.parse, restore)
    sent = [stream.push(place) for place in range(len(pieces))]
    assert "".join([*sent, stream.finish()]) == task.answer(answer, inputs)
    assert "Sam" not in words or "Customer 12" in task.answer(answer, inputs)


def test_a_token_adds_what_the_tokenizer_says_of_the_whole() -> None:
    """For every token that a T5 has: with a space or without, at the beginning, after unk and eos."""
    tokenizer = open_tokenizer(BaseSection(model="mini"))
    read = read_fast_tokenizer(MINI_PATH)  # as it is served
    assert read is not None
    draw, token_texts = random.Random(0), TokenTexts(partial(decode_ids, read))
    special = list(tokenizer.all_special_ids)
    for _ in range(400):
        ids = [draw.choice(special) if draw.random() < 0.1 else draw.randrange(len(tokenizer)) for _ in range(12)]
        stream = TextStream(token_texts, str.strip)
        pieces = [stream.push(token) for token in ids]
        assert "".join([*pieces, stream.finish()]) == decode_ids(tokenizer, ids).strip()
    names = TokenTexts(partial(decode_ids, read), lambda token: read.convert_ids_to_tokens([token])[0])
    (eos, space), happy = tokenizer.convert_tokens_to_ids(["</s>", "▁"]), tokenizer("happy").input_ids[0]
    assert [names.spell(token, before) for token in (eos, space) for before in ([], [happy])] == [
        "</s>",
        "</s>",
        "",
        " ",
    ]
