"""A T5 v1.1 of about 60,000 random parameters and a tokenizer for it: no files, no network, milliseconds to build.

Random weights answer nonsense, but different nonsense for different sources, so mix-ups of rows show.
"""

from __future__ import annotations

import string
from typing import Any

import torch
from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

SPECIAL = ("<pad>", "</s>", "<unk>")
WORDS = tuple("the a i is not are you to what joy anger sad sadness fear love yes no duplicate question".split())
"""Pieces of their own, some of which begin others; every other word is spelt in characters."""
CHARACTERS = "".join(c for c in string.printable[:95] if c not in "{}<> ")
"""Like T5's vocabulary: no braces, angle brackets, line breaks, or any script but Latin."""


def tiny_tokenizer() -> T5Tokenizer:
    """T5's own tokenizer class over a small vocabulary: pad 0, eos 1, unk 2; eos appended, no byte fallback."""
    specials = [(piece, 0.0) for piece in SPECIAL]
    pieces = [("▁", -4.0), *((c, -5.0) for c in CHARACTERS), *((f"▁{word}", -3.0) for word in WORDS)]
    return T5Tokenizer(vocab=specials + pieces, extra_ids=0)


def tiny_config(**overrides: Any) -> T5Config:
    """The config of ``tiny_t5``; ``overrides`` are T5Config's fields."""
    fields: dict[str, Any] = {
        "vocab_size": 128,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_heads": 4,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "dropout_rate": 0.1,
        "initializer_factor": 1.5,  # at 1.0 the decoder hardly looks at the source: most answers are alike
        "feed_forward_proj": "gated-gelu",
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
        "tie_word_embeddings": False,
    }
    config = T5Config(**(fields | overrides))
    config.tie_word_embeddings = False  # transformers 5 forces True in the constructor; FLAN-T5's head is untied
    return config


def tiny_t5(seed: int = 0, **overrides: Any) -> T5ForConditionalGeneration:
    """A random T5 in fp32, eval mode, untied head; same seed, same weights. Leaves torch's own seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = T5ForConditionalGeneration(tiny_config(**overrides)).eval()
    # with tying off, transformers makes three embeddings; T5 has one for both stacks
    model.encoder.embed_tokens.weight = model.decoder.embed_tokens.weight = model.shared.weight
    assert model.lm_head.weight is not model.shared.weight
    return model
