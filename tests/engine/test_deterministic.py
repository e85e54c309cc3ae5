"""With ``deterministic`` an answer has the same bits whatever else is in the batch; without it, rounding shows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from flan_lora.adapters.weights import base_linears, open_folder
from flan_lora.base.decode import label_constraint
from flan_lora.base.load import Base, open_base
from flan_lora.engine import linear as linear_module
from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.engine import Engine
from flan_lora.engine.generation import results
from flan_lora.engine.generation_params import Sampling
from flan_lora.engine.linear import LEAST_ROWS, check_invariant, invariant_linear
from flan_lora.engine.model_runner import ServePrecision
from flan_lora.engine.request import Request
from flan_lora.engine.scheduler import EngineLimits
from flan_lora.errors import BaseModelError
from tests.checkpoint import save_checkpoint, spec_of
from tests.engine.running import ask
from tests.published import stage
from tests.tiny import tiny_t5, tiny_tokenizer

LABELS = label_constraint(tiny_tokenizer(), ["joy", "sad", "sadness"])


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("one", "two")):
        stage(path / name, seed)
    return path


@pytest.fixture(scope="module", params=["fp32", "bf16", "int8"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    return open_base(spec_of(save_checkpoint(tmp_path_factory.mktemp("base")), request.param), device="cpu")


def open_engine(
    base: Base, adapters: Path, *, deterministic: bool, serve_precision: ServePrecision = "exact"
) -> Engine:
    cache = AdapterCache(base_linears(base.model), fingerprint="x" * 64)
    for name in ("one", "two"):
        cache.add(*open_folder(name, adapters / name))
    limits = EngineLimits(max_running=16)
    return Engine(base.model, cache, limits=limits, deterministic=deterministic, serve_precision=serve_precision)


def some_requests(number: int) -> list[Request]:
    draw = random.Random(3)
    ways: list[dict[str, Any]] = [
        {}, {"sampling": Sampling(1.5, 0.9, seed=7)}, {"num_beams": 3}, {"constraint": LABELS},
        {"sampling": Sampling(seed=1), "num_return_sequences": 2},
    ]  # fmt: skip
    mixes: list[dict[str, float]] = [{}, {"one": 1.0}, {"two": 1.0}, {"one": 0.5, "two": 0.5}]
    return [
        ask(
            [draw.randrange(3, 98) for _ in range(draw.choice((1, 4, 13, 31, 40, 70)))] + [1],
            mixes[place % 4],
            draw.choice((3, 9, 14)),
            **ways[place % 5],
        )
        for place in range(number)
    ]


def answers(engine: Engine, requests: Sequence[Request], *, together: bool) -> list[Any]:
    """Ids and log-probabilities of each request's sequences."""
    if together:
        outputs = results(engine.submit_many(requests))
    else:
        outputs = [engine.submit(request).result() for request in requests]
    return [[(each.ids, each.log_prob) for each in output.sequences] for output in outputs]


def test_an_answer_has_the_same_bits_whatever_else_is_in_the_batch(base: Base, adapters: Path) -> None:
    engine, requests = open_engine(base, adapters, deterministic=True), some_requests(24)
    alone = answers(engine, requests, together=False)
    assert answers(engine, requests, together=True) == alone
    assert answers(engine, requests[::-1], together=True) == alone[::-1]


def test_in_int8_throughout_too(base: Base, adapters: Path) -> None:
    if base.spec.quantization != "int8":
        pytest.skip("int8 throughout is for an int8 base")
    engine = open_engine(base, adapters, deterministic=True, serve_precision="int8")
    requests = some_requests(16)
    alone = answers(engine, requests, together=False)
    assert answers(engine, requests, together=True) == alone
    assert alone != answers(open_engine(base, adapters, deterministic=True), requests, together=False)


def test_labels_and_states_have_the_same_bits_too(base: Base, adapters: Path) -> None:
    engine = open_engine(base, adapters, deterministic=True)
    asked = [each for each in some_requests(40) if each.constraint is not None]
    assert engine.score_labels(asked) == [engine.score_labels([each])[0] for each in asked]
    sources = [each.input_ids for each in some_requests(12)]
    alone = torch.cat([engine.encode([source]) for source in sources])
    assert torch.equal(engine.encode(sources), alone)


def test_without_it_rounding_shows(base: Base, adapters: Path) -> None:
    """Else the tests above could not fail."""
    engine, requests = open_engine(base, adapters, deterministic=False), some_requests(24)
    assert answers(engine, requests, together=True) != answers(engine, requests, together=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(256, 1024), (1024, 1100)], ids=["MKL", "oneDNN"])
@pytest.mark.parametrize("num_rows", [1, 5, LEAST_ROWS, 200])
def test_a_row_of_a_product_is_the_one_it_is_alone(
    dtype: torch.dtype, shape: tuple[int, int], num_rows: int
) -> None:
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=draw).to(dtype)
    x = torch.randn(num_rows, shape[1], generator=draw).to(dtype)
    check_invariant(weight)
    together = invariant_linear(x[None], weight)[0]
    assert torch.equal(together[-1:], invariant_linear(x[-1:], weight))
    torch.testing.assert_close(together.float(), x.float() @ weight.float().T, rtol=0.02, atol=0.3)


def test_a_machine_whose_products_are_not_invariant_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = linear_module.linear

    def uneven(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return plain(x, weight) * (1 + 1e-6 * (len(x) > LEAST_ROWS))

    monkeypatch.setattr(linear_module, "linear", uneven)
    base = tiny_t5()
    with pytest.raises(BaseModelError, match=r"deterministic: .*other bits beside other rows\n.*rows against 70"):
        Engine(base, AdapterCache(base_linears(base), fingerprint="x" * 64), deterministic=True)
