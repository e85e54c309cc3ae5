"""Our decode loop against ``generate`` on PEFT's model: the same tokens, for every row of every mixed batch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    StoppingCriteria,
    T5ForConditionalGeneration,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from flan_lora.base.decode import label_constraint
from flan_lora.engine import linear as dense
from flan_lora.engine.decode_group import RunningRequest
from flan_lora.engine.generation_params import GenerationParams
from flan_lora.engine.model_runner import ModelRunner
from flan_lora.engine.sampling import draw as draw_tokens
from flan_lora.engine.sampling import filtered_probs
from tests.engine.running import ask, generate
from tests.engine.served import Served, assert_equal_tokens, assert_log_probs_are_the_models, random_requests
from tests.tiny import tiny_t5, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
ALL = ["q", "k", "v", "o", "wi_0", "wi_1", "wo"]
ADAPTERS: dict[str, dict[str, Any]] = {
    "qv": {"r": 4, "lora_alpha": 8, "target_modules": ["q", "v"]},
    "all": {"r": 2, "lora_alpha": 3, "target_modules": ALL},
    "rs": {"r": 7, "lora_alpha": 5, "target_modules": ["k", "o", "wo"], "use_rslora": True},
}
GPU = pytest.mark.gpu
LARGE = "products as of a large base"
BASES: dict[str, dict[str, Any]] = {
    "gated": {},
    "one head, deep": {"num_heads": 1, "d_kv": 32, "num_layers": 3, "num_decoder_layers": 1},
    LARGE: {},
    "few buckets": {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 12},
}


def make_base(seed: int, **overrides: Any) -> T5ForConditionalGeneration:
    """A tiny T5 that ends its answers at all lengths."""
    base = tiny_t5(seed, **overrides)
    base.lm_head.weight.data[1] *= 1.6
    return base.requires_grad_(False)


@pytest.fixture(
    scope="module",
    params=[
        *((name, "cpu", False) for name in BASES),
        ("gated", "cpu", True),
        *(pytest.param((name, "cuda", True), marks=GPU) for name in BASES if name != LARGE),
    ],
    ids=lambda param: f"{param[0]}, {param[1]}{', boards' if param[2] else ''}",
)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    name, device, graphs = request.param
    base = make_base(list(BASES).index(name), **BASES[name]).to(device)
    with pytest.MonkeyPatch.context() as patch:
        if name == LARGE:
            patch.setattr(dense, "_MIN_WEIGHT", 0)
        yield Served(base, tmp_path_factory.mktemp("adapters"), ADAPTERS, graphs=graphs)


@pytest.mark.parametrize("seed", range(2))
def test_greedy_rows_of_a_mixed_batch_are_generates_tokens(served: Served, seed: int) -> None:
    requests = random_requests(seed, 12, [None, *ADAPTERS])
    assert_equal_tokens(served, requests)
    lengths = {len(row[0].ids) for row in served.ours(requests)}
    assert len(lengths) > 2, "rows must end at different steps for this to test that they leave"


@pytest.mark.parametrize(("num_beams", "num_return"), [(2, 1), (3, 3), (5, 2)])
def test_beams_of_a_mixed_batch_are_generates_tokens(served: Served, num_beams: int, num_return: int) -> None:
    fields = {"num_beams": num_beams, "num_return_sequences": num_return}
    assert_equal_tokens(served, random_requests(num_beams, 8, [None, *ADAPTERS], **fields))


def test_a_long_answer_is_generates(served: Served) -> None:
    assert_equal_tokens(served, random_requests(7, 2, [None, *ADAPTERS], max_new_tokens=70))
    assert_equal_tokens(served, random_requests(8, 2, ["all"], max_new_tokens=40, num_beams=2))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_labels_are_generates_labels(served: Served, num_beams: int) -> None:
    labels = label_constraint(TOKENIZER, ["joy", "sad", "sadness", "not joy", "fear of the question"])
    fields = {"constraint": labels, "max_new_tokens": labels.max_new_tokens, "num_beams": num_beams}
    requests = random_requests(11, 8, [None, *ADAPTERS], **fields)
    assert_equal_tokens(served, requests)
    assert {answer.ids for row in served.ours(requests) for answer in row} <= labels.labels.keys()


PENALTIES: list[dict[str, Any]] = [
    {"min_new_tokens": 6},
    {"repetition_penalty": 1.4},
    {"repetition_penalty": 0.7},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3, "repetition_penalty": 1.2, "min_new_tokens": 4},
]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_penalties_are_generates(served: Served, num_beams: int) -> None:
    """Requests with unlike parameters share a batch, and each is answered as it is alone."""
    requests = [
        ask(plain.input_ids, plain.mix, 12, num_beams=num_beams, **PENALTIES[place % len(PENALTIES)])
        for place, plain in enumerate(random_requests(21, 8, [None, *ADAPTERS]))
    ]
    assert_equal_tokens(served, requests)


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
def test_beams_end_and_are_ranked_as_in_generate(served: Served, early_stopping: bool | str) -> None:
    requests = [
        ask(
            plain.input_ids, plain.mix, 12, num_beams=3, num_return_sequences=3,
            length_penalty=(-5.0, -1.0, 0.0, 0.5, 5.0)[place % 5], early_stopping=early_stopping,
        )
        for place, plain in enumerate(random_requests(31, 10, [None, *ADAPTERS]))
    ]  # fmt: skip
    assert_equal_tokens(served, requests)


def test_each_parameter_matters(tmp_path: Path) -> None:
    """If one did not, the tests above could not fail."""
    model, plain = ModelRunner(make_base(0)), random_requests(31, 40, [None], max_new_tokens=12)
    ranks: list[dict[str, Any]] = [
        {"length_penalty": -1.0}, {"length_penalty": 2.0}, {"early_stopping": True},
        {"early_stopping": "never", "length_penalty": 2.0},
    ]  # fmt: skip
    beams = {"num_beams": 3, "num_return_sequences": 3}
    ways = [{}, *PENALTIES, beams, *(beams | way for way in (*PENALTIES, *ranks))]
    found = [generate(model, [ask(each.input_ids, {}, 12, **way) for each in plain]) for way in ways]
    texts = [tuple(tuple(each.ids for each in row) for row in answers) for answers in found]
    assert len(set(texts)) == len(ways), [ways[place] for place, each in enumerate(texts) if texts.count(each) > 1]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_stopping_criterion_ends_where_generates_does(served: Served, num_beams: int) -> None:
    def stops(ids: Sequence[int]) -> bool:
        return ids[-1] % 5 == 0

    class Stops(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            return torch.tensor([stops(row) for row in input_ids.tolist()], device=input_ids.device)

    requests = [
        replace(ask(plain.input_ids, plain.mix, 12, num_beams=num_beams), stopping=stops)
        for plain in random_requests(41, 8, [None, *ADAPTERS])
    ]
    answers = served.ours(requests)
    assert any(found[0].ids[-1] != 1 and len(found[0].ids) < 12 for found in answers), "some must stop early"
    for request, found in zip(requests, answers, strict=True):
        (right,) = served.theirs(request, stopping_criteria=[Stops()])
        right = right[: len(found[0].ids)] + [each for each in right[len(found[0].ids) :] if each]
        assert list(found[0].ids) == right, "all but padding"


def test_sampled_tokens_come_from_transformers_distribution() -> None:
    """Temperature, top_k and top_p against transformers' own processors, row by row."""
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 97, generator=draw) * 3
    scores[5:9, ::3] = -float("inf")
    values = random.Random(1)
    params = [
        GenerationParams(
            do_sample=True,
            temperature=values.choice((0.3, 1.0, 1.7)),
            top_k=values.choice((0, 1, 5, 40, 200)),
            top_p=values.choice((1e-6, 0.3, 0.9, 1.0)),
        )
        for _ in scores
    ]
    found = filtered_probs(scores, params)
    for row, own, probs in zip(scores[:, None], params, found, strict=True):
        warpers = LogitsProcessorList([TemperatureLogitsWarper(own.temperature)])
        if own.top_k:
            warpers.append(TopKLogitsWarper(own.top_k))
        if own.top_p < 1:
            warpers.append(TopPLogitsWarper(own.top_p))
        torch.testing.assert_close(probs, warpers(None, row)[0].softmax(0))


