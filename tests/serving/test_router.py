"""Texts in, answers out: the right adapter in its own prompt, and the same answer for any number of threads."""

from __future__ import annotations

import itertools
import json
import random
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from flan_lora.adapters.peft_loader import load_adapter
from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import WEIGHTS
from flan_lora.base.load import Base, open_base
from flan_lora.cli import main
from flan_lora.engine.generation_params import Sampling
from flan_lora.engine.lease import AdapterState
from flan_lora.errors import AdapterError, AdapterMismatchError, RequestError, UnknownAdapterError
from flan_lora.evaluation.calibration import tempered
from flan_lora.evaluation.predict import label_probabilities, predict
from flan_lora.serving.background import BackgroundText
from flan_lora.serving.completion import Choice, Completion
from flan_lora.serving.propose import Proposal, is_new
from flan_lora.serving.router import Router
from flan_lora.serving.routing_profile import PROFILE, read_profile
from flan_lora.serving.routing_report import report
from flan_lora.tasks import TASKS, Example
from tests.checkpoint import save_checkpoint, spec_of
from tests.published import make_manifest, stage, tiny_fingerprint
from tests.tiny import tiny_t5

NAMES = ("emotion", "moods", "feelings", "hearts", "nerves")
TEXTS = (
    "i am so sad",
    "joy to the question",
    "what is not to love",
    "fear",
    "no anger is yes to you, the sad one",
)
OPEN = {"num_beams": 3, "constrained": False}
"""How `hearts` was evaluated: not among the labels."""


