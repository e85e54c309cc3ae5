"""Rows of one batch: each answers as if it were alone, draws by its own seed, leaves when it has finished."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import T5ForConditionalGeneration

from flan_lora.base.decode import label_constraint
from flan_lora.base.load import Base, open_base
from flan_lora.engine.adapter_cache import AdapterCache
from flan_lora.engine.batch import RunningBatch
from flan_lora.engine.decode_group import RunningRequest
from flan_lora.engine.generation_params import Sampling
from flan_lora.engine.lease import BARE_LEASE
from flan_lora.engine.linear import linear_with_lora
from flan_lora.engine.lora_batch import NO_LORA, SegmentedLora
from flan_lora.engine.model_runner import ModelRunner
from flan_lora.engine.request import Mix, Request, SequenceOutput
from flan_lora.engine.runner import EagerRunner
from flan_lora.engine.t5 import T5
from flan_lora.errors import AdapterError, RequestError
from tests.checkpoint import save_checkpoint, spec_of
from tests.engine import running
from tests.engine.running import ask
from tests.published import cache_of_two, tiny_peft
from tests.tiny import tiny_t5, tiny_tokenizer


def source(seed: int, length: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(3, 128) for _ in range(length - 1)] + [1]


def soft_base() -> T5ForConditionalGeneration:
    """A tiny T5 whose next token is open: with its own head, two tokens have all the probability."""
    base = tiny_t5()
    base.lm_head.weight.data *= 0.2
    return base


def generate(
    engine: ModelRunner, *requests: Request, cache: AdapterCache | None = None
) -> list[tuple[SequenceOutput, ...]]:
    if cache is None:
        return running.generate(engine, requests)
    with cache.lease([name for request in requests for name in request.mix]) as lease:
        return running.generate(engine, requests, lease)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(
    scope="module",
    params=[("cpu", False), ("cpu", True), pytest.param(("cuda", True), marks=pytest.mark.gpu)],
    ids=["cpu", "boards", "cuda"],
)
def engine(request: pytest.FixtureRequest) -> ModelRunner:
    device, graphs = request.param
    return ModelRunner(soft_base().to(device), graphs=graphs)


@pytest.fixture(scope="module")
def cache(engine: ModelRunner, tmp_path_factory: pytest.TempPathFactory) -> AdapterCache:
    return cache_of_two(tmp_path_factory.mktemp("adapters"), device=engine.device)


@pytest.fixture(scope="module", params=["fp32", "bf16", "int8"])
def base(request: pytest.FixtureRequest, checkpoint: Path) -> Base:
    return open_base(spec_of(checkpoint, request.param), device="cpu")


# The weights of a base


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_linears_agree_with_bitsandbytes_at_threshold_0(
    checkpoint: Path, dtype: torch.dtype, device: str
) -> None:
    base = open_base(spec_of(checkpoint, "int8"), device=device).model
    module = base.decoder.block[0].layer[1].EncDecAttention.q
    linear = T5(base)._decoder[0].cross.q  # type: ignore[union-attr]
    x = (torch.randn(3, 5, 32) * torch.logspace(-3, 3, 15).view(3, 5, 1)).to(device, dtype)
    expected = module(x)
    assert linear.weight.dtype == torch.int8 and module.state.threshold == 0.0
    assert expected.abs().max() > 100
    # beyond the last bit: the scales are multiplied in another order
    rtol = 1e-6 if dtype == torch.float32 else 2**-7
    torch.testing.assert_close(linear_with_lora((linear,), x, NO_LORA)[0], expected, rtol=rtol, atol=1e-9)


def test_logits_are_the_base_models(base: Base) -> None:
    ids, labels = torch.tensor([source(1, 9), source(2, 9)]), torch.tensor([source(3, 6), source(4, 6)])
    with torch.inference_mode():
        expected = base.model(input_ids=ids, labels=labels).logits.float()
        runner = EagerRunner(T5(base.model))
        cache = runner.prefill(ids, torch.ones_like(ids), [()] * 2, None, width=1, max_tokens=6)
        fed = torch.cat([torch.zeros(2, 1, dtype=torch.int64), labels[:, :-1]], dim=1)
        steps = [runner.decode([cache], [fed[:, step]])[0] for step in range(6)]
    tolerance = (1e-5 if base.dtype == torch.float32 else 0.05) * expected.abs().max().item()
    torch.testing.assert_close(torch.stack(steps, dim=1), expected, rtol=0, atol=tolerance)


def test_nothing_of_the_base_is_written(checkpoint: Path, cache: AdapterCache, engine: ModelRunner) -> None:
    base = open_base(spec_of(checkpoint, "int8"), device=str(engine.device)).model
    before = {name: tensor.clone() for name, tensor in base.named_parameters()}
    engine = ModelRunner(base)
    generate(engine, ask(source(1, 9), {"one": 1.0}, 5), ask(source(2, 5), {}, 5, num_beams=2), cache=cache)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.named_parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in base.modules())


def test_a_base_that_carries_an_adapter_is_refused() -> None:
    with pytest.raises(AdapterError, match=r"already carries an adapter: encoder.*\.q is a Linear"):
        ModelRunner(tiny_peft().get_base_model())


# Neighbours


def first_logits(t5: T5, sources: list[list[int]], mixes: list[Mix], cache: AdapterCache) -> torch.Tensor:
    width = max(map(len, sources))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in sources])
    mask = (torch.arange(width) < torch.tensor([[len(row)] for row in sources])).long()
    with cache.lease([name for mix in mixes for name in mix]) as lease, torch.inference_mode():
        runner, refs = EagerRunner(t5), [lease.refs(mix) for mix in mixes]
        kv_cache = runner.prefill(ids, mask, refs, lease.pool, width=1, max_tokens=2)
        runner.decode([kv_cache], [torch.zeros(len(sources), dtype=torch.int64)])
        return runner.decode([kv_cache], [torch.full((len(sources),), 7)])[0]


def test_no_neighbour_leaks_into_a_row(tmp_path: Path) -> None:
    """In fp64, where a leak cannot hide in float noise, which random weights amplify a thousand times."""
    t5 = T5(tiny_t5().double())
    cache = cache_of_two(tmp_path, dtype=torch.float64)
    sources = [source(seed, length) for seed, length in enumerate((3, 40, 9, 1, 17))]
    mixes: list[Mix] = [{"one": 1.0}, {}, {"two": 1.0}, {"one": 0.5, "two": 0.5}, {"two": 1.0}]
    together = first_logits(t5, sources, mixes, cache)
    alone = torch.cat([first_logits(t5, [s], [m], cache) for s, m in zip(sources, mixes, strict=True)])
    reordered = first_logits(t5, sources[::-1], mixes[::-1], cache).flip(0)
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(together, reordered, rtol=1e-6, atol=1e-6)
    assert (together - together.roll(1, 0)).abs().amax(1).min() > 1, "rows must differ for this to fail"


def test_an_int8_row_is_bit_for_bit_the_one_it_is_alone(checkpoint: Path) -> None:
    """Where LLM.int8 at threshold 6 chooses outlier columns over the whole batch."""
    base = open_base(spec_of(checkpoint, "int8", int8_threshold=6.0), device="cpu").model
    linear = T5(base)._encoder[0].attention.q
    x = torch.randn(4, 3, 32)
    x[1] *= 100
    together = linear_with_lora((linear,), x, NO_LORA)[0]
    alone = torch.cat([linear_with_lora((linear,), x[row : row + 1], NO_LORA)[0] for row in range(4)])
    assert torch.equal(together, alone)


def test_an_answer_is_the_one_a_row_gets_alone(engine: ModelRunner, cache: AdapterCache) -> None:
    ways = [{}, {"num_beams": 3}, {"sampling": Sampling(0.9, 0.95, seed=4), "num_return_sequences": 2}]
    mixes: list[Mix] = [{}, {"one": 1.0}, {"two": 1.0}, {"one": 0.3, "two": 0.7}]
    requests = [
        ask(source(seed, 2 + 5 * seed % 23), mixes[seed % 4], (3, 9, 6)[seed % 3], **ways[seed % 3 - seed // 6])
        for seed in range(12)
    ]
    together = generate(engine, *requests, cache=cache)
    for request, answers in zip(requests, together, strict=True):
        (alone,) = generate(engine, request, cache=cache)
        assert [answer.ids for answer in answers] == [answer.ids for answer in alone]
        assert [a.log_prob for a in answers] == pytest.approx([a.log_prob for a in alone], abs=1e-3)


def test_a_mixed_batch_copies_no_adapter(cache: AdapterCache) -> None:
    """73 MB a row at flan-t5-large, rank 16, all linears, if rows were gathered."""
    linear = "decoder.block.0.layer.0.SelfAttention.q"
    with cache.lease(["one", "two"]) as lease:
        assert lease.pool is not None
        mine = lease.pool.rows.untyped_storage()
        mixes: list[Mix] = [{"one": 1.0}, {"two": 1.0}, {}, {"one": 0.5, "two": 0.5}]
        segments = SegmentedLora([lease.refs(mix) for mix in mixes]).segments(linear)
        assert [run.number for run, *_ in segments] == [2, 1, 1]
        for _, *halves in segments:
            read = [half for half in halves if half is not None]  # of DoRA alone there are row lengths
            assert len(read) >= 2 and all(half.untyped_storage().data_ptr() == mine.data_ptr() for half in read)


def test_rows_of_one_adapter_share_products_whatever_their_order(
    engine: ModelRunner, cache: AdapterCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixes: list[Mix] = [{"two": 1.0}, {}, {"one": 1.0}, {"two": 1.0}, {"one": 1.0}]
    with cache.lease(["one", "two"]) as lease:
        read: list[RunningRequest] = []
        prefill = engine.prefill
        monkeypatch.setattr(
            engine, "prefill", lambda runner, own: prefill(runner, [read.append(r) or r for r in own])
        )
        RunningBatch(engine).add(
            [RunningRequest(ask(source(seed, 9), mix, 4), lease) for seed, mix in enumerate(mixes)]
        )
        segments = SegmentedLora([each.refs for each in read]).segments("decoder.block.0.layer.0.SelfAttention.q")
        assert [(run.stop - run.start, run.number) for run, *_ in segments] == [(4, 2)]


def test_rows_join_and_leave_between_steps(engine: ModelRunner, cache: AdapterCache) -> None:
    """Of any way to decode, length and adapter; and each answers as it does alone."""
    ways = [{}, {"num_beams": 3}, {"sampling": Sampling(0.9, 0.95, seed=4), "num_return_sequences": 2}]
    mixes: list[Mix] = [{}, {"one": 1.0}, {"two": 1.0}, {"one": 0.3, "two": 0.7}]
    requests = [
        ask(source(seed, 2 + 5 * seed % 23), mixes[seed % 4], (9, 3, 12, 6)[seed // 3 % 4], **ways[seed % 3])
        for seed in range(24)
    ]
    answers: dict[RunningRequest, tuple[SequenceOutput, ...]] = {}
    sizes = []
    with cache.lease(["one", "two"]) as lease:
        waiting = [RunningRequest(request, lease) for request in requests]
        rows, batch = list(waiting), RunningBatch(engine)
        while waiting or batch.num_running:
            joining, waiting = waiting[:2], waiting[2:]
            batch.add(joining)
            sizes.append(batch.num_running)
            answers.update(batch.step().finished)
    assert max(sizes) > 8 and len(sizes) < 30, "rows of different ages must share steps for this to test joins"
    for request, row in zip(requests, rows, strict=True):
        (alone,) = generate(engine, request, cache=cache)
        assert [answer.ids for answer in answers[row]] == [answer.ids for answer in alone]


def test_a_dropped_row_leaves_the_others_alone(engine: ModelRunner) -> None:
    rows = [RunningRequest(ask(source(seed, 9), {}, 9), BARE_LEASE) for seed in range(4)]
    batch = RunningBatch(engine)
    batch.add(rows)
    batch.step()
    batch.drop(rows[:1])
    batch.drop(rows[2:])
    finished = {}
    while batch.num_running:
        finished.update(batch.step().finished)
    assert list(finished) == [rows[1]]
    assert finished[rows[1]][0].ids == generate(engine, rows[1].request)[0][0].ids


def test_every_row_keeps_its_own_limit(engine: ModelRunner) -> None:
    limits = (1, 4, 2, 11, 7)
    for num_beams in (1, 3):
        requests = [ask(source(seed, 9), {}, limit, num_beams=num_beams) for seed, limit in enumerate(limits)]
        for (answer,), limit in zip(generate(engine, *requests), limits, strict=True):
            assert len(answer.ids) == limit or (len(answer.ids) < limit and answer.ids[-1] == 1)


# Sampling


def test_a_seed_decides_the_draw(engine: ModelRunner) -> None:
    requests = [ask(source(1, 9), {}, 10, sampling=Sampling(seed=seed)) for seed in (0, 1, 0)]
    first, other, again = (row[0].ids for row in generate(engine, *requests))
    assert first == again != other
    several = ask(source(1, 9), {}, 10, num_return_sequences=4, sampling=Sampling(seed=0))
    (row,) = generate(engine, several)
    assert len({answer.ids for answer in row}) == 4 and row[0].ids == first


def test_cold_or_narrow_sampling_is_greedy(engine: ModelRunner) -> None:
    greedy, cold, narrow = generate(
        engine,
        *(ask(source(1, 9), {}, 8, sampling=s) for s in (None, Sampling(temperature=1e-4), Sampling(top_p=1e-6))),
    )
    assert greedy[0].ids == cold[0].ids == narrow[0].ids


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (2.0, 1.0), (3.0, 0.6)])
def test_draws_follow_the_models_distribution(temperature: float, top_p: float) -> None:
    base, num_draws = soft_base(), 3000
    with torch.inference_mode():
        logits = base(input_ids=torch.tensor([source(1, 9)]), decoder_input_ids=torch.tensor([[0]])).logits[0, 0]
    probs = (logits / temperature).softmax(0)
    ranked, order = probs.sort(descending=True)
    nucleus = order[: int((ranked.cumsum(0) < top_p).sum()) + 1]
    expected = torch.zeros_like(probs).scatter(0, nucleus, probs[nucleus] / probs[nucleus].sum())
    sampling = Sampling(temperature, top_p, seed=3)
    (row,) = generate(
        ModelRunner(base), ask(source(1, 9), {}, 1, num_return_sequences=num_draws, sampling=sampling)
    )
    counts = torch.bincount(torch.tensor([answer.ids[0] for answer in row]), minlength=128)
    assert counts[expected == 0].sum() == 0
    likely = expected > 0.01
    assert likely.sum() > 3, "a distribution of one token would test nothing"
    deviation = (expected * (1 - expected) / num_draws).sqrt()
    assert ((counts / num_draws - expected).abs() < 4.5 * deviation)[likely].all()


# Streams, labels, errors


def test_tokens_are_streamed_as_they_come(engine: ModelRunner) -> None:
    requests = [ask(source(seed, 9), {}, limit) for seed, limit in enumerate((3, 12, 6, 9))]
    heard: dict[int, list[int]] = {0: [], 1: [], 2: [], 3: []}
    order: list[int] = []

    def hear(place: int, token: int) -> None:
        heard[place].append(token)
        order.append(place)

    answers = running.generate(engine, requests, on_token=hear)
    assert [tuple(heard[place]) for place in range(4)] == [row[0].ids for row in answers]
    assert order[:4] == [0, 1, 2, 3], "the first token of all comes before the second of any"


def test_rows_with_and_without_labels_share_a_batch(engine: ModelRunner) -> None:
    tokenizer = tiny_tokenizer()
    labels = label_constraint(tokenizer, ["joy", "sad", "sadness"])
    other = label_constraint(tokenizer, ["yes", "no"])
    requests = [ask(source(seed, 9), {}, 5, constraint=c) for seed, c in enumerate((labels, None, other, labels))]
    answers = [row[0].ids for row in generate(engine, *requests)]
    assert answers[0] in labels.labels and answers[2] in other.labels and answers[3] in labels.labels
    assert answers[1] == generate(engine, requests[1])[0][0].ids
    asked = [RunningRequest(requests[place], BARE_LEASE) for place in (0, 2)]
    first, second = engine.label_probabilities(asked)
    assert list(first) == ["joy", "sad", "sadness"] and list(second) == ["yes", "no"]
    assert sum(first.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"limit": 0}, "max_new_tokens: expected 1 or more \\(got 0\\)"),
        ({"num_return_sequences": 2}, "num_return_sequences: greedy and beam search have num_beams=1 answers"),
        ({"num_beams": 2, "sampling": Sampling()}, "num_beams: sampling takes 1 \\(got 2\\)"),
        ({"sampling": Sampling(temperature=0.0)}, "temperature: expected more than 0"),
        ({"sampling": Sampling(seed=-1)}, "seed: expected 0 to"),
        ({"sampling": Sampling(top_p=1.5)}, "top_p: expected 0 < top_p <= 1 \\(got 1.5\\)"),
    ],
)
def test_limits_that_make_no_sense_are_refused(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        ask([1], **{"limit": 4, **fields})  # type: ignore[arg-type]


def test_a_request_without_a_token_is_refused() -> None:
    with pytest.raises(RequestError, match="input_ids: expected at least eos"):
        Request([])


def test_pooled_states_are_the_mean_over_the_source_alone(engine: ModelRunner) -> None:
    sources = [source(1, 3), source(2, 21)]
    with torch.inference_mode():
        states = [tiny_t5().encoder(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0) for ids in sources]
    torch.testing.assert_close(engine.pooled_states(sources), torch.stack(states), rtol=1e-4, atol=1e-5)
