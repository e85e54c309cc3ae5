"""Texts in, answers out: the right adapter in its own prompt, and the same answer for any number of threads."""

from __future__ import annotations

import itertools
import random
import threading
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flan_lora.adapters.peft_loader import load_adapter
from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import WEIGHTS
from flan_lora.base.load import Base, open_base
from flan_lora.engine.generation_params import Sampling
from flan_lora.errors import AdapterError, RequestError, UnknownAdapterError
from flan_lora.evaluation.calibration import tempered
from flan_lora.evaluation.predict import label_probabilities, predict
from flan_lora.serving.completion import Choice
from flan_lora.serving.router import Router
from flan_lora.tasks import TASKS, Example
from tests.published import stage
from tests.serving.stores import NAMES, OPEN, TEXTS, answers, publish
from tests.tiny import tiny_t5


def test_a_deterministic_router_says_the_same_to_the_last_bit_beside_other_texts(root: Path, base: Base) -> None:
    if base.device.type != "cpu":
        pytest.skip("deterministic is for CPUs")
    router = Router.open(root, base, deterministic=True)
    texts = [f"i feel {'so ' * number}sad and not {number}" for number in range(9)]
    together = router.generate(texts, None)
    alone = [router.generate(text, None) for text in texts]
    assert [(each.text, each.log_prob) for each in together] == [(each.text, each.log_prob) for each in alone]


# Answers


@pytest.mark.parametrize("name", ["emotion", "moods", "hearts"])
def test_an_answer_is_the_one_that_evaluation_scores(router: Router, root: Path, base: Base, name: str) -> None:
    """PEFT's model, the task's prompt, parser and labels, the recipe's beams."""
    task, stored = TASKS["emotion"], Store(root).open(name)
    evaluation = stored.recipe.evaluation
    inputs = [{"text": text} for text in TEXTS]
    examples = [Example(str(key), task.prompt(row), "", (), row) for key, row in enumerate(inputs)]
    fresh = open_base(base.spec, device="cpu")
    model = load_adapter(fresh.model, stored)
    limits = {"evaluation": evaluation, "max_source_tokens": 512}
    expected = predict(model, fresh.tokenizer, task, examples, **limits)  # type: ignore[arg-type]
    assert answers(router, TEXTS, name) == expected
    assert (set(expected) <= set(task.labels)) == (name != "hearts")
    if name == "hearts":
        assert answers(router, TEXTS, name, num_beams=1) != expected, "beams must matter for this to test them"


def test_a_mixed_batch_keeps_order_and_adapters(router: Router) -> None:
    choices: list[Choice] = ["nerves", None, "emotion", {"moods": 0.5, "hearts": 0.5}, "moods"]
    together = router.generate(TEXTS, choices, max_new_tokens=6)
    alone = [router.generate(text, choice, max_new_tokens=6) for text, choice in zip(TEXTS, choices, strict=True)]
    assert [c.text for c in together] == [c.text for c in alone]
    assert [c.adapter for c in together] == ["nerves", None, "emotion", "moods", "moods"]
    assert together[3].mix == {"moods": 0.5, "hearts": 0.5}
    assert all(c.latency_s > 0 and c.num_tokens > 0 and c.log_prob < 0 for c in together)


def test_batches_are_no_larger_than_the_slots(root: Path, base: Base) -> None:
    router = Router.open(root, base, num_slots=3, batch_size=4)
    texts, choices = TEXTS * 3, [NAMES[place % 5] for place in range(15)]
    expected = [router.generate(text, name).text for text, name in zip(texts, choices, strict=True)]
    assert answers(router, texts, choices) == expected
    with pytest.raises(AdapterError, match="3 adapters in one batch, but only 2 slots"):
        router.generate("sad", {"emotion": 1, "moods": 1, "nerves": 1})


def test_the_bare_base_reads_the_text_itself_or_a_tasks_prompt(router: Router, base: Base) -> None:
    completion = router.generate("i am sad", None, max_new_tokens=5)
    ids = base.tokenizer("i am sad", return_tensors="pt").input_ids.to(base.device)
    expected = base.model.generate(ids, max_new_tokens=5, do_sample=False, num_beams=1)[0, 1:]
    assert completion.text == base.tokenizer.decode(expected, skip_special_tokens=True).strip()
    assert completion.adapter is None and completion.mix == {}
    assert router.generate("i am sad", None, task="emotion").text in TASKS["emotion"].labels


