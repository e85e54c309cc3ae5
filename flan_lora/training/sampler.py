"""The order of the training rows: a pure function of (lengths, seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

BATCHES_PER_POOL = 32
"""Rows are sorted by length inside shuffled pools of this many batches: little padding, much randomness."""


class LengthGroupedOrder(Sampler[int]):
    """Batches of rows of similar length, in random order, the same for the same seed and epoch.

    The stock LengthGroupedSampler draws from torch's global generator, so a run resumed inside an epoch would see
    another order. Here the order depends on nothing but (lengths, batch_size, seed, epoch), which makes resuming
    bit-identical. The batch with the longest row comes first, so memory runs out at step one or never.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, *, says_epoch: bool = False) -> None:
        """
        Args:
            lengths: tokens of each row, source plus target.
            batch_size: rows per optimizer step, over all devices and micro batches.
            seed: of the shuffle, combined with the epoch.
            says_epoch: give ``epoch * len(lengths) + row`` in place of the row, for `data.encoding.AugmentedRows`.
        """
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.says_epoch = says_epoch
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        rows = torch.randperm(len(self.lengths), generator=generator).tolist()
        pool_size = self.batch_size * BATCHES_PER_POOL
        pools = [rows[start : start + pool_size] for start in range(0, len(rows), pool_size)]
        batches = [batch for pool in pools for batch in self._batches(pool)]
        first = self.epoch * len(self.lengths) if self.says_epoch else 0
        for row in _shuffled(batches, self.batch_size, generator, self.lengths):
            yield first + row

    def _batches(self, pool: list[int]) -> Iterator[list[int]]:
        pool = sorted(pool, key=lambda row: self.lengths[row], reverse=True)
        for start in range(0, len(pool), self.batch_size):
            yield pool[start : start + self.batch_size]


def _shuffled(
    batches: list[list[int]], batch_size: int, generator: torch.Generator, lengths: Sequence[int]
) -> Iterator[int]:
    """Batches in random order: the longest first, the incomplete one last so that the others stay aligned."""
    whole = [batch for batch in batches if len(batch) == batch_size]
    rest = [batch for batch in batches if len(batch) < batch_size]
    order = torch.randperm(len(whole), generator=generator).tolist()
    shuffled = [whole[index] for index in order]
    if shuffled:
        longest = max(range(len(shuffled)), key=lambda index: lengths[shuffled[index][0]])
        shuffled.insert(0, shuffled.pop(longest))
    for batch in (*shuffled, *rest):
        yield from batch
