"""``"auto"``: a text goes where its like was learned, or nowhere."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from flan_lora.adapters.store import Store
from flan_lora.base.load import Base
from flan_lora.errors import RequestError
from flan_lora.serving.auto_route import own_bodies
from flan_lora.serving.background import BackgroundText
from flan_lora.serving.router import Router
from flan_lora.serving.routing_profile import PROFILE, read_profile
from flan_lora.serving.routing_report import report
from flan_lora.tasks import TASKS, Example
from tests.published import tiny_fingerprint
from tests.serving.stores import answers, publish

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


def test_a_profile_learns_pairs_of_two_examples_too() -> None:
    """Of several inputs; else pairs that do not belong together would be nobody's."""
    task = TASKS["similarity"]
    rows = [{"sentence1": f"Ada met Bo in town {n}.", "sentence2": f"In town {n} Bo met Ada."} for n in range(6)]
    examples = [Example(str(n), task.prompt(row), "", (), row) for n, row in enumerate(rows)]
    own, pairs = (bodies := own_bodies(examples, task))[:6], bodies[6:]
    assert own == [example.prompt.body for example in examples]
    mixed = [(0, 3), (2, 5), (4, 1)]
    expected = [task.prompt({**rows[first], "sentence2": rows[other]["sentence2"]}).body for first, other in mixed]
    assert pairs == expected and not set(pairs) & set(own)
    texts = [{"text": f"day {n}"} for n in range(5)]
    emotions = [Example(str(n), TASKS["emotion"].prompt(row), "", (), row) for n, row in enumerate(texts)]
    assert own_bodies(emotions, TASKS["emotion"]) == [example.prompt.body for example in emotions]
    assert own_bodies(examples[:1], task) == own[:1]
    passages = [{"context": f"Ada met Bo in town {n}.", "question": "Where?"} for n in range(6)]
    asked = [Example(str(n), TASKS["qa"].prompt(row), "", (), row) for n, row in enumerate(passages)]
    assert len(own_bodies(asked, TASKS["qa"])) == 6, "its body is the passage alone, so no pair is new"