def publish(root: Path, name: str, seed: int, evaluation: dict[str, Any] | None = None, **changes: Any) -> None:
    manifest = make_manifest(name, **{"base": {"fingerprint": tiny_fingerprint()}, **changes})
    if evaluation is not None:
        recipe = {**manifest.recipe, "evaluation": {**manifest.recipe["evaluation"], **evaluation}}
        manifest = manifest.model_copy(update={"recipe": recipe})
    Store(root).publish(stage(root.parent / "staged" / name, seed), manifest)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of five emotion adapters on the tiny T5."""
    path = tmp_path_factory.mktemp("adapters") / "store"
    for seed, name in enumerate(NAMES):
        publish(path, name, seed + 3, OPEN if name == "hearts" else None)
    return path


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    return open_base(spec_of(save_checkpoint(tmp_path_factory.mktemp("base"))), device=request.param)


@pytest.fixture
def router(root: Path, base: Base) -> Router:
    return Router.open(root, base)


def answers(router: Router, texts: Sequence[str], adapter: Choice | Sequence[Choice], **options: Any) -> list[str]:
    return [completion.text for completion in router.generate(texts, adapter, **options)]


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


# Adapters come and go


@pytest.mark.parametrize("name", ["", ".", "..", "../store/emotion", "emotion/", "/emotion", "./emotion", "e\0"])
def test_a_request_never_names_a_path(router: Router, name: str) -> None:
    for ask in (router.generate, router.submit, router.stream):
        with pytest.raises(AdapterError, match="is not an adapter name"):
            ask("sad", name)  # type: ignore[operator]
    with pytest.raises(AdapterError, match="is not an adapter name"):
        router.load(name)


@pytest.mark.parametrize(
    "name", ["auto", "base", "AUTO", "none", "", " ", "../x", "a/b", "x\ny", ".hidden", "x" * 65]
)
def test_a_folder_takes_no_name_that_means_something_else(router: Router, tmp_path: Path, name: str) -> None:
    folder = stage(tmp_path / "theirs", seed=4)
    with pytest.raises(AdapterError, match=r"cannot be an adapter's name|is a reserved name"):
        router.load(name, folder)
    assert router.status() == []


def test_an_unknown_name_is_an_error_with_close_names_and_never_the_base(router: Router) -> None:
    with pytest.raises(UnknownAdapterError, match="did you mean 'emotion'"):
        router.generate("sad", "emotoin")
    with pytest.raises(UnknownAdapterError):
        router.generate(["sad", "joy"], ["emotion", "nothing-like-it"])


def test_a_plain_folder_is_served_under_a_name_of_ones_own(router: Router, tmp_path: Path) -> None:
    folder = stage(tmp_path / "theirs", seed=4)  # the weights of `moods`
    router.load("mine", folder, task="emotion")
    assert answers(router, TEXTS, "mine") == answers(router, TEXTS, "moods")
    with pytest.raises(UnknownAdapterError, match="Of the loaded ones, 'mine' is close"):
        router.generate("sad", "minee")
    with pytest.raises(AdapterError, match="already loaded"):
        router.load("mine", stage(tmp_path / "other", seed=2))
    router.unload("mine")
    with pytest.raises(UnknownAdapterError):
        router.generate("sad", "mine")


def test_a_folder_that_cannot_be_served_is_not_known_afterwards(router: Router, tmp_path: Path) -> None:
    folder = stage(tmp_path / "theirs", seed=4)
    weights = load_file(folder / "adapter_model.safetensors")
    weights.pop(sorted(weights)[0]), weights.pop(sorted(weights)[0])
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterMismatchError, match="do not fit this base"):
        router.load("mine", folder)
    with pytest.raises(UnknownAdapterError):
        router.generate("sad", "mine")
    router.load("mine", stage(tmp_path / "mended", seed=4), task="emotion")
    assert answers(router, TEXTS, "mine") == answers(router, TEXTS, "moods")


def test_a_published_folder_elsewhere_keeps_its_checks(router: Router, tmp_path: Path, base: Base) -> None:
    publish(tmp_path / "store", "emotion", 4)
    router.load("second", tmp_path / "store" / "emotion")
    assert answers(router, TEXTS, "second") == answers(router, TEXTS, "moods")
    publish(tmp_path / "store", "moods", 4, base={"fingerprint": "cd" * 32})
    with pytest.raises(AdapterMismatchError, match="does not fit this base"):
        router.load("third", tmp_path / "store" / "moods")


def test_a_published_adapter_comes_back_after_unload(router: Router) -> None:
    before = answers(router, TEXTS, "emotion")
    router.unload("emotion")
    assert "emotion" not in [status.name for status in router.status()]
    assert answers(router, TEXTS, "emotion") == before


def test_a_pinned_adapter_stays(root: Path, base: Base) -> None:
    router = Router.open(root, base, num_slots=3)
    router.pin("emotion")
    for name in NAMES:
        router.generate("sad", name)
    states = {status.name: status.state for status in router.status()}
    assert states["emotion"] is AdapterState.RESIDENT and states["moods"] is not AdapterState.RESIDENT


# auto


SUBJECTS = ["".join(pair) for pair in itertools.product("abcdefghijkl", "mnopqrstuv")]
SAD = [f"i am so sad, {word} is not what you love" for word in SUBJECTS]
ASKING = [f"what is the question to {word}" for word in SUBJECTS]
FITTED = slice(0, 114)
FARTHEST = "99"
"""Unlike any subject that is fitted: thresholds that accept it lie below all of the texts above."""


@pytest.fixture
def routed(base: Base, tmp_path: Path) -> Router:
    """Two adapters with routing profiles, one without."""
    for seed, name in enumerate(("emotion", "moods", "nerves")):
        publish(tmp_path / "store", name, seed)
    router = Router.open(tmp_path / "store", base)
    for name, texts in (("emotion", SAD), ("moods", ASKING)):
        farthest = texts[1].replace(SUBJECTS[1], FARTHEST)
        validation = [TASKS["emotion"].prompt({"text": text}).body for text in [*texts, farthest]]
        router.fit_routing(name, validation[FITTED], validation, reject_share=0.0)
    return router


def test_auto_sends_a_text_where_its_like_was_learned(routed: Router) -> None:
    completions = routed.generate([*SAD[114:], *ASKING[114:]], "auto")
    assert [c.adapter for c in completions] == ["emotion"] * 6 + ["moods"] * 6
    expected = answers(routed, SAD[114:], "emotion") + answers(routed, ASKING[114:], "moods")
    assert [c.text for c in completions] == expected
    beside = routed.generate([ASKING[114], SAD[114], SAD[115]], ["moods", "auto", "nerves"])
    assert [c.adapter for c in beside] == ["moods", "emotion", "nerves"]
    route, again = completions[0].route, beside[1].route
    assert route is not None and again is not None
    # read beside other texts, so in a GPU's last digits not the same
    assert replace(again, score=route.score, runner_up_score=route.runner_up_score) == route
    assert again.score == pytest.approx(route.score, abs=1e-6)
    assert again.runner_up_score == pytest.approx(route.runner_up_score, abs=1e-6)
    assert route.runner_up == "moods" and route.score > (route.runner_up_score or 0.0)
    assert "most like emotion" in route.reason and "ahead of moods" in route.reason


def test_auto_abstains_from_what_it_does_not_know(routed: Router) -> None:
    strange = "%%%% 9999 ZZZZ ++++ QQQQ"
    assert routed.route(strange).adapter is None
    with pytest.raises(RequestError, match=r"no adapter is made for this text(.|\n)*less than its"):
        routed.generate(strange, "auto")
    assert routed.generate(strange, "auto", abstain="base", max_new_tokens=3).adapter is None


def test_auto_considers_only_tasks_that_take_the_inputs(routed: Router) -> None:
    with pytest.raises(RequestError, match="none has a routing profile for its inputs"):
        routed.route({"sentence1": "a", "sentence2": "b"})


def test_a_routing_profile_stays_beside_its_adapter_and_leaves_it_sound(routed: Router, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    path = store.root / "emotion"
    profile = read_profile(path)
    assert (path / PROFILE).is_file() and profile is not None
    assert profile.fingerprint == tiny_fingerprint() and store.verify("emotion") == []
    assert read_profile(store.root / "nerves") is None


def test_a_report_counts_right_wrong_and_abstained(routed: Router) -> None:
    strange = "%%%% 9999 ZZZZ ++++ QQQQ"
    texts = {"emotion": [*SAD[114:], strange, ASKING[114]], "moods": ASKING[114:], "nerves": []}
    found = report(routed, texts, [BackgroundText(strange, "noise"), BackgroundText(SAD[115], "tears")])
    first, second = found.shares
    assert (first.adapter, first.num_texts, first.most_confused_with) == ("emotion", 8, "moods")
    assert (first.right_share, first.wrong_share, first.abstained_share) == (6 / 8, 1 / 8, 1 / 8)
    assert (second.right_share, second.wrong_share, second.most_confused_with) == (1.0, 0.0, None)
    assert found.accuracy == 12 / 14
    noise, tears = found.kinds
    assert (noise.kind, noise.num_texts, noise.accepted_share, noise.mostly_by) == ("noise", 1, 0.0, None)
    assert (tears.kind, tears.accepted_share, tears.mostly_by) == ("tears", 1.0, "emotion")
    assert found.accepted == ((SAD[115], "emotion"),) and found.false_accept_share == 0.5
    assert routed.routable() == ["emotion", "moods"]


# Threads


def test_eight_threads_get_the_answers_of_one(root: Path, base: Base, tmp_path: Path) -> None:
    """2,400 requests, fewer slots than adapters, loads and unloads all the time, and not one answer differs.

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
        for _ in range(75):
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
    assert traffic.num_admitted >= 2400 and traffic.num_steps < 2400, "rows share steps"
    assert traffic.num_joined > 100, "rows must join batches that are under way for this to test it"
    assert traffic.most_running > 8, "rows of three calls at least must have met"


