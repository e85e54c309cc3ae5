"""Sources that are read in a fixed shape: what the decoder will look at, from token ids.

Knows tensors and slot numbers; never a request, an adapter's name or a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from flan_lora.engine.fixed import Idle, Shape, numbered, power, replayable
from flan_lora.engine.memory_pool import NO_DELTAS, Deltas, Slots, Update
from flan_lora.engine.t5 import Forward

_FEWEST_TOKENS = 64
_MOST_TOKENS = 4096
"""Of all rows. With more than these a GPU has so much to compute that launching it does not matter."""

Look = tuple[list[tuple[Tensor, Tensor]], Tensor]
"""What `Forward.look` gives."""


class Reader:
    """Room for sources. For one thread at a time."""

    def __init__(self, forward: Forward, shape: Shape, slots: Slots | None) -> None:
        """
        Args:
            shape: its rows, source and updates.
            slots: of the adapters of all rows to come; None for the bare base alone.
        """
        self.shape, self.slots = shape, slots
        self._forward = forward
        self._ids = torch.zeros(shape.rows, shape.source, dtype=torch.int64, device=forward.device)
        self._mask = torch.zeros_like(self._ids)
        self._deltas = None if slots is None else numbered(slots, shape)
        self._look: Look = [], Tensor()
        self._replay = replayable(self._run, forward.device)

    @property
    def size_bytes(self) -> int:
        """Of what it gives, which is most of what it holds."""
        return sum(each.numel() * each.element_size() for pair in self._look[0] for each in pair)

    def read(self, input_ids: Tensor, mask: Tensor, updates: Sequence[tuple[Update, ...]]) -> Look:
        """Of ids and mask (R, S), padded right; good until it reads again."""
        num_rows, length = input_ids.shape
        rows = torch.arange(num_rows, device=self._ids.device)
        self._mask.zero_()
        self._mask[:num_rows, :length], self._ids[:num_rows, :length] = mask, input_ids
        if self._deltas is not None:
            self._deltas.write(rows, updates)
        self._replay()
        cross, visible = self._look
        return [(k[:num_rows, :, :length], v[:num_rows, :, :length]) for k, v in cross], (
            visible[:num_rows, ..., :length]
        )

    def _run(self) -> None:
        deltas = self._deltas or NO_DELTAS
        states = self._forward.encode(self._ids, self._mask, deltas)
        self._look = self._forward.look(states, self._mask, deltas)


@contextmanager
def reading(
    forward: Forward,
    idle: Idle,
    input_ids: Tensor,
    mask: Tensor,
    updates: Sequence[tuple[Update, ...]],
    slots: Slots | None,
) -> Iterator[Look]:
    """What follows from the sources (R, S) of rows with these updates; to be copied within the context."""
    if input_ids.numel() > _MOST_TOKENS:
        deltas = Deltas(updates)
        yield forward.look(forward.encode(input_ids, mask, deltas), mask, deltas)
        return
    shape = _rounded(Shape.of(updates, width=1, source=input_ids.shape[1], tokens=0))
    reader = idle.take(Reader, forward, shape, slots)
    yield reader.read(input_ids, mask, updates)
    idle.give(reader)


def _rounded(shape: Shape) -> Shape:
    """Up to what readers are made for."""
    return replace(
        shape,
        rows=power(2, shape.rows, 1),
        source=power(2, shape.source, _FEWEST_TOKENS),
        updates=power(2, shape.updates, 1),
    )
