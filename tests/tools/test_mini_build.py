"""The builder of the embedded base, on generated text: reproducible, resumable, and the mixture it reads."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from flan_lora.errors import FlanLoraError


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _tiny(data_root: Path, out: Path, **options: object) -> str:
    from tools.mini.build import Plan, build, weights_digest
    from tools.mini.network import Shape

    plan = Plan(3, 4, decay_steps=2, batch_tokens=512, span_tokens=1, num_threads=1)
    shape = Shape(512, 32, 48, 8, 4, 1, 1)
    return weights_digest(build(data_root, out, plan=plan, shape=shape, **options))


@pytest.fixture(scope="module")
def digest(data_root, tmp_path_factory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("first")
    return _tiny(data_root, out), out


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("dies_at", [2, 4, 5], ids=["denoising", "instruction", "annealing"])
def test_another_build_that_was_killed_resumes_to_bitwise_equal_weights(
    data_root, digest, tmp_path, monkeypatch, dies_at
):
    from tools.mini.pretrain import Trainer

    update = Trainer.update

    def dying(self, batches):
        if self.step == dies_at:
            raise KeyboardInterrupt
        return update(self, batches)

    monkeypatch.setattr(Trainer, "update", dying)
    with pytest.raises(KeyboardInterrupt):
        _tiny(data_root, tmp_path, checkpoint_every_s=0.0)
    monkeypatch.setattr(Trainer, "update", update)
    assert _tiny(data_root, tmp_path, resume=True) == digest[0]


def test_a_build_writes_a_loadable_checkpoint_with_card_and_curve(digest):
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    checkpoint = digest[1] / "checkpoint"
    model = T5ForConditionalGeneration.from_pretrained(str(checkpoint))
    assert model.lm_head.weight is not model.shared.weight
    assert len(AutoTokenizer.from_pretrained(str(checkpoint))) == model.config.vocab_size == 512
    card = (checkpoint / "README.md").read_text()
    stages = {"denoising": 3, "instruction": 2, "annealing": 2}
    assert all(f"| {stage} | {steps} |" in card for stage, steps in stages.items())
    curve = [json.loads(line) for line in (checkpoint / "loss.jsonl").read_text().splitlines()]
    assert [record["step"] for record in curve] == [3, 5, 7]


@pytest.mark.usefixtures("one_thread")
def test_a_finished_build_is_not_overwritten_nor_resumed_under_another_plan(data_root, digest):
    from tools.mini.build import Plan, build

    with pytest.raises(FlanLoraError, match="holds a run already"):
        build(data_root, digest[1])
    with pytest.raises(FlanLoraError, match=r"(?s)another plan.*there.*asked"):
        build(data_root, digest[1], plan=Plan(steps=7), resume=True)


def test_resuming_nothing_and_missing_data_are_told_apart(data_root, tmp_path):
    from tools.mini.build import build

    with pytest.raises(FlanLoraError, match="no run to resume"):
        build(data_root, tmp_path / "none", resume=True)
    with pytest.raises(FlanLoraError, match=r"(?s)missing.*text/wikinews.txt.xz.*Point --data"):
        build(tmp_path, tmp_path / "out")


def test_the_mixture_holds_the_products_own_prompts_and_no_flood_of_one_answer(data_root):
    from flan_lora.tasks import get_task
    from tools.mini.instruct import build_pairs

    pairs = build_pairs(data_root, seed=0)
    texts = {str(pair.prompt) for pair in pairs}
    row = {"text": "x", "label": 0}
    tail = get_task("emotion").examples(row)[0].prompt.tail
    assert any(text.endswith(tail) for text in texts)
    assert pairs == build_pairs(data_root, seed=0) != build_pairs(data_root, seed=1)
    assert sum(pair.target == "LOC" for pair in pairs) <= 1  # the only answer of its set: nothing to learn


@pytest.mark.parametrize("label", range(6))
def test_the_base_learns_an_emotion_beside_one_other(label):
    """Never the adapter's own labels; another turn asks another question."""
    from flan_lora.tasks import get_task
    from tools.mini.instruct import FEELINGS, one_of_two

    fields = [one_of_two(turn)({"text": f"text {n}", "label": label}) for turn in range(2) for n in range(40)]
    for field in fields:
        pair = {field["left"], field["right"]}
        assert len(pair) == 2 and field["answer"] == FEELINGS[label] and field["answer"] in pair
        assert field["is_left"] == ("yes" if field["left"] == FEELINGS[label] else "no")
    assert {field["left"] for field in fields} == set(FEELINGS)
    assert fields[:40] != fields[40:]
    assert not set(FEELINGS) & set(get_task("emotion").labels)


def test_only_the_annealing_names_the_feelings(data_root):
    from tools.mini.instruct import ANNEALING, MIXTURE, build_pairs

    asked_by_name = [
        [
            pair
            for pair in build_pairs(data_root, 0, mixture)
            if str(pair.prompt).startswith("feeling: ") and not pair.prompt.tail
        ]
        for mixture in (MIXTURE, ANNEALING)
    ]
    assert not asked_by_name[0] and asked_by_name[1]


def test_half_of_the_rows_that_adapters_learn_from_are_held_back_always_the_same(data_root):
    from tools.mini.instruct import ANNEALING, MIXTURE, OWN_SOURCES, TWO_FEELINGS, templated

    mixes = {id(mix): mix for mix in (*MIXTURE, *ANNEALING) if mix not in TWO_FEELINGS}.values()
    ours = [mix for mix in mixes if mix.source in OWN_SOURCES.values() and "tydiqa" not in mix.source]
    assert {mix.source for mix in ours} == set(OWN_SOURCES.values()) - {"google-research-datasets/tydiqa"}
    for mix in ours:
        rows = [{mix.halved_by: f"text {n}", "label": 1} for n in range(400)]
        read = [row for row in rows if mix.reads(row)]
        assert 150 < len(read) < 250 and read == [row for row in rows if mix.reads(row)]
        assert 10 < len(list(templated(data_root, mix, random.Random(0)))) < 50  # of 60


def test_a_passage_is_cut_to_whole_sentences_around_its_answer():
    from tools.mini.mixes import PASSAGE_CHARS, passage

    context = " ".join(f"Sentence number {n} says nothing of note about it." for n in range(40))
    start = context.index("number 23")
    row = {"context": context, "question": "Which?", "answers": {"text": ["number 23"], "answer_start": [start]}}
    cut = passage(row)["context"]
    assert "number 23" in cut and len(cut) <= PASSAGE_CHARS
    assert cut in context and cut.startswith("Sentence") and cut.endswith("it.")
    assert passage({**row, "answers": {"text": ["number 23"], "answer_start": [start + 1]}}) is None
