"""Rows that decode in seats of a fixed shape, so that a GPU can replay one captured step for whoever sits there.

A step of flan-t5-large is thousands of small kernels, and launching them takes a GPU's host several times as long
as running them. A board has room for so many rows, sources and tokens; rows come and go, each with its own
adapters, source and position, and none of that is known when the step is captured. Knows tensors and slot numbers;
never a request, an adapter's name or a thread.
Source: CUDA graphs, https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/; the seats are those of
continuous batching (Orca, https://www.usenix.org/conference/osdi22/presentation/yu).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flan_lora.deltas import NO_DELTAS, Gathered, Slots, Update, slot_numbers
from flan_lora.forward import Forward, across, attend

_FEWEST_SOURCES, _FEWEST_TOKENS = 64, 32
_IDLE_BYTES = 2 << 30
"""Of boards that wait for rows of their shape; those that waited longest are freed."""


@dataclass(frozen=True)
class Shape:
    """What a board has room for. Few different ones: each is captured once."""

    rows: int
    width: int
    """Sequences per row."""
    source: int
    """Tokens of a row's source."""
    tokens: int
    """Generated, at most."""
    updates: int
    """Adapters of a row."""
    is_weighted: bool
    """Whether updates may have other weights than 1."""

    @staticmethod
    def of(updates: Sequence[tuple[Update, ...]], *, width: int, source: int, tokens: int) -> Shape:
        """What rows with these updates need."""
        most = max(map(len, updates), default=0)
        is_weighted = any(update.weight != 1 for row in updates for update in row)
        return Shape(len(updates), width, source, tokens, most, is_weighted)

    def rounded(self) -> Shape:
        """Up to what is made."""
        return replace(
            self,
            rows=_power(4, self.rows, 1),
            source=_power(2, self.source, _FEWEST_SOURCES),
            tokens=_power(2, self.tokens, _FEWEST_TOKENS),
            updates=_power(2, self.updates, 1),
        )

    def serves(self, other: Shape) -> bool:
        """Whether rows of the other shape can sit here, as far as there are seats."""
        return (
            self.width == other.width
            and self.source >= other.source
            and self.tokens >= other.tokens
            and self.updates >= other.updates
            and self.is_weighted >= other.is_weighted
        )


def _power(base: int, number: int, least: int) -> int:
    while least < number:
        least *= base
    return least


