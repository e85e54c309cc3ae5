"""Rows that joined a batch together and decode alike: how each chooses its next token, and when it has finished.

A cohort owns what the decoder remembers of its rows. Knows logits, token ids and limits; never a base, the name of
an adapter or a thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flan_lora.base.decode import LabelConstraint
from flan_lora.engine.adapter_cache import Lease
from flan_lora.engine.graphs.decode_graph import CacheSlots
from flan_lora.engine.lora_batch import SegmentedLora
from flan_lora.engine.request import Request, SequenceOutput
from flan_lora.engine.t5 import DynamicKVCache

Memory = DynamicKVCache | CacheSlots
"""What the decoder remembers of a cohort."""

_NEVER = -1.0e9
"""Score of a hypothesis that must not be chosen; transformers' own number, which ties depend on."""


@dataclass(frozen=True, slots=True, eq=False)
class RunningRequest:
    """One request on its way, with the lease that keeps its adapters. Equal only to itself."""

    request: Request
    lease: Lease


@dataclass(frozen=True)
class StepOutput:
    """What one step has brought."""

    tokens: tuple[tuple[RunningRequest, int], ...]
    """The new token of each row that decodes one sequence (greedy, one sample)."""
    finished: tuple[tuple[RunningRequest, list[SequenceOutput]], ...]
    """Rows that have ended, with ``num_return_sequences`` answers, best first."""


class DecodeGroup(ABC):
    """Greedy and sampled rows (`Sequences`), or beams (`Beams`)."""

    def __init__(
        self, rows: Sequence[RunningRequest], kv_cache: Memory, lora: SegmentedLora, start: int, eos: int
    ) -> None:
        self.rows = list(rows)
        """Those that are still decoded; the finished ones among them leave when they are half of all."""
        self.ids = torch.full((kv_cache.num_sequences,), start, device=kv_cache.device)
        """(R * W,) to feed next"""
        self.kv_cache, self.lora = kv_cache, lora  # one row of deltas per sequence
        self._eos, self._is_over = eos, [False] * len(rows)

    @property
    def num_going(self) -> int:
        """Rows that have not ended."""
        return self._is_over.count(False)

    @abstractmethod
    def advance(self, logits: Tensor) -> StepOutput:
        """Choose from (R * W, V), once for every row."""

    @abstractmethod
    def _keep(self, places: list[int]) -> None:
        """Forget what is known of all other rows."""

    def drop(self, rows: Collection[RunningRequest]) -> None:
        """Forget rows that nobody waits for."""
        self._is_over = [over or row in rows for over, row in zip(self._is_over, self.rows, strict=True)]

    def compact(self) -> bool:
        """Let finished rows leave, if they are half of all; whether any has.

        A row costs less than the copy of the cache that lets it leave.
        """
        kept = [place for place, over in enumerate(self._is_over) if not over]
        if not kept or len(kept) * 2 > len(self._is_over):
            return False
        index, width = torch.tensor(kept, device=self.ids.device), self.kv_cache.width
        self.kv_cache.select(index)
        self.ids = self.ids.view(-1, width)[index].flatten()
        self.lora = self.lora.filter([place * width + each for place in kept for each in range(width)])
        self.rows = [self.rows[place] for place in kept]
        self._is_over = [False] * len(kept)
        self._keep(kept)
        return True


class SamplingGroup(DecodeGroup):
    """Greedy and sampled rows, ``width`` sequences each."""

    def __init__(
        self, rows: Sequence[RunningRequest], kv_cache: Memory, lora: SegmentedLora, *, start: int, eos: int
    ) -> None:
        super().__init__(rows, kv_cache, lora, start, eos)
        self._sequences = [[_Sequence(row.request, each) for each in range(kv_cache.width)] for row in rows]

    def advance(self, logits: Tensor) -> StepOutput:
        current = [sequence for row in self._sequences for sequence in row]
        self.ids = _choose(logits, current)
        log_probs = logits.gather(1, self.ids[:, None])[:, 0] - logits.logsumexp(dim=1)
        for sequence, token, log_prob in zip(current, self.ids.tolist(), log_probs.tolist(), strict=True):
            sequence.append(token, log_prob, self._eos)
        going = [place for place, is_over in enumerate(self._is_over) if not is_over]
        tokens = [(self.rows[p], self._sequences[p][0].ids[-1]) for p in going if self.kv_cache.width == 1]
        finished = []
        for place in going:
            if all(sequence.is_done for sequence in self._sequences[place]):
                self._is_over[place] = True
                finished.append((self.rows[place], [sequence.answer() for sequence in self._sequences[place]]))
        return StepOutput(tuple(tokens), tuple(finished))

    def _keep(self, places: list[int]) -> None:
        self._sequences = [self._sequences[place] for place in places]