def test_a_task_with_several_inputs_takes_a_mapping(router: Router) -> None:
    sentences = {"sentence1": "i am sad", "sentence2": "you are not"}
    assert router.generate(sentences, None, task="similarity").text in ("yes", "no")
    with pytest.raises(RequestError, match=r"similarity takes sentence1, sentence2 \(got one text\)"):
        router.generate("i am sad", None, task="similarity")
    with pytest.raises(RequestError, match="without a task there is one text"):
        router.generate(sentences, None)


def test_label_probabilities_and_several_answers(router: Router) -> None:
    label, _ = router.generate(["sad", "joy"], ["emotion", None], label_probabilities=True)
    assert label.label_probabilities is not None and list(label.label_probabilities) == list(
        TASKS["emotion"].labels
    )
    assert sum(label.label_probabilities.values()) == pytest.approx(1.0)
    drawn = router.generate("joy", None, sampling=Sampling(3.0, seed=1), num_return_sequences=3, max_new_tokens=8)
    assert len({drawn.text, *drawn.alternatives}) == 3


@pytest.mark.parametrize(
    ("adapter", "task", "is_tempered"),
    [
        ("warm", None, True),
        ("warm", "emotion", True),
        ({"warm": 1.0}, None, True),
        ({"warm": 0.5}, None, False),
        ({"warm": 1.0, "moods": 0.2}, None, False),
        (None, "emotion", False),
        ("moods", None, False),
    ],
)
def test_the_temperature_is_for_the_adapter_alone(
    base: Base, tmp_path: Path, adapter: Choice, task: str | None, is_tempered: bool
) -> None:
    """`warm` has the weights of `moods`: one store with a temperature against one without."""
    served = []
    for temperature in (1.0, 3.0):
        store = tmp_path / str(temperature)
        publish(store, "moods", 4)
        publish(store, "warm", 3, label_temperature=temperature)
        router = Router.open(store, base)
        served.append(router.generate(TEXTS, adapter, task=task, label_probabilities=True))
    for plain, warm in zip(*served, strict=True):
        assert plain.label_probabilities is not None and warm.label_probabilities is not None
        expected = tempered(plain.label_probabilities, 3.0 if is_tempered else 1.0)
        assert dict(warm.label_probabilities) == pytest.approx(expected, abs=1e-6)
        assert (plain.text, plain.log_prob) == (warm.text, pytest.approx(warm.log_prob))


def test_another_tasks_prompt_has_no_temperature(base: Base, tmp_path: Path) -> None:
    pair = {"sentence1": "i am sad", "sentence2": "you are not"}
    for temperature in (1.0, 3.0):
        publish(tmp_path / str(temperature), "emotion", 3, label_temperature=temperature)
    plain, warm = (
        Router.open(tmp_path / name, base).generate(pair, "emotion", task="similarity", label_probabilities=True)
        for name in ("1.0", "3.0")
    )
    assert plain.label_probabilities == pytest.approx(dict(warm.label_probabilities or {}), abs=1e-6)


def test_probabilities_of_a_pair_do_not_depend_on_its_order(base: Base, tmp_path: Path) -> None:
    publish(tmp_path / "store", "pairs", 7, task="similarity", label_temperature=8.0)
    router = Router.open(tmp_path / "store", base, batch_size=3)  # both orders of a pair in different batches
    pairs = [{"sentence1": a, "sentence2": b} for a, b in itertools.permutations(TEXTS[:4], 2)]
    served = router.generate(pairs, "pairs", label_probabilities=True)
    found = {tuple(pair.values()): row.label_probabilities for pair, row in zip(pairs, served, strict=True)}
    for (a, b), row in found.items():
        assert row == pytest.approx(dict(found[b, a] or {}), abs=1e-5)
    assert len({round((row or {})["yes"], 4) for row in found.values()}) == len(pairs) // 2
    assert [row.text for row in served] == answers(router, pairs, "pairs"), "scores must not change answers"
    examples = [
        Example(str(n), TASKS["similarity"].prompt(pair), "", ("yes",), pair) for n, pair in enumerate(pairs)
    ]
    model = load_adapter(tiny_t5(), Store(tmp_path / "store").open("pairs"))
    settings = {"batch_size": 8, "max_source_tokens": 512}
    for row, raw in zip(
        served,
        label_probabilities(model, base.tokenizer, TASKS["similarity"], examples, **settings),
        strict=True,
    ):
        assert row.label_probabilities == pytest.approx(tempered(raw, 8.0), abs=1e-4)


