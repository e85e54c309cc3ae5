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

from flan_lora import indic
from flan_lora.indic import restore, romanise

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
        ("Zoë's café {x} 👨‍👩", "Zoë's café {x} 👨‍👩"),
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


@given(st.text(st.characters(max_codepoint=0x08FF)).filter(lambda text: "#" not in text))
def test_text_without_devanagari_is_untouched(text: str) -> None:
    assert romanise(text) == text
    assert restore(text) == text


@given(st.text(st.sampled_from(FREQUENT + "abA12 .,;:!?()[]\"%-–—‘’“”„•…°#'")))  # noqa: RUF001
@settings(max_examples=200, deadline=None)
def test_a_tokenizer_that_normalises_and_collapses_spaces_does_no_harm(text: str) -> None:
    """The code is ASCII, so NFKC cannot reach it; what it does to the rest is T5's own doing."""
    tidy = " ".join(unicodedata.normalize("NFKC", romanise(text)).split())
    assert restore(tidy) == " ".join(re.sub("…", "...", text).split())


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


@pytest.fixture(scope="module")
def t5(shared_data: Path) -> Any:
    """T5's real SentencePiece model, without transformers."""
    sentencepiece = pytest.importorskip("sentencepiece")
    return sentencepiece.SentencePieceProcessor(model_file=str(shared_data / "t5" / "spiece.model"))


@pytest.fixture(scope="module")
def contexts(shared_data: Path) -> list[str]:
    """Every Hindi context of MLQA's validation split, once, as T5 would normalise what is not Devanagari."""
    files = [
        shared_data / "facebook__mlqa" / f"mlqa.hi.{language}" / "validation.jsonl" for language in ("en", "hi")
    ]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [_as_t5(context) for context in dict.fromkeys(json.loads(line)["context"] for line in lines)]


def _as_t5(text: str) -> str:
    """NFKC, invisible characters gone, spaces collapsed, outside Devanagari."""
    parts = re.split(rf"([\u0900-\u097f{JOINERS}]+)", text)
    parts[::2] = [unicodedata.normalize("NFKC", part).replace("\u200e", "") for part in parts[::2]]
    return " ".join("".join(parts).replace("\u200b", " ").split())


@pytest.mark.parametrize("form", [str, lambda text: unicodedata.normalize("NFD", text)], ids=["raw", "NFD"])
def test_every_hindi_context_survives_t5(t5: Any, contexts: list[str], form: Callable[[str], str]) -> None:
    """Characters of other scripts that T5 lacks (Arabic, Greek, ...) are beyond romanisation: stand-ins here."""
    lacks = {c for c in set("".join(contexts)) if not indic._in_block(c) and t5.unk_id() in t5.encode(f"x{c}")}
    known = [form("".join("*" if c in lacks else c for c in context)) for context in contexts]
    known = [_as_t5(text) for text in known]
    assert [restore(t5.decode(t5.encode(romanise(text)))) for text in known] == known


def test_hindi_costs_few_tokens_and_no_unk(t5: Any, contexts: list[str]) -> None:
    pieces = [t5.encode(romanise(context)) for context in contexts]
    num_tokens = sum(map(len, pieces))
    assert sum(ids.count(t5.unk_id()) for ids in pieces) / num_tokens <= 0.001
    assert num_tokens / sum(map(len, contexts)) <= 0.65  # tokens per character, 0.64 measured