class BeamGroup(DecodeGroup):
    """Rows of beam search, ``num_beams`` hypotheses each, row by row independent.

    transformers' search (length_penalty 1.0, early_stopping False).
    Source: transformers 5.23, GenerationMixin._beam_search.
    """

    def __init__(
        self,
        rows: Sequence[RunningRequest],
        kv_cache: Memory,
        lora: SegmentedLora,
        *,
        start: int,
        eos: int,
        pad: int,
    ) -> None:
        super().__init__(rows, kv_cache, lora, start, eos)
        self._hypotheses = _Hypotheses([row.request for row in rows], kv_cache.width, pad, kv_cache.device)

    def advance(self, logits: Tensor) -> StepOutput:
        constraints = [row.request.constraint for row in self.rows for _ in range(self.kv_cache.width)]
        log_probs = _allowed_only(logits.log_softmax(dim=-1), constraints, self._hypotheses.generated())
        self.ids, origins = self._hypotheses.advance(log_probs, self._eos)
        self.kv_cache.reorder(origins)
        finished = []
        for place, is_done in enumerate(self._hypotheses.is_done.tolist()):
            if is_done and not self._is_over[place]:
                self._is_over[place] = True
                row = self.rows[place]
                answers = self._hypotheses.answers(place, self._eos)
                finished.append((row, answers[: row.request.num_return_sequences]))
        return StepOutput((), tuple(finished))

    def _keep(self, places: list[int]) -> None:
        self._hypotheses.select(torch.tensor(places, device=self.ids.device))


def _choose(logits: Tensor, sequences: Sequence[_Sequence]) -> Tensor:
    """The next token of each sequence (N,)."""
    constraints = [sequence.request.constraint for sequence in sequences]
    logits = _allowed_only(logits, constraints, [tuple(sequence.ids) for sequence in sequences])
    chosen = logits.argmax(dim=1)
    for place, sequence in enumerate(sequences):
        if sequence.generator is not None and not sequence.is_done:
            chosen[place] = sequence.draw(logits[place])
    return chosen


class _Sequence:
    """One greedy or sampled sequence on its way."""

    def __init__(self, request: Request, number: int) -> None:
        self.request, self.ids, self.log_prob, self.is_done = request, list[int](), 0.0, False
        self.generator: torch.Generator | None = None
        if request.sampling is not None:
            self.generator = torch.Generator().manual_seed((request.sampling.seed << 16) + number)

    def append(self, token: int, log_prob: float, eos: int) -> None:
        """Take the next token, unless the sequence has ended."""
        if self.is_done:
            return
        self.ids.append(token)
        self.log_prob += log_prob
        self.is_done = token == eos or len(self.ids) == self.request.max_new_tokens

    def draw(self, logits: Tensor) -> int:
        """A token from logits (V,), on the CPU, so that a seed means the same on every device."""
        sampling = self.request.sampling
        assert sampling is not None
        probs = (logits / sampling.temperature).softmax(dim=-1).cpu()
        if sampling.top_p < 1.0:
            ranked, order = probs.sort(descending=True, stable=True)
            before = ranked.cumsum(0) - ranked
            probs = torch.zeros_like(probs).scatter_(0, order, ranked * (before < sampling.top_p))
        return int(torch.multinomial(probs, 1, generator=self.generator))

    def answer(self) -> SequenceOutput:
        """What has been generated."""
        return SequenceOutput(tuple(self.ids), self.log_prob)


