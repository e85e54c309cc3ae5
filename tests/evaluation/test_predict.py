"""Prediction over a tiny random T5: order, batches, beams, labels, modes and error texts."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from flan_lora.base.decode import label_constraint
from flan_lora.errors import BaseModelError, DataError
from flan_lora.evaluation.predict import predict
from flan_lora.recipe import EvaluationSection
from flan_lora.tasks.task import Example
from tests.evaluation.toy import LABELS, TOKENIZER, answers, make_examples, make_task
from tests.tiny import tiny_t5


@pytest.mark.parametrize("num_beams", [1, 3], ids=["greedy", "beams"])
@pytest.mark.parametrize("labels", [(), LABELS], ids=["free", "labels"])
def test_answers_depend_neither_on_batch_size_nor_on_order(
    model: Any, labels: tuple[str, ...], num_beams: int
) -> None:
    task = make_task(labels)
    examples = make_examples(task)
    alone = answers(model, task, examples, batch_size=1, num_beams=num_beams)
    if not labels:
        assert len(set(alone)) > len(alone) // 2, "the answers must differ, or a mix-up would not show"
    for batch_size in (3, 8, 32):
        assert answers(model, task, examples, batch_size=batch_size, num_beams=num_beams) == alone
    places = random.Random(1).sample(range(len(examples)), len(examples))
    shuffled = answers(model, task, [examples[p] for p in places], batch_size=3, num_beams=num_beams)
    assert shuffled == [alone[place] for place in places]


def test_answers_are_those_of_plain_generate_on_the_whole_prompt(model: Any) -> None:
    task = make_task()
    examples = make_examples(task, num=6)
    expected = []
    for example in examples:
        source = TOKENIZER(f"Text: {example.inputs['text']} Answer:", return_tensors="pt")
        ids = model.generate(**source, max_new_tokens=12, do_sample=False)[0]
        expected.append(TOKENIZER.decode(ids, skip_special_tokens=True).strip())
    assert answers(model, task, examples) == expected


SEARCHES: list[dict[str, Any]] = [
    {"max_new_tokens": 5},
    {"min_new_tokens": 9},
    {"repetition_penalty": 1.5},
    {"no_repeat_ngram_size": 2},
    {"num_beams": 3, "length_penalty": 3.0},
    {"num_beams": 3, "early_stopping": True, "min_new_tokens": 9},
]


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: "-".join(search))
def test_a_recipe_sets_how_answers_are_generated(model: Any, search: dict[str, Any]) -> None:
    task = make_task()
    examples, expected = make_examples(task), []
    for example in examples:
        source = TOKENIZER(f"Text: {example.inputs['text']} Answer:", return_tensors="pt")
        ids = model.generate(**source, **{"max_new_tokens": 12, "do_sample": False, **search})[0]
        expected.append(TOKENIZER.decode(ids, skip_special_tokens=True).strip())
    assert answers(model, task, examples, **search) == expected
    plain = {"num_beams": search["num_beams"]} if "num_beams" in search else {}
    assert expected != answers(model, task, examples, **plain), "it must matter for this to fail"


def test_labels_are_spelt_whatever_a_recipe_says_of_length_and_repetition(model: Any) -> None:
    task = make_task(LABELS)
    examples = make_examples(task)
    odd = {"min_new_tokens": 9, "no_repeat_ngram_size": 1, "repetition_penalty": 3.0}
    assert answers(model, task, examples, **odd) == answers(model, task, examples)


def test_beams_search_more_than_greedy(model: Any) -> None:
    task = make_task()
    examples = make_examples(task)
    assert answers(model, task, examples, num_beams=1) != answers(model, task, examples, num_beams=4)


@pytest.mark.parametrize("num_beams", [1, 2, 9], ids=["greedy", "beams", "more beams than labels"])
@pytest.mark.parametrize("seed", range(4))
def test_constrained_answers_are_labels_even_with_random_weights(seed: int, num_beams: int) -> None:
    task = make_task(LABELS)
    assert set(answers(tiny_t5(seed), task, make_examples(task), num_beams=num_beams)) <= set(LABELS)


def test_unconstrained_answers_of_random_weights_are_no_labels(model: Any) -> None:
    task = make_task(LABELS)
    assert not set(answers(model, task, make_examples(task), constrained=False)) & set(LABELS)


@pytest.mark.parametrize("wanted", LABELS)
def test_every_label_can_be_the_answer(model: Any, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that prefers the tokens of one label, in their order, gets to say that label and nothing longer."""
    task = make_task(LABELS)
    ids = TOKENIZER(wanted)["input_ids"]

    def prefer(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = input_ids.shape[1] - 1
        scores[:, ids[min(step, len(ids) - 1)]] += 100.0
        return scores

    generate = type(model).generate

    def generate_with_preference(self: Any, *args: Any, logits_processor: list[Any], **kwargs: Any) -> Any:
        return generate(self, *args, logits_processor=[prefer, *logits_processor], **kwargs)

    monkeypatch.setattr(type(model), "generate", generate_with_preference)
    assert answers(model, task, make_examples(task, num=3)) == [wanted] * 3


def test_only_the_tokens_of_a_label_may_follow_and_its_end_where_it_ends() -> None:
    constraint = label_constraint(TOKENIZER, ("not", "not joy", "sad"))
    is_not, joy, sad, eos = TOKENIZER("not joy sad")["input_ids"]
    assert constraint.allowed(()) == [is_not, sad]
    assert constraint.allowed((is_not,)) == [eos, joy]
    assert constraint.allowed((is_not, joy)) == constraint.allowed((sad,)) == [eos]
    for over_or_dead in ((sad, eos), (sad, joy)):
        assert constraint.allowed(over_or_dead) == [eos], "some token must stay finite"
    assert constraint.max_new_tokens == 3


def test_a_label_comes_back_as_given_and_is_then_parsed(model: Any) -> None:
    """The tokenizer turns double spaces into one; a decoded answer would equal no label."""
    task = replace(make_task(("not  joy",)), parse=str.upper)
    assert answers(model, task, make_examples(task, num=2)) == ["NOT  JOY"] * 2


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("joy", "खुशी"), r"cannot spell the label 'खुशी': its tokens are .*<unk> .*</s>\."),
        (("joy", "{}"), r"cannot spell the label '{}'"),
        (("joy", " "), r"cannot spell the label ' ': its tokens are </s>\."),
        (("joy", "z" * 99), r"the label 'z+' is too long: more than 64 tokens\. Shorten it\."),
    ],
    ids=["unknown script", "unknown characters", "empty", "too long"],
)
def test_labels_that_the_tokenizer_cannot_spell_are_named(
    model: Any, labels: tuple[str, ...], message: str
) -> None:
    task = make_task(labels)
    with pytest.raises(DataError, match=message):
        answers(model, task, make_examples(task))