# What can be asked of a text


@pytest.fixture
def asking(tmp_path: Path, base: Base) -> Router:
    publish(tmp_path / "store", "asking", 9, task="question-generation")
    publish(tmp_path / "store", "emotion", 3)
    return Router.open(tmp_path / "store", base)


PASSAGE = "Ada Lovelace met Charles Babbage in London on 5 June 1833. He was 41 years old."


def test_proposals_are_questions_to_spans_of_the_text_surest_first(asking: Router) -> None:
    spans = [inputs["answer"] for inputs in TASKS["question-generation"].propose(PASSAGE)]  # type: ignore[misc]
    assert spans == ["Ada Lovelace", "Charles Babbage", "London", "5 June 1833", "41 years"]
    found = asking.propose(PASSAGE, "asking", max_proposals=3)
    assert 1 <= len(found) <= 3
    assert [item.sureness for item in found] == sorted((item.sureness for item in found), reverse=True)
    for item in found:
        assert item.inputs["answer"] in spans and item.inputs["context"] == PASSAGE
        assert item.completion.text == asking.generate(item.inputs, "asking").text
    assert asking.propose("nothing in here.", "asking") == []


def test_a_question_that_gives_its_answer_away_or_repeats_another_is_left_out() -> None:
    def proposal(question: str, answer: str) -> Proposal:
        return Proposal({"context": "c", "answer": answer}, Completion(question, "a", 0.0, 3, -1.0))

    kept = [proposal("Where did Ada meet him?", "London")]
    assert is_new(proposal("When was he born?", "1791"), kept)
    assert not is_new(proposal("Was he born in 1791?", "1791"), kept)
    assert not is_new(proposal("Where did Ada first meet him?", "Oslo"), kept)
    assert not is_new(proposal("", "1791"), kept)


