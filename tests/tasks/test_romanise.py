"""Romanised Devanagari comes back exactly, whatever stands around it, also through T5's real tokenizer."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flan_lora.base.decode import decode
from flan_lora.tasks.romanise import restore, romanise
from flan_lora.tasks.text import plain

BLOCK = "".join(map(chr, range(0x0900, 0x0980)))
JOINERS = "\u200c\u200d"
FREQUENT = "कखगचजटडतथनपफमयरसहअआइईउऊएऐािीुूेै़्ंँः।०१"
CODE_SIGNS = "#'=|aeikghnXZ19 .,(\n"
mixed_text = st.text(st.one_of(st.characters(), st.sampled_from(BLOCK + JOINERS), st.sampled_from(CODE_SIGNS)))
hindi_text = st.text(st.sampled_from(FREQUENT + JOINERS + CODE_SIGNS), max_size=24)
forms = pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])


@pytest.mark.parametrize(
    ("text", "roman"),
    [
        ("भारत", "# bhaarat"),
        ("की", "# ci"),
        ("कि", "# cee"),
        ("गई", "# ga'i"),
        ("स्तर", "# star"),
        ("महान्", "# mahaan'"),
        ("बड\u093cा", "# barra"),
        ("ब\u095cा", "# barrXa"),
        ("होती। की॥", "# hoti| ci||"),
        ("१९४७ में", "# =1947 meng"),
        ("क्या है?", "# cya hai?"),
        ("(DNA) कोशिका (RNA)", "(DNA) # coshica # (RNA)"),
        ("The # of क", "The ## of # c"),
        ("C#7 #love", "C#7 #love"),
        ("# 1", "## 1"),
        ("café (naïve = «für»)", "caf\u00e9 (na# =yaaop #ve = «für»)"),
        ("{x} 👨\u200d👩", "# =yaahl #x# =yaahn =wbpegi=zj=wbpegj"),
        ("6±0.5 m", "6# =yaalb #0.5 m"),
        ("क±\u03b1", "# c=yaalb=yadlb"),
        ("", ""),
    ],
)
def test_spelling(text: str, roman: str) -> None:
    assert romanise(text) == roman
    assert restore(roman) == text


@given(mixed_text)
@example("##")
@example("# ##क# #")
@example("क\u200d ")
@settings(max_examples=200, deadline=None)
def test_any_text_comes_back(text: str) -> None:
    assert restore(romanise(text)) == text


@given(hindi_text)
@settings(max_examples=400, deadline=None)
def test_any_order_of_letters_and_marks_comes_back(text: str) -> None:
    assert restore(romanise(text)) == text


@pytest.mark.parametrize("length", [1, 2])
def test_every_sequence_of_the_block_comes_back(length: int) -> None:
    texts = ["".join(pick) for pick in product(BLOCK + JOINERS, repeat=length)]
    assert [text for text in texts if restore(romanise(f"कि{text}ा")) != f"कि{text}ा"] == []


@forms
@given(text=hindi_text)
@settings(deadline=None)
def test_normal_forms_come_back_as_they_were(form: Any, text: str) -> None:
    normal = unicodedata.normalize(form, text)
    assert restore(romanise(normal)) == normal


def test_a_nukta_keeps_its_form() -> None:
    """NFC takes U+095C apart, so the two spellings of one letter need two codes."""
    assert romanise("\u095c") != romanise("\u0921\u093c")
    assert [restore(romanise(text)) for text in ("\u095c", "\u0921\u093c")] == ["\u095c", "\u0921\u093c"]


@given(st.text(st.sampled_from(BLOCK + JOINERS), min_size=1).filter(lambda text: not set(text) <= set(JOINERS)))
def test_devanagari_becomes_ascii_letters_digits_and_few_signs(text: str) -> None:
    assert re.fullmatch(r"# [A-Za-z0-9'=|]+", romanise(text))


@given(st.text(st.sampled_from("abYZ09 \n\u00a0!$%&'()*+,-./:;=?@[]_|£°ÉÎÜßàáçéöüășț–—‘’“”„•′€")))  # noqa: RUF001
def test_text_that_t5_holds_is_untouched(text: str) -> None:
    assert romanise(text) == text
    assert restore(text) == text


@given(st.text(st.sampled_from(FREQUENT + "abA12 .,;:!?()[]\"%-–—‘’“”„•…°#'")))  # noqa: RUF001
@settings(max_examples=200, deadline=None)
def test_a_tokenizer_that_normalises_and_collapses_spaces_does_no_harm(text: str) -> None:
    """The code is ASCII, and NFKC leaves alone what is not in it."""
    tidy = " ".join(unicodedata.normalize("NFKC", romanise(text)).split())
    assert restore(tidy) == " ".join(text.split())


@given(st.text(st.characters() | st.sampled_from("ab #'=…½ﬁ\u0301\u200e\u00ad")))
@settings(max_examples=200, deadline=None)
def test_nothing_but_white_space_is_lost_on_the_way_to_the_vocabulary(text: str) -> None:
    """What romanise leaves of any script survives NFKC and the task's own replacements."""
    assert restore(plain(romanise(text))) == " ".join(text.split())


