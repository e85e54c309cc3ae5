"""The embedded base: shipped files keep T5's conventions; a build repeats and resumes exactly."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from flan_lora.data.sources import open_source
from flan_lora.data.splits import load_split
from flan_lora.evaluation.predict import predict
from flan_lora.mini import MINI_PATH
from flan_lora.recipe_file import load_recipe
from flan_lora.tasks import TASKS, Prompt

torch = pytest.importorskip("torch")

MAX_CHECKPOINT_BYTES = 24_000_000
ASCII = "".join(map(chr, range(33, 127)))


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(MINI_PATH), local_files_only=True)


@pytest.fixture(scope="module")
def model():
    from transformers import T5ForConditionalGeneration

    path = str(MINI_PATH)
    return T5ForConditionalGeneration.from_pretrained(path, local_files_only=True, dtype=torch.float32)


def test_importing_the_path_does_not_import_torch():
    code = "import sys, flan_lora.mini; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": "."})


# --- the shipped checkpoint


def test_shipped_files_are_small_and_complete():
    names = {path.name for path in MINI_PATH.iterdir()}
    assert names >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
    }
    assert sum(path.stat().st_size for path in MINI_PATH.iterdir()) <= MAX_CHECKPOINT_BYTES


def test_shipped_head_is_untied_and_says_so(model):
    assert model.lm_head.weight is not model.shared.weight
    assert not torch.equal(model.lm_head.weight, model.shared.weight)
    assert model.encoder.embed_tokens.weight is model.shared.weight
    config = json.loads((MINI_PATH / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    assert config["scale_decoder_outputs"] is False
    assert config["feed_forward_proj"] == "gated-gelu"
    assert config["decoder_start_token_id"] == 0


def test_embedding_rows_match_the_tokenizer_and_a_multiple_of_64(model, tokenizer):
    assert model.shared.num_embeddings == len(tokenizer)
    assert len(tokenizer) % 64 == 0


def test_tokenizer_keeps_t5s_ids(tokenizer):
    assert tokenizer.convert_tokens_to_ids(["<pad>", "</s>", "<unk>"]) == [0, 1, 2]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    ids = tokenizer.convert_tokens_to_ids([f"<extra_id_{i}>" for i in range(100)])
    assert ids == [len(tokenizer) - 1 - i for i in range(100)]


@pytest.mark.parametrize("text", [ASCII, "Don't {panic} <b>: [x] 3.14% ~ a@b.org", "caf\u00e9, na\u00efve"])
def test_text_survives_the_tokenizer(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_tokenizer_agrees_with_its_sentencepiece_file(tokenizer):
    sentencepiece = pytest.importorskip("sentencepiece")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(MINI_PATH / "spiece.model"))
    for text in ("Which emotion is in this message? i feel so happy", "Tim: hi! | Kim: 10 o'clock?"):
        assert tokenizer(text).input_ids[:-1] == pieces.encode(text)


def test_shipped_base_reads_emotions_it_was_never_trained_on(model, tokenizer):
    """Our own rows, so none of its training text; a base that hears nothing is right half of the time."""
    from tools.mini.instruct import one_of_two

    recipe, labels = load_recipe("emotion"), TASKS["emotion"].labels
    split = load_split(recipe, "test", open_source("sample"), max_rows=90)
    rows = [{"text": e.inputs["text"], "label": labels.index(e.references[0])} for e in split.examples]
    asked = [one_of_two(0)(row) for row in rows]
    prompts = [Prompt("", f["text"], f" Does the writer feel {f['left']} or {f['right']}?") for f in asked]
    answers = predict(
        model,
        tokenizer,
        replace(TASKS["emotion"], labels=()),
        [replace(e, prompt=prompt) for e, prompt in zip(split.examples, prompts, strict=True)],
        evaluation=recipe.evaluation,
        max_source_tokens=recipe.data.max_source_tokens,
    )
    right = sum(answer == field["answer"] for answer, field in zip(answers, asked, strict=True))
    assert right > 0.7 * len(answers)


# --- span corruption


@pytest.mark.parametrize("length", [2, 3, 7, 20, 285])
def test_source_and_target_restore_the_window(length):
    from tools.mini.corrupt import Corruption, corrupt, restore

    rng = np.random.default_rng(length)
    window = rng.integers(3, 400, length)
    source, target = corrupt(window, Corruption(), 512, rng)
    assert restore(source, target, 512).tolist() == window.tolist()
    assert source[-1] == target[-1] == 1
    assert (len(source), len(target)) == Corruption().lengths(length)


def test_sentinels_appear_once_and_in_order_on_both_sides():
    from tools.mini.corrupt import Corruption, corrupt

    source, target = corrupt(np.arange(3, 288), Corruption(), 512, np.random.default_rng(0))
    sentinels = source[source >= 412].tolist()
    assert sentinels == target[target >= 412].tolist() == [511 - i for i in range(len(sentinels))]


def test_windows_fill_the_source_exactly_and_share_the_noise():
    from tools.mini.corrupt import Corruption

    rule = Corruption(source_tokens=256)
    num_noise, num_spans = rule.counts(rule.window_tokens)
    assert rule.lengths(rule.window_tokens)[0] == 256 < rule.lengths(rule.window_tokens + 1)[0]
    assert num_noise / rule.window_tokens == pytest.approx(0.15, abs=0.01)
    assert num_noise / num_spans == pytest.approx(3.0, abs=0.2)


def test_packing_loses_no_token_but_the_tail():
    from tools.mini.corrupt import windows

    tokens = np.arange(1003)
    rows = windows(tokens, 100, offset=2)
    assert rows.ravel().tolist() == list(range(2, 1002))


def test_batches_depend_on_the_step_alone_and_passes_differ():
    from tools.mini.denoise import PATTERN
    from tools.mini.pretrain import denoising_batches

    tokens = np.random.default_rng(0).integers(3, 400, 285 * 9).astype(np.uint16)
    one, two = (denoising_batches(tokens, PATTERN, 512, 512, seed=1) for _ in range(2))
    list(map(one, range(15)))
    assert torch.equal(one(13)[0].input_ids, two(13)[0].input_ids)
    assert not torch.equal(one(0)[0].input_ids, one(len(PATTERN))[0].input_ids)


def test_a_pattern_gives_its_kinds_in_turn_and_every_window_once_per_pass():
    from tools.mini.denoise import Suffix
    from tools.mini.pretrain import denoising_batches

    short, long = Suffix(6, 2), Suffix(10, 2)
    tokens = np.arange(3, 3 + 8 * 24).astype(np.uint16)
    batches = denoising_batches(tokens, (short, long, short), 512, 16, seed=0, micro_batches=3)
    widths = [[batch.input_ids.shape[1] for batch in batches(step)] for step in range(5)]
    assert widths == [[8, 12, 8]] * 5
    firsts = [int(row[0]) for step in range(5) for b in (0, 2) for row in batches(step)[b].input_ids]
    assert len(set(firsts)) == len(firsts) == 20  # 24 windows, the incomplete batches of a pass left out


def test_a_suffix_is_the_end_of_its_window():
    from tools.mini.denoise import Suffix

    source, target = Suffix(6, 3).pair(np.arange(10, 19), 512, np.random.default_rng(0))
    assert source.tolist() == [10, 11, 12, 13, 14, 15, 511, 1]
    assert target.tolist() == [511, 16, 17, 18, 1]


def test_a_lookup_stands_beside_its_own_answer():
    from tools.mini.corrupt import restore
    from tools.mini.denoise import Lookup

    shuffled = set()
    for seed in range(12):
        window = np.arange(10, 70)
        source, target = Lookup(60).pair(window, 512, np.random.default_rng(seed))
        assert sorted(source[:60]) == window.tolist()
        assert restore(source[60:], target, 512).tolist() == source[:60].tolist()
        shuffled.add(source[:60].tolist() != window.tolist())
    assert shuffled == {True, False}


# --- the training pass and the optimizer


def test_training_pass_equals_transformers_loss_with_and_without_padding():
    from tools.mini.network import Shape, new_model, relative_buckets, token_losses

    shape = Shape(vocab_size=512, d_model=32, d_ff=48, d_kv=8, num_heads=4)
    model = new_model(shape, seed=0).eval()
    input_ids, labels = torch.randint(3, 400, (2, 150)), torch.randint(3, 400, (2, 11))
    input_ids[1, 90:], labels[1, 6:] = 0, -100
    buckets = relative_buckets(150, True), relative_buckets(11, False)
    ours = token_losses(model, input_ids, labels, buckets, torch.float32, padded=True)
    theirs = model(input_ids=input_ids, attention_mask=(input_ids != 0).long(), labels=labels).loss
    torch.testing.assert_close(ours.sum() / (labels != -100).sum(), theirs, rtol=1e-5, atol=1e-5)


def _lookup_loss(model: torch.nn.Module, shuffled: bool) -> float:
    """Mean loss on windows of random tokens that stand beside their damaged copy, or beside another window's."""
    from tools.mini.denoise import Lookup
    from tools.mini.network import relative_buckets, token_losses

    rng = np.random.default_rng(0)
    pairs = [Lookup().pair(rng.integers(3, 8000, 96), 8192, rng) for _ in range(8)]
    sources, labels = (torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))
    if shuffled:
        sources = sources.roll(1, dims=0)
    buckets = relative_buckets(sources.shape[1], True), relative_buckets(labels.shape[1], False)
    with torch.no_grad():
        return float(token_losses(model, sources, labels, buckets, torch.float32).mean())


