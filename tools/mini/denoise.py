"""The self-supervised examples of stage one: four kinds, cut from packed windows of the text.

Each kind turns a window of `window_tokens` into a (source, target) of fixed lengths, so that a batch of one kind
has no padding at all. This module knows token ids; never a text, a model or a batch.

    spans       short runs cut out (T5's own objective), or long ones (UL2's extreme denoising)
    suffix      the end of a window cut out as one run (UL2's sequential denoising, a prefix language model)
    lookup      as spans, but the whole window stands in front of its damaged copy: whoever can look up solves it

The last one is ours: copying a name or a number out of the source is half of what summaries, questions and
answers take, and a model of this size learns it late from the other three.

Source: arXiv:1910.10683 section 3.1.4 (spans), arXiv:2205.05131 section 3.1 (the mixture).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.mini.corrupt import Corruption, Ids, corrupt
from tools.mini.tokenizer import EOS_ID, sentinel_id


@dataclass(frozen=True)
class Spans:
    """Span corruption; the rule says how much is cut out, and in runs of which length."""

    rule: Corruption = field(default_factory=Corruption)

    @property
    def window_tokens(self) -> int:
        return self.rule.window_tokens

    @property
    def source_tokens(self) -> int:
        return self.rule.source_tokens

    def pair(self, window: npt.NDArray[Any], vocab_size: int, rng: np.random.Generator) -> tuple[Ids, Ids]:
        """(source, target), both ending in ``</s>``."""
        return corrupt(window, self.rule, vocab_size, rng)


@dataclass(frozen=True)
class Suffix:
    """Source: the first `prefix_tokens` and a sentinel. Target: the sentinel and the rest."""

    prefix_tokens: int = 190
    suffix_tokens: int = 64

    @property
    def window_tokens(self) -> int:
        return self.prefix_tokens + self.suffix_tokens

    @property
    def source_tokens(self) -> int:
        return self.prefix_tokens + 2

    def pair(self, window: npt.NDArray[Any], vocab_size: int, rng: np.random.Generator) -> tuple[Ids, Ids]:
        """(source, target), both ending in ``</s>``."""
        sentinel, ids = sentinel_id(0, vocab_size), np.asarray(window, dtype=np.int64)
        prefix, suffix = ids[: self.prefix_tokens], ids[self.prefix_tokens :]
        return np.append(prefix, [sentinel, EOS_ID]), np.concatenate(([sentinel], suffix, [EOS_ID]))


@dataclass(frozen=True)
class Lookup:
    """Source: a window, then the same window with runs cut out. Target: those runs.

    Half of the windows have their tokens shuffled first, so that only looking up helps, and not knowing English.
    """

    num_tokens: int = 96
    rule: Corruption = field(default_factory=lambda: Corruption(noise_share=0.4, mean_span_tokens=5.0))

    @property
    def window_tokens(self) -> int:
        return self.num_tokens

    @property
    def source_tokens(self) -> int:
        return self.num_tokens + self.rule.lengths(self.num_tokens)[0]

    def pair(self, window: npt.NDArray[Any], vocab_size: int, rng: np.random.Generator) -> tuple[Ids, Ids]:
        """(source, target), both ending in ``</s>``."""
        ids = np.asarray(window, dtype=np.int64)
        if rng.random() < 0.5:
            ids = rng.permutation(ids)
        source, target = corrupt(ids, self.rule, vocab_size, rng)
        return np.concatenate((ids, source)), target


Denoiser = Spans | Suffix | Lookup

BRIEF = Spans(Corruption(source_tokens=128))
SHORT = Spans(Corruption(source_tokens=256))
LONG = Spans(Corruption(source_tokens=192, noise_share=0.5, mean_span_tokens=8.0))

PATTERN: tuple[Denoiser, ...] = (SHORT, LONG, BRIEF, Suffix(), SHORT, Lookup(), BRIEF, LONG, BRIEF, Suffix())
"""Kinds of the micro-batches, in turn: half are T5's own, most of them over half the length, where attention costs
half as much."""
