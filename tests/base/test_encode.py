"""Encoding: a cut prompt is still a normal prompt, and a batch is what T5 expects."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flan_lora.base.encode import Collator, encode_source, encode_sources, encode_target, encode_targets
from flan_lora.errors import DataError
from flan_lora.tasks.task import Prompt
from tests.tiny import tiny_t5, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
EOS = TOKENIZER.eos_token_id
BODIES = st.lists(st.text(alphabet="abcjoy ,.\n", max_size=60), max_size=30).map(" ".join)


def ids_of(text: str) -> list[int]:
    return TOKENIZER(text)["input_ids"]


def test_a_short_prompt_is_encoded_whole() -> None:
    encoded = encode_source(TOKENIZER, Prompt("Text: ", "joy to you", " what is it"), 64)
    assert encoded.input_ids == ids_of("Text: joy to you what is it")
    assert encoded.input_ids[-1] == EOS
    assert encoded.num_dropped_tokens == 0


def test_a_long_prompt_loses_the_end_of_its_body_only() -> None:
    prompt = Prompt("Text: ", "joy " * 50 + "anger", " what is it")
    encoded = encode_source(TOKENIZER, prompt, 30)
    kept = len(encoded.input_ids)
    assert TOKENIZER.decode(encoded.input_ids, skip_special_tokens=True).endswith("joy joy what is it")
    assert encoded.input_ids[:4] == ids_of(str(prompt))[:4]
    assert kept <= 30
    assert encoded.num_dropped_tokens == len(ids_of(str(prompt))) - kept > 0


@given(body=BODIES, max_tokens=st.integers(20, 120))
@settings(max_examples=60, deadline=None)
def test_a_cut_prompt_is_the_longest_normal_text_that_fits(body: str, max_tokens: int) -> None:
    prompt = Prompt("Text: ", body, " what is it")
    encoded = encode_source(TOKENIZER, prompt, max_tokens)
    assert len(encoded.input_ids) <= max_tokens
    assert encoded.input_ids[-1] == EOS
    if encoded.num_dropped_tokens:
        texts = [f"Text: {body[:end]} what is it" for end in range(len(body) + 1)]
        assert encoded.input_ids in [ids_of(text) for text in texts]
    else:
        assert encoded.input_ids == ids_of(str(prompt))


def test_no_further_word_would_have_fitted() -> None:
    words = ["joy", "anger", "fear", "love"] * 20
    encoded = encode_source(TOKENIZER, Prompt("", " ".join(words)), 12)
    assert encoded.input_ids == ids_of(" ".join(words[:11]))


def test_a_word_without_end_is_cut_inside() -> None:
    encoded = encode_source(TOKENIZER, Prompt("", "z" * 500), 60)
    assert 30 < len(encoded.input_ids) <= 60


@given(bodies=st.lists(BODIES, min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_many_prompts_at_once_equal_one_by_one(bodies: list[str]) -> None:
    prompts = [Prompt("Text: ", body, " what") for body in bodies]
    assert encode_sources(TOKENIZER, prompts, 40) == [encode_source(TOKENIZER, p, 40) for p in prompts]


def test_no_prompts_are_no_rows() -> None:
    assert encode_sources(TOKENIZER, [], 40) == []


def test_a_prompt_whose_fixed_part_is_too_long_names_the_dial() -> None:
    prompt = Prompt("what is the question ", "joy " * 90, " of the long tail")
    needed = len(ids_of("what is the question  of the long tail"))
    with pytest.raises(DataError) as failure:
        encode_source(TOKENIZER, prompt, 8)
    assert str(failure.value) == (
        f"a prompt does not fit: {needed} tokens without its body, at most 8.\n"
        "  prompt  what is the question [...] of the long tail\n"
        f"Raise data.max_source_tokens to at least {needed}, or shorten the input."
    )


def test_a_long_target_ends_in_eos_too() -> None:
    encoded = encode_target(TOKENIZER, "joy " * 20, 6)
    assert encoded.input_ids == ids_of("joy joy joy joy joy")
    assert encoded.num_dropped_tokens == 15


def test_targets_at_once_equal_one_by_one() -> None:
    texts = ["joy", "", "love " * 30, "a b c"]
    assert encode_targets(TOKENIZER, texts, 8) == [encode_target(TOKENIZER, text, 8) for text in texts]
    assert encode_targets(TOKENIZER, [""], 8)[0].input_ids == [EOS]


def test_eos_is_added_where_the_tokenizer_adds_none() -> None:
    def bare(texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[7, 8] for _ in texts]}

    bare.eos_token_id = 1  # type: ignore[attr-defined]
    assert encode_target(bare, "x", 8).input_ids == [7, 8, 1]  # type: ignore[arg-type]


def test_a_batch_is_padded_to_its_longest_item() -> None:
    batch = Collator(pad_id=0, decoder_start_id=0, pad_to_multiple_of=4)(
        [{"input_ids": [5, 6, 1], "labels": [7, 1]}, {"input_ids": [5, 6, 7, 8, 1], "labels": [9, 8, 7, 6, 1]}]
    )
    assert batch["input_ids"].tolist() == [[5, 6, 1, 0, 0, 0, 0, 0], [5, 6, 7, 8, 1, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0]]
    assert batch["labels"].tolist() == [[7, 1, *[-100] * 6], [9, 8, 7, 6, 1, *[-100] * 3]]
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


@pytest.mark.parametrize("multiple", [1, 4, 8])
def test_decoder_inputs_are_the_ones_that_t5_would_make(multiple: int) -> None:
    items = [{"input_ids": [5, 1], "labels": [7, 1]}, {"input_ids": [6, 1], "labels": [9, 8, 7, 6, 1]}]
    batch = Collator(pad_id=0, decoder_start_id=0, pad_to_multiple_of=multiple)(items)
    own = tiny_t5().prepare_decoder_input_ids_from_labels(batch["labels"])
    scored = batch["labels"] != -100
    assert batch["decoder_input_ids"].shape == own.shape
    assert torch.equal(batch["decoder_input_ids"][scored], own[scored])
    assert (batch["decoder_input_ids"] >= 0).all()  # -100 there would index outside the embedding


def test_items_without_labels_make_a_batch_for_generation() -> None:
    batch = Collator(pad_id=0, decoder_start_id=0)([{"input_ids": [5, 1]}])
    assert sorted(batch) == ["attention_mask", "input_ids"]
    assert batch["input_ids"].shape == (1, 8)


def test_the_real_tokenizer_keeps_instruction_question_and_eos(shared_data: Path) -> None:
    from transformers import T5Tokenizer

    tokenizer = T5Tokenizer.from_pretrained(str(shared_data / "t5"), extra_ids=100)
    prompt = Prompt(
        "Here is a dialogue: ", "Ann: Did you see it? | Bo: Not yet! | " * 40, " Write a short summary."
    )
    encoded = encode_source(tokenizer, prompt, 100)
    text = tokenizer.decode(encoded.input_ids)
    assert 96 <= len(encoded.input_ids) <= 100
    assert text.startswith("Here is a dialogue: Ann: Did you see it? | Bo: Not yet!")
    assert text.endswith("Write a short summary.</s>")