def test_a_mix_of_one_is_that_adapter(router: Router) -> None:
    assert answers(router, TEXTS, {"moods": 1.0, "hearts": 0.0}) == answers(router, TEXTS, "moods")
    wrong: list[Any] = [
        {},
        {"moods": float("nan")},
        {"moods": 1e300},
        {"moods": 10**400},
        {"moods": None},
        {1: 1.0},
    ]
    for mix in wrong:
        with pytest.raises(RequestError, match="a mix takes one adapter or more"):
            router.generate("sad", mix)


def test_a_mix_under_a_task_of_none_of_it_is_asked_as_the_base_is(router: Router) -> None:
    """`hearts` was evaluated with three beams: what another task is answered with is not for it to say."""
    mix, other = {"hearts": 0.9, "moods": -0.5}, "summarization"
    asked = router.prepare("a: no\nb: yes", mix, task=other)
    bare = router.prepare("a: no\nb: yes", None, task=other)
    assert (asked.asked_as, asked.config) == (bare.asked_as, bare.config) and asked.mix == mix
    assert asked.windows[0].params.num_beams == 1
    own = router.prepare("i am sad", mix, task="emotion")
    assert own.asked_as == "hearts" and own.windows[0].params.num_beams == 3
    assert router.prepare("a: no\nb: yes", "hearts", task=other).windows[0].params.num_beams == 3


def test_an_adapter_is_a_name_or_a_mix(router: Router) -> None:
    for wrong in (5, True, 1.5, b"emotion"):
        with pytest.raises(RequestError, match="an adapter is a name, a mix"):
            router.generate(["sad"], [wrong])  # type: ignore[list-item]


def test_adapters_for_another_number_of_texts_are_refused(router: Router) -> None:
    with pytest.raises(RequestError, match="2 adapters for 1 texts"):
        router.generate(["sad"], ["emotion", "moods"])


def test_a_stream_is_the_answer_in_pieces(router: Router) -> None:
    for text in TEXTS:
        pieces = list(router.stream(text, "hearts", max_new_tokens=9))
        assert len(pieces) > 2
        parsed = TASKS["emotion"].parse("".join(pieces))
        assert parsed == router.generate(text, "hearts", num_beams=1, max_new_tokens=9).text
    drawn = "".join(router.stream("sad", None, sampling=Sampling(2.0, seed=3), max_new_tokens=9)).strip()
    assert drawn == router.generate("sad", None, sampling=Sampling(2.0, seed=3), max_new_tokens=9).text
    with pytest.raises(UnknownAdapterError):
        router.stream("sad", "nobody")


def test_a_handle_is_the_answer_to_come(router: Router) -> None:
    expected = router.generate("joy", "emotion", label_probabilities=True)
    pending = router.submit("joy", "emotion", label_probabilities=True)
    told = threading.Event()
    pending.add_done_callback(lambda handle: told.set() if handle is pending and handle.done else None)
    found = pending.result(timeout=60)
    assert told.wait(60) and pending.done
    assert replace(found, latency_s=0.0, log_prob=0.0, label_probabilities=None) == replace(
        expected, latency_s=0.0, log_prob=0.0, label_probabilities=None
    )
    assert found.label_probabilities == pytest.approx(dict(expected.label_probabilities or {}), abs=1e-5)
    assert 0 < (pending.first_token_s or 0.0) <= found.latency_s
    long = router.submit("sad", "hearts", params={"max_new_tokens": 5000, "min_new_tokens": 5000, "num_beams": 1})
    long.cancel()
    with pytest.raises(CancelledError):
        long.result(timeout=60)
    assert router.generate("joy", "emotion").text == expected.text