class _Hypotheses:
    """Running and finished hypotheses of every row. Shapes: R rows, K beams, T tokens at most."""

    def __init__(self, batch: Sequence[Request], num_beams: int, pad: int, device: torch.device) -> None:
        self.limits = torch.tensor([[request.max_new_tokens] for request in batch], device=device)
        shape = (len(batch), num_beams, int(self.limits.max()))
        self.length = 0
        self.running_ids = torch.full(shape, pad, device=device)
        self.running_scores = torch.full(shape[:2], _NEVER, device=device)
        self.running_scores[:, 0] = 0.0  # else every beam would begin with the same token
        self.finished_ids = self.running_ids.clone()
        self.finished_scores = torch.full(shape[:2], _NEVER, device=device)
        self.is_finished = torch.zeros(shape[:2], dtype=torch.bool, device=device)
        self.can_improve = torch.ones(len(batch), 1, dtype=torch.bool, device=device)
        self.is_done = torch.zeros(len(batch), dtype=torch.bool, device=device)

    def generated(self) -> list[tuple[int, ...]]:
        """Tokens so far of every running hypothesis, row after row."""
        return [tuple(ids) for ids in self.running_ids[..., : self.length].flatten(0, 1).tolist()]

    def advance(self, log_probs: Tensor, eos: int) -> tuple[Tensor, Tensor]:
        """One token further: the next ids to feed (R * K,), and the sequence that each goes on from (R * K,)."""
        num_rows, num_beams, _ = self.running_ids.shape
        vocabulary = log_probs.shape[-1]
        scores = (log_probs.view(num_rows, num_beams, -1) + self.running_scores[..., None]).flatten(1)
        # twice as many as beams: even if all beams end here, as many are left to go on
        top_scores, top = scores.topk(2 * num_beams)
        beams, tokens = top // vocabulary, top % vocabulary
        candidates = _take(self.running_ids, beams)
        candidates[..., self.length] = tokens
        self.length += 1
        ends = (tokens == eos) | (self.limits <= self.length)
        self._finish(candidates, top_scores, ends)
        going = top_scores + ends.float() * _NEVER
        order = going.topk(num_beams)[1]
        self.running_ids, self.running_scores = _take(candidates, order), _take(going, order)
        self._settle(ends)
        first = torch.arange(num_rows, device=beams.device)[:, None] * num_beams
        return _take(tokens, order).flatten(), (_take(beams, order) + first).flatten()

    def _finish(self, candidates: Tensor, scores: Tensor, ends: Tensor) -> None:
        """Keep the best finished hypotheses, old and new; new ones only from the first K candidates."""
        num_beams = self.finished_scores.shape[1]
        ends = ends.clone()
        ends[:, num_beams:] = False
        scores = scores / self.length
        scores = scores + (~ends).float() * _NEVER
        merged = torch.cat([self.finished_scores, scores], dim=1)
        best = merged.topk(num_beams)[1]
        self.finished_ids = _take(torch.cat([self.finished_ids, candidates], dim=1), best)
        self.finished_scores = _take(merged, best)
        self.is_finished = _take(torch.cat([self.is_finished, ends], dim=1), best)

    def _settle(self, ends: Tensor) -> None:
        """Which rows are done: no running hypothesis can overtake the worst finished one, or none is left."""
        best_possible = self.running_scores[:, :1] / self.length
        worst = self.finished_scores.min(dim=1, keepdim=True)[0]
        worst_finished = torch.where(self.is_finished, worst, _NEVER)
        self.can_improve &= (best_possible > worst_finished).any(dim=1, keepdim=True)
        self.is_done = ~self.can_improve[:, 0] | ends.all(dim=1)

    def answers(self, row: int, eos: int) -> list[SequenceOutput]:
        """The finished hypotheses of one row, best first."""
        limit = int(self.limits[row])
        found = []
        for ids, score in zip(self.finished_ids[row].tolist(), self.finished_scores[row].tolist(), strict=True):
            length = min(ids.index(eos) + 1 if eos in ids else limit, limit)
            found.append(SequenceOutput(tuple(ids[:length]), score * length))
        return found

    def select(self, rows: Tensor) -> None:
        """Keep some of the rows."""
        for name in (
            "limits", "running_ids", "running_scores", "finished_ids", "finished_scores", "is_finished",
            "can_improve", "is_done",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name)[rows])


def _take(tensor: Tensor, order: Tensor) -> Tensor:
    """Reorder dimension 1 row by row."""
    index = order if tensor.dim() == 2 else order[..., None].expand(-1, -1, tensor.shape[-1])
    return tensor.gather(1, index)


def _allowed_only(
    scores: Tensor, constraints: Sequence[LabelConstraint | None], generated: Sequence[tuple[int, ...]]
) -> Tensor:
    """Scores (N, V) with -inf where a sequence's labels do not allow a token."""
    if not any(constraints):
        return scores
    masked = scores.clone()
    for place, (constraint, ids) in enumerate(zip(constraints, generated, strict=True)):
        if constraint is not None:
            allowed = constraint.allowed(ids)
            masked[place] = -float("inf")
            masked[place, allowed] = scores[place, allowed]
    return masked