def test_other_tasks_propose_nothing(asking: Router) -> None:
    with pytest.raises(RequestError, match="'emotion' proposes nothing: its task takes text, and has no way"):
        asking.propose("so sad", "emotion")


def test_the_command_line_lists_proposals(asking: Router, tmp_path: Path) -> None:
    store = tmp_path / "store"
    command = ["generate", "--adapter", str(store / "asking"), "--base", asking.base.spec.model, "--propose", "2"]
    shown = CliRunner().invoke(main, [*command, PASSAGE], catch_exceptions=False)
    assert shown.exit_code == 0 and shown.stdout.splitlines()[0].split() == ["QUESTION", "ANSWER", "SCORE"]
    listed = CliRunner().invoke(main, [*command, "--json", PASSAGE, "nothing in here."], catch_exceptions=False)
    first, second = json.loads(listed.stdout)
    spans = [inputs["answer"] for inputs in TASKS["question-generation"].propose(PASSAGE)]  # type: ignore[misc]
    assert len(first["questions"]) == 2 and all(row["answer"] in spans for row in first["questions"])
    assert all(row["question"] and row["score"] < 0 for row in first["questions"])
    assert second == {"input": "nothing in here.", "questions": []}
    for option in ("--compare", "--scores"):
        refused = CliRunner().invoke(main, [*command, option, PASSAGE])
        assert refused.exit_code == 2 and "--propose takes texts alone, and scores by itself" in refused.output


def test_a_file_of_passages_gets_the_questions_that_each_would_get_alone(asking: Router, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines: list[object] = [PASSAGE, {"context": PASSAGE, "id": 7}, {"text": PASSAGE}, "nothing in here."]
    lines.append({"context": PASSAGE, "adapter": None})
    source.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    adapter = str(tmp_path / "store" / "asking")
    command = ["generate", "--adapter", adapter, "--base", asking.base.spec.model, "--propose", "2"]
    result = CliRunner().invoke(main, [*command, "-i", str(source), "-o", str(target)])
    assert result.exit_code == 1 and f"{source}:3: expected the text inputs context (got text)" in result.output
    assert f'{source}:5: to propose, "adapter" must be the name of one adapter (got null)' in result.output
    first, second, wrong, none, nameless = map(json.loads, target.read_text().splitlines())
    listed = CliRunner().invoke(main, [*command, "--json", PASSAGE], catch_exceptions=False)
    assert first["questions"] == json.loads(listed.stdout)[0]["questions"] and len(first["questions"]) == 2
    assert second["questions"] == first["questions"] and none["questions"] == []
    assert "questions" not in wrong and "questions" not in nameless