def test_a_fresh_model_copies_random_tokens_from_its_source_and_only_from_there():
    from tools.mini.network import Shape, new_model

    model = new_model(Shape(), seed=0)
    assert _lookup_loss(model, shuffled=False) < 5.0 < math.log(8192) < _lookup_loss(model, shuffled=True) + 0.3


def test_the_word_that_stands_twice_is_found_by_its_twin():
    """The last head of the upper encoder layers looks for the same token elsewhere: how pairs are compared."""
    from tools.mini.network import Shape, new_model

    shape = Shape()
    model = new_model(shape, seed=0)
    model.set_attn_implementation("eager")
    tokens = torch.randint(3, 8000, (16, 60), generator=torch.Generator().manual_seed(1))
    tokens[:, 45] = tokens[:, 12]
    with torch.no_grad():
        attentions = model.encoder(input_ids=tokens, output_attentions=True).attentions
    others = [place for place in range(60) if place not in (12, 45)]
    for layer in attentions[1:]:
        shares = layer[:, shape.num_heads - 1, 45].mean(0)
        assert shares[12] > 0.1 > 10 * shares[others].max()


def test_the_first_heads_read_the_token_before():
    from tools.mini.network import Shape, new_model

    model = new_model(Shape(), seed=0)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = model.encoder(input_ids=torch.arange(100, 160)[None], output_attentions=True).attentions
    assert attentions[0][0, :2].diagonal(offset=-1, dim1=1, dim2=2).min() > 0.8


@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (24, 32)])
def test_orthogonalized_updates_have_singular_values_near_one(shape):
    from tools.mini.optimizer import orthogonalize

    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(orthogonalize(matrix))
    assert 0.5 < singular.min() and singular.max() < 1.4


def test_schedule_warms_up_holds_and_ends_near_zero():
    from tools.mini.pretrain import Schedule

    schedule = Schedule(num_steps=100, decay_from=60, num_warmup_steps=10)
    assert schedule.scale(0) == 0.1
    assert schedule.scale(10) == schedule.scale(60) == 1.0
    assert schedule.scale(99) == pytest.approx(1 / 40)
