"""The order of training rows: a permutation, reproducible, grouped by length, longest batch first."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from flan_lora.training.sampler import LengthGroupedOrder


def lengths_of(num_rows: int, seed: int = 0) -> list[int]:
    generator = random.Random(seed)
    return [generator.randint(5, 500) for _ in range(num_rows)]


@given(st.integers(0, 300), st.integers(1, 17), st.integers(0, 5), st.integers(0, 5))
def test_every_row_comes_exactly_once(num_rows, batch_size, seed, epoch):
    order = LengthGroupedOrder(lengths_of(num_rows), batch_size, seed)
    order.set_epoch(epoch)
    assert sorted(order) == list(range(num_rows))


def test_order_depends_on_seed_and_epoch_and_on_nothing_else():
    lengths = lengths_of(200)
    order, again = LengthGroupedOrder(lengths, 8, 0), LengthGroupedOrder(lengths, 8, 0)
    first = list(order)
    assert first == list(order) == list(again)
    order.set_epoch(1)
    assert list(order) != first
    assert list(LengthGroupedOrder(lengths, 8, 1)) != first


def test_grouping_cuts_padding_to_a_fraction():
    lengths = lengths_of(1000)

    def padded(rows):
        batches = [rows[start : start + 8] for start in range(0, len(rows), 8)]
        return sum(max(lengths[row] for row in batch) * len(batch) for batch in batches) - sum(lengths)

    random_rows = random.Random(1).sample(range(1000), 1000)
    assert padded(list(LengthGroupedOrder(lengths, 8, 0))) < 0.2 * padded(random_rows)


def test_the_longest_row_comes_in_the_first_batch():
    lengths = lengths_of(500)
    lengths[321] = 10_000
    assert 321 in list(LengthGroupedOrder(lengths, 8, 0))[:8]


def test_the_incomplete_batch_comes_last():
    lengths = [10] * 19
    rows = list(LengthGroupedOrder(lengths, 8, 0))
    assert len(rows) == 19