def test_closing_a_stream_gives_the_generation_up(router: Router) -> None:
    """Or it would write 5,000 tokens, which take longer than the whole test may."""
    pieces = router.stream("sad", "hearts", params={"max_new_tokens": 5000, "min_new_tokens": 5000})
    assert next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    router.unload("hearts")  # would wait for its leases
    assert router.traffic.num_cancelled == 1 and router.traffic.num_steps < 2500


def test_parameters_are_for_all_texts_or_one_each(router: Router) -> None:
    greedy = router.generate(TEXTS[0], "hearts", params={"num_beams": 1, "max_new_tokens": 4})
    beams = router.generate(TEXTS[0], "hearts")
    together = router.generate(
        [TEXTS[0]] * 3, "hearts", params=[{"num_beams": 1, "max_new_tokens": 4}, None, {"max_new_tokens": 2}]
    )
    assert [item.text for item in together[:2]] == [greedy.text, beams.text] and together[2].num_tokens <= 2
    assert greedy.text != beams.text
    with pytest.raises(RequestError, match="2 params for 1 texts"):
        router.generate(["sad"], "hearts", params=[None, None])
    with pytest.raises(TypeError, match="unexpected keyword 'num_bems'"):
        router.generate("sad", "hearts", num_bems=3)  # type: ignore[call-overload]


def test_an_answer_ends_before_a_stop(router: Router) -> None:
    whole = router.generate("sad", "hearts", num_beams=1, max_new_tokens=12)
    assert len(whole.raw_text) > 6
    stop = whole.raw_text[4:6]
    expected = whole.raw_text[: whole.raw_text.index(stop)]
    for params in ({"num_beams": 1}, {"num_beams": 1, "stop": ["never there"]}):
        cut = router.generate("sad", "hearts", params={"stop": stop, "max_new_tokens": 12} | params)
        assert cut.raw_text == (expected if "stop" not in params else whole.raw_text)
    ended = router.generate("sad", "hearts", params={"num_beams": 1, "max_new_tokens": 12, "stop": [stop]})
    assert ended.num_tokens < whole.num_tokens, "the generation itself ends there"
    pieces = router.stream("sad", "hearts", params={"max_new_tokens": 12, "stop": [stop]})
    assert "".join(pieces) == expected


def test_an_adapter_published_anew_is_served_to_who_asks_after(base: Base, tmp_path: Path) -> None:
    """Old weights, prompt and digest to who asked before, though the files are gone and the slot is lost."""
    store = tmp_path / "store"
    publish(store, "moods", 4)
    publish(store, "nerves", 5)
    router = Router.open(store, base, num_slots=2, batch_size=1)
    old, old_digest = router.generate(TEXTS, "moods"), Store(store).open("moods").manifest.files[WEIGHTS].sha256
    blocking = router.submit("sad", "nerves", params={"max_new_tokens": 600, "min_new_tokens": 600})
    asked_before = router.submit_many(TEXTS, "moods")  # wait behind it, their adapter without a slot
    publish(store, "moods", 8, OPEN)
    asked_after = router.submit_many(TEXTS, "moods")
    blocking.cancel()
    before, after = [item.result(60) for item in asked_before], [item.result(60) for item in asked_after]
    assert [item.text for item in before] == [item.text for item in old]
    assert {item.digest for item in [*old, *before]} == {old_digest}
    new = Router.open(store, base)
    expected = new.generate(TEXTS, "moods")
    assert [item.text for item in after] == [item.text for item in expected] != [item.text for item in old]
    assert {item.digest for item in after} == {item.digest for item in expected} != {old_digest}
    router.generate("sad", "nerves")  # takes the only slot
    assert [item.text for item in router.generate(TEXTS, "moods")] == [item.text for item in expected]
    assert router.generate("sad", None).digest is None
    Store(store).remove("moods")
    assert router.generate(TEXTS[0], "moods").text == expected[0].text, "removed, but still loaded"


def test_a_reader_that_stops_leaves_no_lease_behind(router: Router) -> None:
    next(router.stream("sad", "hearts", max_new_tokens=9))
    router.unload("hearts")  # would wait for its leases


