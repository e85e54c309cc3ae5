"""What may come next: transformers' logits processors for sequences that each have their own parameters.

In transformers' order: repetition penalty, n-grams, least length, labels. All of them work element by element or
row by row, so that a sequence's scores do not depend on its neighbours.
Source: transformers 5.23, generation/logits_process.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flan_lora.engine.request import Request

_NEVER = -float("inf")


class LogitsProcessor:
    """The processors of one group. Shapes: N sequences, V tokens of the vocabulary."""

    def __init__(self, requests: Sequence[Request], *, start: int, eos: int, device: torch.device) -> None:
        """
        Args:
            requests: of each sequence, (N,).
        """
        self._eos, self._length, self._device = eos, 0, device
        self._nodes = [None if each.constraint is None else each.constraint.root for each in requests]
        # labels decide where they end, and are spelt as they are spelt
        params = [None if each.constraint is not None else each.params for each in requests]
        self._penalties = [1.0 if each is None else each.repetition_penalty for each in params]
        self._ngram_sizes = [0 if each is None else each.no_repeat_ngram_size for each in params]
        self._min_lengths = [0 if each is None else each.min_new_tokens for each in params]
        self._has_labels = any(self._nodes)
        self._has_penalty = any(penalty != 1 for penalty in self._penalties)
        reads_history = self._has_penalty or any(self._ngram_sizes)
        # transformers counts the decoder's start token, too: as penalised, and as the beginning of an n-gram
        self._history = torch.full((len(requests), 1), start, device=device) if reads_history else None

    def __call__(self, scores: Tensor) -> Tensor:
        """Scores (N, V) with what must not come next at -inf; the same tensor where nothing is to be done."""
        if self._history is not None:
            if self._has_penalty:
                scores = self._penalised(scores, self._history)
            for size in sorted(set(self._ngram_sizes) - {0}):
                scores = self._without_ngrams(scores, self._history, size)
        short = [place for place, least in enumerate(self._min_lengths) if self._length < least]
        if short:
            scores = scores.clone()
            scores[torch.tensor(short, device=self._device), self._eos] = _NEVER
        return self._labels_only(scores) if self._has_labels else scores

    def append(self, ids: Sequence[int], new: Tensor) -> None:
        """Take the next token of every sequence, (N,) both."""
        self._length += 1
        if self._history is not None:
            self._history = torch.cat([self._history, new[:, None]], dim=1)
        if self._has_labels:
            self._nodes = [node and node.next(token) for node, token in zip(self._nodes, ids, strict=True)]

    def reorder(self, origins: Tensor) -> None:
        """Let sequence n go on from sequence ``origins[n]`` (N,) of the same request."""
        if self._history is not None:
            self._history = self._history[origins]
        if self._has_labels:
            self._nodes = [self._nodes[origin] for origin in origins.tolist()]

    def filter(self, sequences: Sequence[int]) -> None:
        """Keep the sequences at these places."""
        self._nodes = [self._nodes[place] for place in sequences]
        self._penalties = [self._penalties[place] for place in sequences]
        self._ngram_sizes = [self._ngram_sizes[place] for place in sequences]
        self._min_lengths = [self._min_lengths[place] for place in sequences]
        self._has_labels = any(self._nodes)
        self._has_penalty = any(penalty != 1 for penalty in self._penalties)
        if self._history is not None:
            self._history = self._history[torch.tensor(list(sequences), device=self._device)]

    @property
    def has_labels(self) -> bool:
        """Whether `append` reads ``ids``, for which a GPU has to be waited for."""
        return self._has_labels

    def _penalised(self, scores: Tensor, history: Tensor) -> Tensor:
        penalty = torch.tensor(self._penalties, device=self._device)[:, None]
        seen = scores.gather(1, history)
        return scores.scatter(1, history, torch.where(seen < 0, seen * penalty, seen / penalty))

    def _without_ngrams(self, scores: Tensor, history: Tensor, size: int) -> Tensor:
        """Without the tokens that would end an n-gram for the second time."""
        if history.shape[1] < size:
            return scores
        rows = torch.tensor([own == size for own in self._ngram_sizes], device=self._device)
        before = history.unfold(1, size, 1)  # (N, T, size): every n-gram so far
        last = history[:, history.shape[1] - size + 1 :]
        is_same = (before[..., :-1] == last[:, None]).all(-1) & rows[:, None]
        places, ngrams = is_same.nonzero(as_tuple=True)
        scores = scores.clone()
        scores[places, before[places, ngrams, -1]] = _NEVER
        return scores

    def _labels_only(self, scores: Tensor) -> Tensor:
        rows, columns = [], []
        for place, node in enumerate(self._nodes):
            if node is not None:
                rows += [place] * len(node.allowed)
                columns += node.allowed
        where = torch.tensor(rows, device=self._device), torch.tensor(columns, device=self._device)
        masked = scores.clone()
        masked[torch.tensor(sorted(set(rows)), device=self._device)] = _NEVER
        masked[where] = scores[where]
        return masked