def test_labels_that_are_one_to_the_tokenizer_are_named() -> None:
    with pytest.raises(DataError, match=r"the labels 'not joy' and 'not  joy' are the same to this base's"):
        label_constraint(TOKENIZER, ("not joy", "not  joy"))


def test_answers_may_be_longer_than_the_twenty_tokens_of_transformers(model: Any) -> None:
    task = make_task(max_new_tokens=45)
    lengths = [len(TOKENIZER(answer)["input_ids"]) for answer in answers(model, task, make_examples(task))]
    assert 25 < max(lengths) <= 47  # the text may split into other tokens than were generated


def test_values_of_the_checkpoint_do_not_leak_into_the_answers(model: Any) -> None:
    task = make_task()
    examples = make_examples(task, num=6)
    expected = answers(model, task, examples)
    stranger = tiny_t5()
    for name, value in {
        "max_new_tokens": 2,
        "num_beams": 4,
        "do_sample": True,
        "no_repeat_ngram_size": 1,
        "repetition_penalty": 5.0,
        "min_length": 9,
    }.items():
        setattr(stranger.generation_config, name, value)
    assert answers(stranger, task, examples) == expected


def crash(*args: Any, **kwargs: Any) -> Any:
    raise KeyboardInterrupt


def lora(model: Any, dropout: float = 0.0) -> Any:
    """A LoRA with seeded weights and random B: with PEFT's B = 0 it would be the base."""
    config = LoraConfig(
        r=4, lora_alpha=8, lora_dropout=dropout, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM"
    )
    peft_model = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in peft_model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.3, generator=generator)
    return peft_model