def test_a_draw_is_torchs_own() -> None:
    probs = torch.rand(50, 97, generator=torch.Generator().manual_seed(0))
    probs[:, ::2] = 0.0
    found = draw_tokens(probs, [torch.Generator().manual_seed(seed) for seed in range(50)])
    right = [
        torch.multinomial(row, 1, generator=torch.Generator().manual_seed(seed)) for seed, row in enumerate(probs)
    ]
    assert found.tolist() == torch.cat(right).tolist()


def test_adapters_matter(served: Served) -> None:
    """If they did not, the tests above could not fail."""
    ids = random_requests(3, 1, [None])[0].input_ids
    rows = served.ours([ask(ids, mix, 12) for mix in ({}, {"qv": 1.0}, {"all": 1.0}, {"rs": 1.0})])
    assert len({row[0].ids for row in rows}) == 4


def test_original_t5_with_relu_and_a_tied_scaled_head(tmp_path: Path) -> None:
    base = tiny_t5(5, feed_forward_proj="relu")
    base.config.scale_decoder_outputs = True
    base.lm_head.weight.data *= 10
    served = Served(base, tmp_path, {"all": {"r": 3, "target_modules": ["q", "v", "wi", "wo"]}})
    assert_equal_tokens(served, random_requests(1, 8, [None, "all"]))
    assert_equal_tokens(served, random_requests(2, 4, [None, "all"], num_beams=3))
    assert_log_probs_are_the_models(served, random_requests(3, 3, ["all"]))


def test_many_beams_that_end_at_once_are_generates(tmp_path: Path) -> None:
    """A head that loves eos: more hypotheses end in a step than there are beams, and most answers are short."""
    base = make_base(6)
    base.lm_head.weight.data *= 0.2
    base.lm_head.weight.data[1] *= 3
    served = Served(base, tmp_path, ADAPTERS)
    for num_beams in (2, 3, 6):
        fields = {"num_beams": num_beams, "num_return_sequences": num_beams}
        assert_equal_tokens(served, random_requests(num_beams, 16, [None, *ADAPTERS], **fields))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_log_probs_are_the_models_own(served: Served, num_beams: int) -> None:
    assert_log_probs_are_the_models(served, random_requests(5, 6, [None, *ADAPTERS], num_beams=num_beams))


def test_label_probabilities_are_the_models_own(served: Served) -> None:
    labels = label_constraint(TOKENIZER, ["joy", "sad", "sadness"])
    requests = random_requests(4, 3, ["all"], constraint=labels)
    with served.cache.lease(["all"]) as lease:
        found = served.engine.label_probabilities([RunningRequest(each, lease) for each in requests])
    for request, row in zip(requests, found, strict=True):
        scores = []
        for ids in labels.labels:
            with torch.inference_mode():
                target = torch.tensor([ids], device=served.base.device)
                loss = served.peft["all"](**served.inputs(request), labels=target).loss
            scores.append(-loss.item() * len(ids))
        expected = torch.tensor(scores).softmax(0).tolist()
        assert list(row) == ["joy", "sad", "sadness"]
        assert list(row.values()) == pytest.approx(expected, abs=1e-4)