class Board:
    """The seats, and the step that all of them make at once. For one thread at a time."""

    def __init__(self, forward: Forward, shape: Shape, slots: Slots | None) -> None:
        """
        Args:
            slots: of the adapters of all rows to come; None for the bare base alone.
        """
        self.shape, self.slots = shape, slots
        self.ids = torch.zeros(shape.rows * shape.width, dtype=torch.int64, device=forward.device)
        """(R * W,) to feed next"""
        self.logits = Tensor()
        """(R * W, V) of the last step"""
        self._forward = forward
        # zeros, for what nobody has written is masked, but not if it were NaN
        self._cache = forward.new_cache(self.num_sequences, shape.tokens).zero_()
        self._cross = forward.new_cache(shape.rows, shape.source).zero_()
        self._visible = self._cross.new_zeros(shape.rows, 1, 1, shape.source)
        self._positions = torch.zeros(shape.rows, dtype=torch.int64, device=forward.device)
        self._places = torch.arange(shape.tokens, device=forward.device)
        self._bias = forward.position_bias(shape.tokens)[0, :, 0]  # (H, T)
        self._free = list(range(shape.rows - 1, -1, -1))
        self._gathered = None if slots is None else self._empty_updates(slots)
        self._now = self._now_bias = Tensor()
        self._replay = self._captured() if forward.device.type == "cuda" else self._run

    @property
    def num_free(self) -> int:
        """Seats for rows."""
        return len(self._free)

    @property
    def is_empty(self) -> bool:
        """Nobody sits here."""
        return len(self._free) == self.shape.rows

    @property
    def size_bytes(self) -> int:
        """Of what it remembers, which is nearly all."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self._cache, self._cross))

    def seat(
        self, cross: Sequence[tuple[Tensor, Tensor]], visible: Tensor, updates: Sequence[tuple[Update, ...]]
    ) -> Seats:
        """Rows at their first token.

        Args:
            cross, visible: of their sources (`Forward.look`).
            updates: of their adapters, which lie in this board's slots.
        """
        numbers = [self._free.pop() for _ in updates]
        rows, length = torch.tensor(numbers, device=self.ids.device), visible.shape[-1]
        self._positions.index_fill_(0, rows, 0)
        self._visible.index_fill_(0, rows, torch.finfo(visible.dtype).min)
        self._visible[..., :length].index_copy_(0, rows, visible)
        pairs = torch.stack([torch.stack(pair) for pair in cross])
        self._cross[..., :length, :].index_copy_(2, rows, pairs)
        if self._gathered is not None:
            places, weights = slot_numbers(updates, self.shape.updates)
            self._gathered.numbers.index_copy_(0, rows, places.to(rows.device))
            if self._gathered.weights is not None:
                self._gathered.weights.index_copy_(0, rows, weights.to(self._gathered.weights))
        return Seats(self, numbers)

    def leave(self, rows: Sequence[int]) -> None:
        """Free the seats of these rows."""
        self._free += rows

    def step(self) -> None:
        """One token further, for every seat."""
        self._replay()

    def reorder(self, target: Tensor, origin: Tensor, length: int) -> None:
        """Let sequences go on from others after ``length`` tokens."""
        past = self._cache[..., :length, :]
        past.index_copy_(2, target, past.index_select(2, origin))

    # What `Forward.step` asks of the memory of its sequences

    @property
    def num_sequences(self) -> int:
        """R * W"""
        return self.shape.rows * self.shape.width

    def look_back(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention over each sequence's tokens so far and this one. Shapes: (R * W, H, 1, D)."""
        keys, values = self._cache[layer]
        now = self._now.expand_as(k)
        return attend(q, keys.scatter_(2, now, k), values.scatter_(2, now, v), self._now_bias)

    def look_across(self, layer: int, q: Tensor) -> Tensor:
        """Attention over the source, as in `Decoding`."""
        keys, values = self._cross[layer]
        return across(q, keys, values, self._visible, self.shape.width)

    def advance(self) -> None:
        """One token further; who has left stays on the last one, where nobody looks."""
        self._positions.add_(1).clamp_(max=self.shape.tokens - 1)

    # The step itself

    def _run(self) -> None:
        self._now = self._positions.repeat_interleave(self.shape.width)[:, None, None, None]
        self._now_bias = self._look_back_bias()
        self.logits = self._forward.step(self.ids, [self], self._gathered or NO_DELTAS)

    def _look_back_bias(self) -> Tensor:
        """(R * W, H, 1, T) for the position of each row: the tail of the last token's, as `Decoding` has it."""
        last = self.shape.tokens - 1
        behind = (last - self._positions)[:, None] + self._places
        bias = self._bias[:, behind.clamp(max=last)].transpose(0, 1)
        bias = bias.masked_fill((behind > last)[:, None], torch.finfo(bias.dtype).min)
        return bias.repeat_interleave(self.shape.width, dim=0)[:, :, None]

    def _captured(self) -> Callable[[], None]:
        """The step as one CUDA graph, which reads and writes the tensors of this board where they are."""
        stream = torch.cuda.Stream(self.ids.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self.ids.device))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.ids.device), torch.cuda.stream(stream):
            self._run()  # kernels are loaded and workspaces made, which cannot be captured
            graph.capture_begin(capture_error_mode="thread_local")  # other threads may use the GPU meanwhile
            try:
                self._run()
            finally:
                graph.capture_end()
        torch.cuda.current_stream(self.ids.device).wait_stream(stream)
        return graph.replay

    def _empty_updates(self, slots: Slots) -> Gathered:
        shape = self.shape.rows, self.shape.updates
        weights = torch.ones(shape) if self.shape.is_weighted else None
        return Gathered(slots, torch.zeros(shape, dtype=torch.int64), weights)


