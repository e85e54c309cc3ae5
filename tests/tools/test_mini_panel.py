"""The panel asks what it says it asks, of a trunk and of any checkpoint, and remembers the answers."""

from __future__ import annotations

import json
import random

import pytest

torch = pytest.importorskip("torch")

TEXT = (
    "In spring the town of Lorvik opened a bridge over the river, and many came to see it on the first day. "
    "The mayor thanked Anders for the plan. It was said that Anders had worked on it for nine long years alone. "
    "Boats passed below all afternoon. Nobody in Lorvik had seen so many of them since the winter fair ended."
)


def test_a_continuation_and_its_prefix_make_the_passage_again():
    from tools.mini.probes import GAP, continuations

    (probe,) = continuations([TEXT])
    assert f"{probe.prompt}".replace(GAP, probe.target) == TEXT
    assert len(TEXT) // 5 < len(probe.target) <= len(TEXT) // 4


def test_a_last_word_ends_a_sentence_and_is_not_shown():
    from tools.mini.probes import last_words

    probe = last_words([TEXT])[0]
    body = probe.prompt.body
    assert f"{body} {probe.target}." in TEXT and len(body) >= 150


def test_a_blank_name_stands_elsewhere_in_its_passage():
    from tools.mini.probes import GAP, clozes

    (probe,) = clozes([TEXT])
    assert probe.target in {"Lorvik", "Anders"}
    assert str(probe.prompt).count(GAP) == 1 and probe.target in str(probe.prompt).replace(",", " ").split()
    restored = str(probe.prompt).replace(GAP, probe.target)
    assert restored.split() == TEXT.split()


def test_copies_stand_in_front_of_their_gap():
    from tools.mini.probes import GAP, copies

    for probe in copies([TEXT], random.Random(0)):
        first, _, second = str(probe.prompt).partition(" | ")
        assert second.replace(GAP, probe.target) == first and GAP in second


def test_exactness_and_nats_are_those_of_a_base_that_knows_the_answer(data_root, tmp_path):
    """A stand-in that puts nearly all weight on the label itself: exact everywhere, and 0 nats."""
    from transformers import AutoTokenizer

    from flan_lora.mini import MINI_PATH
    from tools.mini.panel import teacher_forced
    from tools.mini.probes import copies

    tokenizer = AutoTokenizer.from_pretrained(str(MINI_PATH), local_files_only=True)
    probes = copies([TEXT], random.Random(0))[:20]

    class Knows:
        device = torch.device("cpu")

        def __init__(self, shift: int) -> None:
            self.shift = shift

        def __call__(self, decoder_input_ids, **_):
            wanted = torch.cat([decoder_input_ids[:, 1:], torch.ones_like(decoder_input_ids[:, :1])], 1)
            wanted = torch.where(wanted == 0, 1, wanted)  # behind the last token: eos
            logits = 30.0 * torch.nn.functional.one_hot(wanted + self.shift, 9000)
            return type("Output", (), {"logits": logits})()

    nats, exact = teacher_forced(Knows(0), tokenizer, probes)
    assert exact == 1.0 and nats < 1e-3
    nats, exact = teacher_forced(Knows(1), tokenizer, probes)
    assert exact == 0.0 and nats > 5.0


def test_how_a_gap_ends_counts_nothing_and_how_an_answer_ends_does():
    """A stand-in that knows every token but the end."""
    from transformers import AutoTokenizer

    from flan_lora.mini import MINI_PATH
    from flan_lora.tasks.task import Prompt
    from tools.mini.panel import teacher_forced
    from tools.mini.probes import Probe, copies

    tokenizer = AutoTokenizer.from_pretrained(str(MINI_PATH), local_files_only=True)

    class KnowsNoEnd:
        device = torch.device("cpu")

        def __call__(self, decoder_input_ids, **_):
            wanted = torch.cat([decoder_input_ids[:, 1:], torch.full_like(decoder_input_ids[:, :1], 5)], 1)
            wanted = torch.where(wanted == 0, 5, wanted)
            return type("Output", (), {"logits": 30.0 * torch.nn.functional.one_hot(wanted, 9000)})()

    nats, exact = teacher_forced(KnowsNoEnd(), tokenizer, copies([TEXT], random.Random(0))[:20])
    assert exact == 1.0 and nats < 1e-3
    nats, _ = teacher_forced(KnowsNoEnd(), tokenizer, [Probe(Prompt("", "Who?"), "Anders", is_gap=False)])
    assert nats > 3.0


def test_a_trunk_and_a_checkpoint_get_the_same_figures_and_the_trunk_remembers(data_root, tmp_path, monkeypatch):
    from tools.mini import corpus, probes
    from tools.mini.export import save_weights
    from tools.mini.network import Shape
    from tools.mini.panel import measure_checkpoint, measure_run, unmeasured
    from tools.mini.panel_file import load
    from tools.mini.read import TrunkPlan, pack, read

    monkeypatch.setattr(corpus, "HELD_OUT_SHARE", 2)
    monkeypatch.setattr(probes, "PASSAGE_CHARS", 300)
    packed = pack(data_root, tmp_path / "packed", num_pieces=412)
    plan = TrunkPlan(Shape(512, 32, 48, 8, 4, 1, 1), batch_tokens=300, num_warmup_steps=5)
    run = tmp_path / "run"
    trainer = read(packed, run, plan=plan, until_step=2)
    log = (run / "log.jsonl").read_text()
    figures = measure_run(run, packed, data_root)
    assert (run / "log.jsonl").read_text() == log, "measuring must not touch the log of a trunk that reads on"
    expected = {f"nats: continuation, {kind}" for kind in (*corpus.HELD_OUT, *corpus.UNREAD)}
    expected |= {f"score: {name}" for name in probes.TASK_FILES} | {"exact: copying", "repeated: summarization"}
    assert expected <= set(figures)
    trainer = read(packed, run, until_step=4, keep_every=3)
    measure_run(run, packed, data_root, tasks=False)
    assert unmeasured(run) == ["state-000003.safetensors"]
    assert [record["step"] for record in load(run / "panel.jsonl")] == [2, 4]
    assert (run / "panel.png").stat().st_size > 10_000
    save_weights(trainer.model, tmp_path / "checkpoint")
    for file in (packed / "tokenizer").iterdir():
        (tmp_path / "checkpoint" / file.name).write_bytes(file.read_bytes())
    again = measure_checkpoint(tmp_path / "checkpoint", packed, data_root, tasks=False)
    latest = load(run / "panel.jsonl")[-1]
    assert all(value == pytest.approx(latest[name], rel=0.02, abs=0.02) for name, value in again.items())


def test_passages_are_found_once(data_root, tmp_path, monkeypatch):
    from tools.mini import probes

    cache = tmp_path / "passages.json"
    found = probes.load_passages(data_root, cache)
    monkeypatch.setattr(probes, "passages", None)
    assert probes.load_passages(data_root, cache) == found == json.loads(cache.read_text())