def test_an_adapter_answers_otherwise_than_its_base(model: Any) -> None:
    task = make_task()
    examples = make_examples(task)
    adapted = answers(lora(tiny_t5()), task, examples)
    assert adapted == answers(lora(tiny_t5()), task, examples, batch_size=1)
    assert adapted != answers(model, task, examples)


def test_prediction_within_training_sees_no_dropout_and_gives_every_mode_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = make_task()
    examples = make_examples(task)
    expected = answers(lora(tiny_t5()), task, examples)
    peft_model = lora(tiny_t5(), dropout=0.5)
    peft_model.train()
    peft_model.base_model.model.encoder.eval()  # a part that somebody froze on purpose
    modes = [module.training for module in peft_model.modules()]
    assert answers(peft_model, task, examples) == expected
    assert [module.training for module in peft_model.modules()] == modes
    monkeypatch.setattr(type(tiny_t5()), "generate", crash)
    with pytest.raises(KeyboardInterrupt):
        answers(peft_model, task, examples)
    assert [module.training for module in peft_model.modules()] == modes


@pytest.mark.parametrize("quantise", [False, True], ids=["fp32", "int8"])
def test_training_goes_on_after_a_prediction(quantise: bool, tmp_path: Path) -> None:
    """inference_mode must leave nothing behind that autograd refuses; bitsandbytes keeps state in its layers."""
    base = tiny_t5()
    if quantise:
        base = in_int8(base, tmp_path)
    peft_model = lora(base)
    task = make_task()
    answers(peft_model, task, make_examples(task, num=3))
    peft_model.train()
    batch = TOKENIZER(["a joy", "not sad"], return_tensors="pt", padding=True)
    peft_model(**batch, labels=batch["input_ids"]).loss.backward()
    gradients = [p.grad for name, p in peft_model.named_parameters() if "lora_A" in name]
    assert gradients and all(grad is not None and grad.abs().sum() > 0 for grad in gradients)


def in_int8(model: Any, folder: Path) -> Any:
    from transformers import BitsAndBytesConfig, T5ForConditionalGeneration

    model.save_pretrained(folder)
    config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0, llm_int8_skip_modules=["wo", "lm_head"])
    return T5ForConditionalGeneration.from_pretrained(folder, quantization_config=config, device_map="cpu")


def test_no_examples_give_no_answers(model: Any) -> None:
    assert answers(model, make_task(), []) == []


def test_a_source_that_is_too_long_is_cut_in_its_body_only(model: Any) -> None:
    task = make_task()
    long, longer = ({"text": "joy " * num} for num in (200, 300))
    rows = [Example(str(len(i["text"])), task.prompt(i), "", ("",), i) for i in (long, longer)]
    assert len(set(answers(model, task, rows))) == 1  # both are cut to the same text


def test_out_of_memory_names_the_dial(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(*args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(type(model), "generate", generate)
    task = make_task()
    with pytest.raises(BaseModelError) as error:
        answers(model, task, make_examples(task), batch_size=8, num_beams=2)
    assert str(error.value).startswith("out of memory while generating for 8 sources of up to ")
    assert "tokens, 2 beams.\n  --set evaluation.batch_size=4 " in str(error.value)


def test_other_runtime_errors_keep_their_traceback(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(type(model), "generate", generate)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        answers(model, make_task(), make_examples(make_task()))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "progress", "shown"),
    [(Terminal, True, True), (Terminal, False, False), (io.StringIO, True, False)],
    ids=["terminal", "not asked for", "pipe"],
)
def test_the_bar_is_for_terminals(
    model: Any, monkeypatch: pytest.MonkeyPatch, stream: Callable[[], io.StringIO], progress: bool, shown: bool
) -> None:
    stderr = stream()
    monkeypatch.setattr("sys.stderr", stderr)
    task = make_task()
    section = EvaluationSection()
    predict(
        model, TOKENIZER, task, make_examples(task), evaluation=section, max_source_tokens=96, progress=progress
    )
    assert ("/14" in stderr.getvalue()) is shown
