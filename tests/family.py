"""One small random checkpoint of every kind of the T5 family, with a tokenizer of its own kind.

Widths and vocabularies are a test's; fields, names of parameters and files are those of the published checkpoints.
"""

from __future__ import annotations

import io
import json
import string
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import (
    ByT5Tokenizer,
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
    UMT5Config,
    UMT5ForConditionalGeneration,
)

from flan_lora.tasks.romanise import LETTERS

ENGLISH = (
    "the bridge was opened in 1932 and it is 503 metres long",
    "i feel so happy today joy anger sadness fear love surprise yes no duplicate",
    "Read this and answer the question. Context: Question: Is this a paraphrase? OPTIONS: -",
    "Write a short summary of the dialogue. Tim: hi, how are you? Ann: fine, thanks!",
    " ".join(c for c in string.printable[:95] if c not in "{}<>~^`\\ "),  # what T5's vocabulary has of ASCII
)
HINDI = ("भारत की राजधानी नई दिल्ली है। यह एक बड़ा नगर है॥", " ".join(LETTERS))
WIDTHS = {
    "vocab_size": 512, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_heads": 4, "num_layers": 2,
    "num_decoder_layers": 2, "initializer_factor": 1.5, "dropout_rate": 0.1,
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of base: what its config.json says, and its tokenizer."""

    config: type[Any]
    model: type[Any]
    fields: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = "english"
    """english (spiece.model without Devanagari), multilingual, byte fallback (umT5's), or bytes (ByT5's)."""

    @property
    def is_tied(self) -> bool:
        return bool(self.fields.get("tie_word_embeddings", True))


T5, MT5, UMT5 = (
    (T5Config, T5ForConditionalGeneration),
    (MT5Config, MT5ForConditionalGeneration),
    (UMT5Config, UMT5ForConditionalGeneration),
)
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
KINDS = {
    "T5 v1.0": Kind(*T5, {"feed_forward_proj": "relu", "decoder_start_token_id": 0}),
    "T5 v1.1": Kind(*T5, {**GATED, "decoder_start_token_id": 0}),
    "T5, gated and tied": Kind(*T5, {"feed_forward_proj": "gated-silu", "decoder_start_token_id": 0}),
    "T5, ReLU and untied": Kind(*T5, {"feed_forward_proj": "relu", "tie_word_embeddings": False}),
    "ByT5": Kind(*T5, {**GATED, "decoder_start_token_id": 0, "num_layers": 3, "vocab_size": 384}, "bytes"),
    "mT5": Kind(*MT5, GATED, "multilingual"),
    "mT5, tied": Kind(*MT5, {"feed_forward_proj": "gated-gelu"}, "multilingual"),
    "umT5": Kind(*UMT5, GATED, "byte fallback"),
    "umT5, tied": Kind(*UMT5, {"feed_forward_proj": "gated-gelu"}, "byte fallback"),
}
MAIN_KINDS = ("T5 v1.0", "T5 v1.1", "ByT5", "mT5", "umT5")
"""One of each, where all would tell nothing more."""


def family_model(kind: Kind, seed: int = 0) -> Any:
    """Random, fp32, evaluation mode; the head tied or not as the kind says, and its config true to it."""
    config = kind.config(**{**WIDTHS, **kind.fields})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind.model(config).eval()
        for name, parameter in model.named_parameters():
            if "relative_attention_bias" in name:  # far apart, or a mix-up of layers would not show
                torch.nn.init.normal_(parameter, std=1.0)
        if not kind.is_tied:
            model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight))
    model.config.tie_word_embeddings = kind.is_tied
    assert (model.lm_head.weight is model.shared.weight) == kind.is_tied
    return model


def save_family(folder: Path, kind: Kind, seed: int = 0) -> Path:
    """A checkpoint as it is published: config.json, model.safetensors, the tokenizer's files."""
    family_model(kind, seed).save_pretrained(folder)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config.pop("scale_decoder_outputs", None)  # a field of transformers 5
    file.write_text(json.dumps({**config, "tie_word_embeddings": kind.is_tied}))
    save_tokenizer(folder, kind.tokenizer)
    return folder


def save_tokenizer(folder: Path, kind: str) -> None:
    """The files of a tokenizer of this kind."""
    if kind == "bytes":
        ByT5Tokenizer().save_pretrained(folder)
        return
    if kind == "byte fallback":  # transformers has no class for a umT5 without tokenizer.json, which each has
        write_byte_fallback(folder)
        return
    (folder / "spiece.model").write_bytes(sentencepiece_model(kind))
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "unk_token": "<unk>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": "</s>"}))


def write_byte_fallback(folder: Path) -> None:
    """tokenizer.json of pieces and bytes, which stand for any character that is no piece."""
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model("byte fallback"))
    vocab = [(pieces.id_to_piece(place), pieces.get_score(place)) for place in range(pieces.get_piece_size())]
    T5Tokenizer(vocab=vocab, extra_ids=0).save_pretrained(folder)
    file = folder / "tokenizer.json"
    state = json.loads(file.read_text(encoding="utf-8"))
    state["model"]["byte_fallback"] = True
    decoders = [{"type": "ByteFallback"}, state["decoder"]]
    file.write_text(json.dumps({**state, "decoder": {"type": "Sequence", "decoders": decoders}}), encoding="utf-8")


@cache
def sentencepiece_model(kind: str) -> bytes:
    """spiece.model with T5's special pieces, learned from a few sentences."""
    import sentencepiece

    texts = ENGLISH if kind == "english" else (*ENGLISH, *HINDI)
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=written, vocab_size=480 if kind == "byte fallback" else 220,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=1.0, hard_vocab_limit=False,
        byte_fallback=kind == "byte fallback", minloglevel=2,
    )  # fmt: skip
    return written.getvalue()