class Seats:
    """The rows of a cohort on a board: to the cohort, what `Decoding` is elsewhere."""

    def __init__(self, board: Board, rows: Sequence[int]) -> None:
        self.board, self._rows = board, list(rows)
        self._num_fed = 0
        self._sequences = self._numbered()

    @property
    def width(self) -> int:
        """Sequences per row."""
        return self.board.shape.width

    @property
    def num_sequences(self) -> int:
        """Of these rows."""
        return len(self._rows) * self.width

    @property
    def device(self) -> torch.device:
        """Where the board is."""
        return self.board.ids.device

    def feed(self, ids: Tensor) -> None:
        """The next token of every sequence (N,), for the board's next step."""
        self._num_fed += 1
        self.board.ids.index_copy_(0, self._sequences, ids)

    def logits(self) -> Tensor:
        """(N, V) of the board's last step."""
        return self.board.logits.index_select(0, self._sequences)

    def reorder(self, sequences: Tensor) -> None:
        """As `Decoding.reorder`."""
        self.board.reorder(self._sequences, self._sequences[sequences], self._num_fed)

    def select(self, rows: Tensor) -> None:
        """Keep some of the rows; the seats of the others are free."""
        kept = set(rows.tolist())
        self.board.leave([row for place, row in enumerate(self._rows) if place not in kept])
        self._rows = [self._rows[place] for place in sorted(kept)]
        self._sequences = self._numbered()

    def close(self) -> None:
        """Free all seats."""
        self.board.leave(self._rows)
        self._rows = []

    def _numbered(self) -> Tensor:
        width = self.width
        return torch.tensor(
            [row * width + each for row in self._rows for each in range(width)], device=self.device
        )


class IdleBoards:
    """Boards that nobody sits at, of one base. Any number of threads may take them and give them back."""

    def __init__(self, max_bytes: int = _IDLE_BYTES) -> None:
        self._lock, self._max_bytes = threading.Lock(), max_bytes
        self._boards: list[Board] = []  # the longest unused first

    def take(self, shape: Shape, slots: Slots | None) -> Board | None:
        """One of this shape over these slots."""
        with self._lock:
            for board in self._boards:
                if board.shape == shape and board.slots is slots:
                    self._boards.remove(board)
                    return board
        return None

    def give(self, board: Board) -> None:
        """Keep it for as long as there is room; those over slots that have been replaced go at once."""
        with self._lock:
            if board.slots is not None:
                self._boards = [each for each in self._boards if each.slots in (None, board.slots)]
            self._boards.append(board)
            while sum(each.size_bytes for each in self._boards) > self._max_bytes:
                self._boards.pop(0)


class Boards:
    """The boards of one batch. For one thread."""

    def __init__(self, forward: Forward, idle: IdleBoards) -> None:
        self._forward, self._idle = forward, idle
        self._open: list[Board] = []

    def with_seats(self, shape: Shape, slots: Slots | None) -> Board:
        """A board for the rows of this shape: one that is in use if it has seats for all of them.

        Else one with seats for the rows of that shape that are under way, too: so few boards are in use at a time,
        whatever the order in which rows come.
        """
        alike = [board for board in self._open if board.slots is slots and board.shape.serves(shape)]
        for board in alike:
            if board.num_free >= shape.rows:
                return board
        num_seated = sum(board.shape.rows - board.num_free for board in alike)
        made = replace(shape, rows=shape.rows + num_seated).rounded()
        board = self._idle.take(made, slots) or Board(self._forward, made, slots)
        self._open.append(board)
        return board

    def step(self, seats: Sequence[Seats], ids: Sequence[Tensor]) -> list[Tensor]:
        """One token further: the next ids of each cohort, their logits."""
        for each, own in zip(seats, ids, strict=True):
            each.feed(own)
        for board in dict.fromkeys(each.board for each in seats):
            board.step()
        return [each.logits() for each in seats]

    def tidy(self) -> None:
        """Give boards back that nobody sits at any more."""
        for board in [board for board in self._open if board.is_empty]:
            self._open.remove(board)
            self._idle.give(board)