@given(st.text(st.sampled_from("#'=|aeikghnXQ19zjp \n") | st.characters()))
@settings(max_examples=200, deadline=None)
def test_restore_takes_whatever_a_model_writes(text: str) -> None:
    assert isinstance(restore(text), str)


@pytest.mark.parametrize(
    ("answer", "restored"),
    [
        ("# bhaarat #", "भारत"),
        ("#  bhaarat", "भारत"),
        ("# bhaarataa", "भारता"),
        ("# bhaaBrat", "भाBरत"),
        ("# ", ""),
        ("#", "#"),
        ("# =", "="),
        ("# bhaarat # and", "भारत and"),
        ("bhaarat", "bhaarat"),
    ],
    ids=[
        "closed",
        "two spaces",
        "long final vowel",
        "no such letter",
        "empty run",
        "mark alone",
        "cut escape",
        "goes on",
        "not marked",
    ],
)
def test_a_slightly_wrong_spelling_still_reads(answer: str, restored: str) -> None:
    assert restore(answer) == restored


@pytest.mark.parametrize("text", ["क" + " " * 50_000 + "a", "# " + " " * 50_000, "क " * 20_000, "#" * 50_000])
def test_very_long_text_comes_back(text: str) -> None:
    """A pattern that backtracks would not end here within a coffee break."""
    assert restore(romanise(text)) == text


@pytest.mark.parametrize("number", [0, 0x7F, 0x8FF, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF])
def test_the_corners_of_unicode_have_an_escape(number: int) -> None:
    assert romanise(chr(number)).isascii()
    assert restore(romanise(f"a{chr(number)}b क{chr(number)}")) == f"a{chr(number)}b क{chr(number)}"


@pytest.fixture(scope="module")
def t5(shared_data: Path) -> Any:
    """T5's real tokenizer, as a base brings it."""
    from transformers import T5Tokenizer

    return T5Tokenizer.from_pretrained(str(shared_data / "t5"), extra_ids=100)


@pytest.fixture(scope="module")
def contexts(shared_data: Path) -> list[str]:
    """Every Hindi context of MLQA's validation split, once."""
    files = [
        shared_data / "facebook__mlqa" / f"mlqa.hi.{language}" / "validation.jsonl" for language in ("en", "hi")
    ]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return list(dict.fromkeys(json.loads(line)["context"] for line in lines))


@pytest.mark.parametrize("form", [str, lambda text: unicodedata.normalize("NFD", text)], ids=["raw", "NFD"])
@pytest.mark.parametrize("prepare", [str, plain], ids=["alone", "with the task's own"])
def test_every_hindi_context_survives_t5(
    t5: Any, contexts: list[str], prepare: Callable[[str], str], form: Callable[[str], str]
) -> None:
    """All 425, every character; T5 makes one space of any white space, and none at the ends."""
    texts = [form(context) for context in contexts]
    rows = t5([prepare(romanise(text)) for text in texts], return_attention_mask=False, verbose=False)["input_ids"]
    decoded = [decode(t5, ids) for ids in rows]
    assert [" ".join(restore(text).split()) for text in decoded] == [" ".join(text.split()) for text in texts]


def test_hindi_costs_few_tokens_and_no_unk(t5: Any, contexts: list[str]) -> None:
    rows = t5([romanise(context) for context in contexts], return_attention_mask=False, verbose=False)["input_ids"]
    num_tokens = sum(map(len, rows))
    assert sum(ids.count(t5.unk_token_id) for ids in rows) == 0
    assert num_tokens / sum(map(len, contexts)) <= 0.65  # tokens per character


def test_every_character_that_is_left_alone_is_in_the_vocabulary(t5: Any) -> None:
    """The list in `romanise` is fixed; this is where it comes from."""
    kept = [c for c in map(chr, range(0x2800)) if not c.isspace() and c != "#" and romanise(c) == c]
    rows = t5([f"x{c} {c} {c}1" for c in kept], return_attention_mask=False)["input_ids"]
    assert [decode(t5, ids) for ids in rows] == [f"x{c} {c} {c}1" for c in kept]
    assert len(kept) == 124
