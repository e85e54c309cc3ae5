"""Instruction pairs as padded batches of near-equal token count, with some denoising beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flan_lora.base.encode import Collator, encode_sources, encode_targets
from flan_lora.tasks.task import Prompt
from tools.mini.pretrain import Batch, BatchOf
from tools.mini.selfmade import Pair


@dataclass(frozen=True)
class Packing:
    """How pairs become batches."""

    max_source_tokens: int = 320
    max_target_tokens: int = 96
    max_source_chars: int = 1150
    """Hardly ever more than `max_source_tokens`."""
    batch_tokens: int = 5120
    """Padded source tokens of one batch."""
    pad_to_multiple_of: int = 32
    pool_pairs: int = 4096
    """Pairs sorted by length together: near-equal lengths in a batch, yet another mix in every pass."""


@dataclass(frozen=True)
class EncodedPairs:
    """Token ids, each row ending in ``</s>``."""

    sources: list[list[int]]
    targets: list[list[int]]


def encode_pairs(tokenizer: Any, pairs: Sequence[Pair], packing: Packing) -> EncodedPairs:
    """Encode with the code path of training and serving; only a prompt's body is cut.

    Bodies are first cut by characters, because finding the last token that fits costs many tokenisations.
    """
    prompts = [_shorten(pair.prompt, packing.max_source_chars) for pair in pairs]
    sources = encode_sources(tokenizer, prompts, packing.max_source_tokens)
    targets = encode_targets(tokenizer, [pair.target for pair in pairs], packing.max_target_tokens)
    return EncodedPairs([s.input_ids for s in sources], [t.input_ids for t in targets])


def save_pairs(encoded: EncodedPairs, path: Path) -> None:
    """Keep the token ids for a resumed run, flat with their lengths."""
    flat = {}
    for side in ("sources", "targets"):
        rows = getattr(encoded, side)
        flat[side] = np.concatenate([np.array(row, dtype=np.uint16) for row in rows])
        flat[f"{side}_lengths"] = np.array([len(row) for row in rows])
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **flat)  # type: ignore[arg-type]
    partial.replace(path)


def load_pairs(path: Path) -> EncodedPairs:
    """What `save_pairs` kept."""
    with np.load(path) as flat:
        sides = [np.split(flat[s], np.cumsum(flat[f"{s}_lengths"])[:-1]) for s in ("sources", "targets")]
    return EncodedPairs(*([row.tolist() for row in side] for side in sides))


def _shorten(prompt: Prompt, max_chars: int) -> Prompt:
    """The prompt with its body cut after a word, if the whole is longer than `max_chars`."""
    room = max_chars - len(prompt.head) - len(prompt.tail)
    if len(prompt.body) <= room:
        return prompt
    return replace(prompt, body=prompt.body[: max(room, 0)].rpartition(" ")[0])


def plan(lengths: np.ndarray[Any, Any], packing: Packing, seed: Sequence[int]) -> list[np.ndarray[Any, Any]]:
    """Row numbers of every batch of one pass: shuffled, sorted within pools, cut at the token limit."""
    rng = np.random.default_rng(list(seed))
    order = rng.permutation(len(lengths))
    padded = -(-lengths // packing.pad_to_multiple_of) * packing.pad_to_multiple_of
    batches: list[np.ndarray[Any, Any]] = []
    for start in range(0, len(order), packing.pool_pairs):
        pool = order[start : start + packing.pool_pairs]
        pool = pool[np.argsort(-padded[pool], kind="stable")]
        while len(pool):
            size = max(1, packing.batch_tokens // int(padded[pool[0]]))
            batches.append(pool[:size])
            pool = pool[size:]
    return [batches[index] for index in rng.permutation(len(batches))]


def mixture_batches(encoded: EncodedPairs, packing: Packing, seed: int, spans: BatchOf | None = None) -> BatchOf:
    """step -> one instruction batch, and beside it the span-corruption batch of that step."""
    lengths = np.array([len(source) for source in encoded.sources])
    collate = Collator(pad_id=0, decoder_start_id=0, pad_to_multiple_of=packing.pad_to_multiple_of)
    starts, plans = [0], [plan(lengths, packing, (seed, 0))]

    def rows_of(step: int) -> np.ndarray[Any, Any]:
        while step >= starts[-1] + len(plans[-1]):
            starts.append(starts[-1] + len(plans[-1]))
            plans.append(plan(lengths, packing, (seed, len(plans))))
        turn = int(np.searchsorted(starts, step, side="right")) - 1
        return plans[turn][step - starts[turn]]

    def batch(step: int) -> list[Batch]:
        rows = rows_of(step)
        items = [{"input_ids": encoded.sources[row], "labels": encoded.targets[row]} for row in rows]
        tensors = collate(items)
        batches = [Batch(tensors["input_ids"], tensors["labels"], padded=True)]
        return batches + (spans(step) if spans is not None else [])

    return batch
