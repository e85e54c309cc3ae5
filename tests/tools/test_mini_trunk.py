"""The long reading: packed once, stopped anywhere, continued to the bit; measured on text that it never reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flan_lora.errors import FlanLoraError

torch = pytest.importorskip("torch")

NUM_PIECES = 412


@pytest.fixture(scope="module")
def packed(data_root, tmp_path_factory) -> Path:
    from tools.mini.read import pack

    return pack(data_root, tmp_path_factory.mktemp("packed"), num_pieces=NUM_PIECES)


@pytest.fixture
def plan():
    from tools.mini.network import Shape
    from tools.mini.read import TrunkPlan

    return TrunkPlan(Shape(512, 32, 48, 8, 4, 1, 1), batch_tokens=300, num_warmup_steps=5)


def _weights(trainer) -> dict[str, object]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def test_a_stopped_trunk_goes_on_to_the_same_bits(packed, plan, tmp_path):
    from tools.mini.read import read

    whole = read(packed, tmp_path / "whole", plan=plan, until_step=20)
    read(packed, tmp_path / "parts", plan=plan, until_step=10)
    parts = read(packed, tmp_path / "parts", until_step=20)
    assert parts.step == 20 and parts.source_tokens == whole.source_tokens
    expected = _weights(whole)
    assert all(torch.equal(weight, expected[name]) for name, weight in _weights(parts).items())
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert steps == [10, 20]


def test_states_for_branches_stay_while_the_trunk_goes_on(packed, plan, tmp_path):
    from safetensors import safe_open

    from tools.mini.read import read

    read(packed, tmp_path, plan=plan, until_step=7, keep_every=3)
    kept = sorted(path.name for path in tmp_path.glob("state-*"))
    assert kept == ["state-000003.safetensors", "state-000006.safetensors"]
    with safe_open(tmp_path / kept[0], "pt") as early, safe_open(tmp_path / "state.safetensors", "pt") as last:
        assert early.metadata()["step"] == "3" and last.metadata()["step"] == "7"


def test_a_trunk_keeps_the_plan_it_began_with(packed, plan, tmp_path):
    from dataclasses import replace

    from tools.mini.read import read

    read(packed, tmp_path, plan=plan, until_step=1)
    with pytest.raises(FlanLoraError, match=r"(?s)another plan.*there.*asked"):
        read(packed, tmp_path, plan=replace(plan, seed=1), until_step=2)


def test_missing_tokens_and_a_missing_gpu_are_named(packed, plan, tmp_path):
    from tools.mini.read import read

    with pytest.raises(FlanLoraError, match=r"no tokens.npy(?s:.*)tools.mini pack"):
        read(tmp_path / "nothing", tmp_path / "run", plan=plan)
    if not torch.cuda.is_available():
        with pytest.raises(FlanLoraError, match="sees no GPU"):
            read(packed, tmp_path / "run", plan=plan, until_step=1, device="cuda")


def test_packing_again_changes_nothing(data_root, packed):
    from tools.mini.read import pack

    before = {path.name: path.stat().st_mtime_ns for path in packed.iterdir()}
    pack(data_root, packed, num_pieces=NUM_PIECES)
    assert before == {path.name: path.stat().st_mtime_ns for path in packed.iterdir()}


def test_held_out_documents_are_not_read(data_root):
    from tools.mini import corpus

    for kind, names in corpus.HELD_OUT.items():
        for name in names:
            read_ones = set(corpus.documents(data_root, corpus.source(name)))
            held_out = set(corpus.documents(data_root, corpus.source(name), held_out=True))
            assert not read_ones & held_out, kind
    assert not set(corpus.UNREAD) & set(corpus.HELD_OUT)
    assert not {entry.path for entry in corpus.UNREAD.values()} & {entry.path for entry in corpus.SOURCES}


def test_half_of_the_rows_give_nothing_that_an_adapter_learns_to_write(tmp_path):
    from tools.mini import corpus

    entry = corpus.Source("chats", "chats.jsonl", "none", ("dialogue", "summary"), withheld=("summary",))
    rows = [{"dialogue": f"A: text {n}\nB: well", "summary": f"Summary {n}."} for n in range(400)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    documents = list(corpus.documents(tmp_path, entry, held_out=None))
    assert len(documents) == 400 and 150 < sum("Summary" in document for document in documents) < 250
    assert all(" | B: well" in document for document in documents)
    read = {n for n, document in enumerate(documents) if "Summary" in document}
    assert read == {n for n in range(400) if corpus.is_read(rows[n]["dialogue"])}


def test_hindi_reaches_the_tokenizer_in_latin_letters(tmp_path):
    from flan_lora.tasks.romanise import romanise
    from tools.mini import corpus

    text = "भारत की राजधानी नई दिल्ली है।"
    (tmp_path / "hindi.jsonl").write_text(json.dumps({"text": text}) + "\n")
    entry = corpus.Source("hindi", "hindi.jsonl", "none", ("text",))
    assert list(corpus.documents(tmp_path, entry, held_out=None)) == [romanise(text)]


def test_the_command_line_reads_on(packed, tmp_path):
    command = [
        sys.executable,
        "-m",
        "tools.mini",
        "read",
        "--packed",
        str(tmp_path),
        "--run",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."}, check=False
    )
    assert done.returncode == 1 and "holds no tokens.npy" in done.stderr and "Traceback" not in done.stderr


def test_tokens_fit_two_bytes(packed):
    tokens = np.load(packed / "tokens.npy")
    assert tokens.dtype == np.uint16 and tokens.max() < NUM_PIECES and len(tokens) > 3000


def test_a_trunk_goes_on_from_small_files_with_bf16_weights_and_the_next_batch(
    packed, plan, tmp_path, monkeypatch
):
    from tools.mini import state as state_module
    from tools.mini.read import read
    from tools.mini.state import load_state, save_state

    monkeypatch.setattr(state_module, "MAX_SHARD_BYTES", 20_000)
    before = read(packed, tmp_path / "run", plan=plan, until_step=10)
    state = save_state(tmp_path / "run", packed, tmp_path / "state")
    assert len(list(state.glob("weights-*"))) > 2
    assert max(path.stat().st_size for path in state.glob("weights-*")) <= 20_000
    assert load_state(state, tmp_path / "again", packed) is True
    after = read(packed, tmp_path / "again", until_step=10)
    assert after.counters() == {**before.counters(), "warm_from": 10}
    expected = {name: weight.bfloat16().float() for name, weight in _weights(before).items()}
    assert all(torch.equal(weight, expected[name]) for name, weight in _weights(after).items())
    assert after.schedule.scale(10, after.warm_from) == 1 / after.schedule.num_rewarm_steps
    read(packed, tmp_path / "again", until_step=12)
    records = [json.loads(line) for line in (tmp_path / "again" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [10, 12]


def test_a_state_brings_its_tokenizer_and_says_when_the_tokens_are_others(data_root, packed, plan, tmp_path):
    from tools.mini.read import pack, read
    from tools.mini.state import load_state, save_state

    read(packed, tmp_path / "run", plan=plan, until_step=1)
    state = save_state(tmp_path / "run", packed, tmp_path / "state")
    fresh = tmp_path / "fresh"
    assert load_state(state, tmp_path / "again", fresh) is False
    pack(data_root, fresh, num_pieces=NUM_PIECES)
    assert (fresh / "tokens.npy").read_bytes() == (packed / "tokens.npy").read_bytes()


def test_a_damaged_or_occupied_place_is_refused(packed, plan, tmp_path):
    from tools.mini.read import read
    from tools.mini.state import load_state, save_state

    read(packed, tmp_path / "run", plan=plan, until_step=1)
    state = save_state(tmp_path / "run", packed, tmp_path / "state")
    with pytest.raises(FlanLoraError, match="holds a trunk already"):
        load_state(state, tmp_path / "run", packed)
    shard = state / "weights-00.bf16"
    shard.write_bytes(shard.read_bytes()[:-2] + b"xx")
    with pytest.raises(FlanLoraError, match=r"weights-00.bf16 is damaged"):
        load_state(state, tmp_path / "again", packed)
    with pytest.raises(FlanLoraError, match=r"no manifest.json"):
        load_state(tmp_path, tmp_path / "again", packed)
    assert not (tmp_path / "again").exists()


def test_batches_made_ahead_by_other_processes_give_the_same_trunk(packed, plan, tmp_path):
    from tools.mini.read import read

    alone = _weights(read(packed, tmp_path / "alone", plan=plan, until_step=6))
    helped = _weights(read(packed, tmp_path / "helped", plan=plan, until_step=6, num_workers=2))
    assert all(torch.equal(weight, alone[name]) for name, weight in helped.items())


def test_carried_tokens_are_the_packed_ones_and_smaller(packed, tmp_path):
    from tools.mini.tokens import compress, expand

    carried = compress(packed, tmp_path / "carried")
    assert (expand(carried, tmp_path / "again") / "tokens.npy").read_bytes() == (
        packed / "tokens.npy"
    ).read_bytes()
    assert (carried / "tokens.xz").stat().st_size < (packed / "tokens.npy").stat().st_size / 2
    with pytest.raises(FlanLoraError, match=r"no tokens.xz(?s:.*)tools.mini compress"):
        expand(tmp_path, tmp_path / "other")


def test_the_passes_of_a_gpu_go_on_with_a_trunk_in_larger_batches(packed, plan, tmp_path, monkeypatch):
    """What `--device cuda` does, but for the device and the compiler: autograd in bf16, batches made ahead."""
    from tools.mini import passes
    from tools.mini.network import AutogradT5
    from tools.mini.read import read
    from tools.mini.state import load_state, save_state

    small = read(packed, tmp_path / "run", plan=plan, until_step=2)
    state = save_state(tmp_path / "run", packed, tmp_path / "state")
    load_state(state, tmp_path / "gpu", packed, batch_tokens=900)
    monkeypatch.setattr(passes, "new_passes", lambda model, device: AutogradT5(model, torch.bfloat16))
    large = read(packed, tmp_path / "gpu", until_step=4, num_workers=1)
    assert str(large.passes) == "autograd, torch.bfloat16" and large.step == 4
    assert large.source_tokens - small.source_tokens > 2 * small.source_tokens


def test_later_stages_branch_off_a_copy_and_leave_the_trunk_as_it_is(data_root, packed, plan, tmp_path):
    from tools.mini.build import branch, weights_digest
    from tools.mini.read import read

    run = tmp_path / "run"
    read(packed, run, plan=plan, until_step=4, keep_every=3)
    record = {"step": 3, "source_tokens": 900, "nats: cloze": 3.0}
    (run / "panel.jsonl").write_text(json.dumps(record) + "\n")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    options = {"instruct_steps": 3, "decay_steps": 2}
    latest = branch(run, packed, data_root, tmp_path / "latest", **options)
    again = branch(run, packed, data_root, tmp_path / "again", **options)
    early = branch(run, packed, data_root, tmp_path / "early", state_file="state-000003.safetensors", **options)
    assert before == {path.name: path.read_bytes() for path in run.iterdir()}
    assert weights_digest(latest) == weights_digest(again) != weights_digest(early)
    stages = [json.loads(line)["stage"] for line in (latest / "loss.jsonl").read_text().splitlines()]
    assert stages == ["denoising", "instruction", "annealing"]
    assert "](panel.png)" in (latest / "README.md").read_text() and (latest / "panel.png").stat().st_size > 5_000
    assert branch(run, packed, data_root, tmp_path / "latest", resume=True, **options) == latest
    with pytest.raises(FlanLoraError, match=r"state-000009.safetensors does not exist"):
        branch(run, packed, data_root, tmp_path / "none", state_file="state-000009.safetensors", **options)


def test_the_kept_trunk_is_whole_and_its_files_are_small(tmp_path):
    from tools.mini.read import read
    from tools.mini.state import load_state

    state = Path(__file__).parents[2] / "tools" / "mini" / "state"
    assert max(path.stat().st_size for path in state.iterdir()) < 5_000_000
    assert load_state(state, tmp_path / "run", tmp_path / "packed") is False
    manifest = json.loads((state / "manifest.json").read_text())
    np.save(tmp_path / "packed" / "tokens.npy", np.full(100_000, 7, dtype=np.uint16))
    step = manifest["counters"]["step"]
    trainer = read(tmp_path / "packed", tmp_path / "run", until_step=step)
    assert trainer.step == step > 2000
    assert all(bool(weight.isfinite().all()) for weight in _weights(trainer).values())