def test_the_bare_base_is_asked_for_a_task_as_its_adapter_is(base: Base, tmp_path: Path) -> None:
    """The same beams and labels, else the adapter would be held against a weaker base."""
    publish(tmp_path / "store", "hearts", 3, OPEN)
    router = Router.open(tmp_path / "store", base)
    beams = router.generate(TEXTS, None, task_of="hearts")
    assert router.generate(TEXTS, None, task="emotion")[0].asked_as == "hearts"
    greedy = Router.open(tmp_path / "empty", base).generate(TEXTS, None, task="emotion")
    assert answers(router, TEXTS, None, task="emotion") == [item.text for item in beams]
    assert [item.text for item in beams] != [item.text for item in greedy] and greedy[0].asked_as is None
    assert all(item.adapter is None and item.asked_as == "hearts" for item in beams)
    assert {item.text for item in greedy} <= set(TASKS["emotion"].labels)
    publish(tmp_path / "store", "emotion", 3)
    again = Router.open(tmp_path / "store", base).generate("joy", None, task="emotion")
    assert again.asked_as == "emotion", "of several the one of the task's name"
    mixed = router.generate(TEXTS[:2], [None, "hearts"], task_of=["hearts", None])
    assert [mixed[0].text, mixed[1].adapter] == [beams[0].text, "hearts"]


@pytest.mark.parametrize("blank", ["", " \n\t ", "\u3000"])
def test_blank_text_is_refused_as_in_training(router: Router, blank: str) -> None:
    for adapter, options in (("emotion", {}), ({"emotion": 0.5}, {}), (None, {"task": "emotion"})):
        with pytest.raises(RequestError, match="the text is blank"):
            router.generate(["sad", blank], adapter, **options)  # type: ignore[call-overload]
    with pytest.raises(RequestError, match="the input 'sentence2' is blank"):
        router.generate({"sentence1": "x", "sentence2": blank}, None, task="similarity")
    assert router.generate(blank, None, max_new_tokens=2).num_tokens > 0, "the bare base may be asked anything"


# Threads


def test_eight_threads_get_the_answers_of_one(root: Path, base: Base, tmp_path: Path) -> None:
    """1,200 requests, fewer slots than adapters, loads and unloads all the time, and not one answer differs.

    Equal texts, so equal tokens after parsing: sums in batches of other shapes differ in their last bits, and no
    two tokens of these rows are that close.
    """
    folder = stage(tmp_path / "extra", seed=7)
    choices: list[Choice] = [*NAMES, None, {"emotion": 0.5, "moods": 0.5}, "extra"]
    pool = [(text, choice) for text in TEXTS for choice in choices]
    single = Router.open(root, base)
    single.load("extra", folder, task="emotion")
    expected = [single.generate(text, choice, max_new_tokens=4).text for text, choice in pool]
    assert len(set(expected)) > 6, "answers must differ for a mix-up to show"

    router = Router.open(root, base, num_slots=5)
    wrong: list[str] = []
    num_refused: list[int] = []

    def ask(thread: int) -> None:
        draw = random.Random(thread)
        for _ in range(38):
            places = [draw.randrange(len(pool)) for _ in range(4)]
            texts, names = zip(*(pool[place] for place in places), strict=True)
            while True:
                try:
                    found = answers(router, texts, list(names), max_new_tokens=4)
                    break
                except UnknownAdapterError as error:  # never another's answer while `extra` is away
                    assert "'extra'" in str(error)
                    num_refused.append(thread)
            wrong.extend(f"{pool[p]}: {f}" for p, f in zip(places, found, strict=True) if f != expected[p])

    def come_and_go() -> None:
        draw = random.Random(99)
        while not is_over.wait(0.002):
            router.load("extra", folder, task="emotion")
            name = draw.choice(NAMES)
            if name in [status.name for status in router.status()]:
                router.unload(name)
            if draw.random() < 0.2:
                router.unload("extra")

    is_over = threading.Event()
    mover = threading.Thread(target=come_and_go)
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in [mover, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    is_over.set()
    mover.join()
    assert wrong == []
    assert num_refused, "`extra` was never away when it was asked for, so unloading was not tested"
    assert {status.num_leases for status in router.status()} == {0}
    traffic = router.traffic
    assert traffic.num_admitted >= 1200 and traffic.num_steps < 1200, "rows share steps"
    assert traffic.num_joined > 100, "rows must join batches that are under way for this to test it"
    assert traffic.most_running > 8, "rows of three calls at least must have met"
