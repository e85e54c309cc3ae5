"""Span corruption over packed token windows: what most kinds of stage one are made of.

Runs of tokens are cut out of a window; the source keeps a sentinel for each run, the target lists the runs
behind their sentinels. All sources are equally long, and so are all targets: no padding at all.

Source: arXiv:1910.10683 section 3.1.4, with the lengths and the alternation (kept run first) of T5's own
code, whose target ends in ``</s>`` without a closing sentinel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.mini.tokenizer import EOS_ID, sentinel_id

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Corruption:
    """How much is cut out, and how long a source is."""

    source_tokens: int = 256
    """Length of every source, ``</s>`` included."""
    noise_share: float = 0.15
    mean_span_tokens: float = 3.0

    def counts(self, window_tokens: int) -> tuple[int, int]:
        """(tokens cut out, runs cut out) for a window of this many tokens."""
        num_noise = min(max(round(window_tokens * self.noise_share), 1), window_tokens - 1)
        num_spans = max(round(num_noise / self.mean_span_tokens), 1)
        return num_noise, min(num_spans, num_noise, window_tokens - num_noise)

    def lengths(self, window_tokens: int) -> tuple[int, int]:
        """(source tokens, target tokens) that a window gives, ``</s>`` included in both."""
        num_noise, num_spans = self.counts(window_tokens)
        return window_tokens - num_noise + num_spans + 1, num_noise + num_spans + 1

    @property
    def window_tokens(self) -> int:
        """The longest window whose source still fits."""
        length = self.source_tokens
        while self.lengths(length + 1)[0] <= self.source_tokens:
            length += 1
        return length

    @property
    def target_tokens(self) -> int:
        """Length of every target, ``</s>`` included."""
        return self.lengths(self.window_tokens)[1]


def _run_lengths(total: int, runs: int, rng: np.random.Generator) -> Ids:
    """`runs` positive lengths that sum to `total`, uniformly among all such splits."""
    cuts = np.sort(rng.choice(total - 1, runs - 1, replace=False)) + 1
    return np.diff(np.concatenate(([0], cuts, [total])))


def corrupt(
    window: npt.NDArray[Any], rule: Corruption, vocab_size: int, rng: np.random.Generator
) -> tuple[Ids, Ids]:
    """(source, target) of one window of at least two tokens; both end in ``</s>``."""
    num_noise, num_spans = rule.counts(len(window))
    noise = _run_lengths(num_noise, num_spans, rng)
    kept = _run_lengths(len(window) - num_noise, num_spans, rng)
    bounds = np.cumsum(np.stack([kept, noise], 1).ravel())[:-1]
    runs = np.split(np.asarray(window, dtype=np.int64), bounds)
    source: list[Ids] = []
    target: list[Ids] = []
    for index in range(num_spans):
        sentinel = np.array([sentinel_id(index, vocab_size)])
        source += [runs[2 * index], sentinel]
        target += [sentinel, runs[2 * index + 1]]
    end = np.array([EOS_ID])
    return np.concatenate([*source, end]), np.concatenate([*target, end])


def restore(source: Ids, target: Ids, vocab_size: int, num_sentinels: int = 100) -> Ids:
    """The window that a (source, target) pair was cut from: the inverse of `corrupt`."""
    first = vocab_size - num_sentinels
    runs: dict[int, list[int]] = {}
    for token in target[:-1].tolist():
        if token >= first:
            runs[token] = current = []
        else:
            current.append(token)
    window: list[int] = []
    for token in source[:-1].tolist():
        window.extend(runs[token] if token >= first else [token])
    return np.array(window, dtype=np.int64)


def windows(tokens: npt.NDArray[Any], window_tokens: int, offset: int = 0) -> npt.NDArray[Any]:
    """A token stream from `offset` on as rows (N, window_tokens), without the incomplete tail."""
    num = (len(tokens) - offset) // window_tokens
    return tokens[offset : offset + num * window_tokens].reshape(num, window_tokens)
