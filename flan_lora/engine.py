"""Batches of requests, each row with its own adapters and its own way to decode, through one frozen base.

Greedy and beam search give the tokens of ``model.generate``. A row's answer does not depend on its neighbours,
beyond float noise; rows that have finished leave the batch. Knows token ids and limits; never a text or a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from flan_lora.bank import NO_DELTAS, Deltas, Lease, Mix
from flan_lora.decode import LabelConstraint
from flan_lora.encode import Collator
from flan_lora.errors import RequestError
from flan_lora.forward import Decoding, Forward

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

OnToken = Callable[[int, int], None]
"""(place of the request in the batch, token id), as soon as the token is known."""

MAX_GATHERED_BYTES = 1 << 30
"""Of the adapters of one mixed batch, which are copied row by row: 73 MB a row at flan-t5-large, rank 16, all
linears. A larger batch is split; rows of one adapter alone share it and are not."""

_NEVER = -1.0e9
"""Score of a hypothesis that must not be chosen; transformers' own number, which ties depend on."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Draw tokens instead of taking the likeliest. One seed draws the same, whatever else is in the batch."""

    temperature: float = 1.0
    """Logits are divided by it."""
    top_p: float = 1.0
    """Draw only from the likeliest tokens that together have this probability (arXiv:1904.09751, section 3.1)."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One row of a batch. Raises RequestError for limits that make no sense."""

    input_ids: Sequence[int]
    """Source tokens, eos included."""
    mix: Mix = field(default_factory=dict)
    """Adapter -> weight; empty = the bare base. All of them are in the lease."""
    max_new_tokens: int = 64
    """eos included."""
    num_beams: int = 1
    num_return_sequences: int = 1
    sampling: Sampling | None = None
    constraint: LabelConstraint | None = None

    def __post_init__(self) -> None:
        if problems := self._problems():
            raise RequestError("a request cannot be run:\n" + "\n".join(f"  {line}" for line in problems))

    def _problems(self) -> list[str]:
        limits = {name: getattr(self, name) for name in ("max_new_tokens", "num_beams", "num_return_sequences")}
        problems = [f"{name}: expected 1 or more (got {value})" for name, value in limits.items() if value < 1]
        if not self.input_ids:
            problems.append("input_ids: expected at least eos (got nothing)")
        if self.sampling is None:
            if self.num_return_sequences > self.num_beams:
                problems.append(
                    f"num_return_sequences: greedy and beam search have num_beams={self.num_beams} answers "
                    f"(got {self.num_return_sequences}); raise num_beams, or sample"
                )
            return problems
        if self.num_beams > 1:
            problems.append(f"num_beams: sampling takes 1 (got {self.num_beams})")
        if not self.sampling.temperature > 0:
            problems.append(
                f"temperature: expected more than 0 (got {self.sampling.temperature}); greedy = no sampling"
            )
        if not 0 <= self.sampling.seed < 2**32:
            problems.append(f"seed: expected 0 to 2**32 - 1 (got {self.sampling.seed})")
        if not 0 < self.sampling.top_p <= 1:
            problems.append(f"top_p: expected 0 < top_p <= 1 (got {self.sampling.top_p})")
        return problems

    @property
    def width(self) -> int:
        """Sequences that are decoded for it at once."""
        return self.num_beams if self.sampling is None else self.num_return_sequences


@dataclass(frozen=True, slots=True)
class Answer:
    """One generated sequence."""

    ids: tuple[int, ...]
    """Without the start token; ends in eos unless the limit came first."""
    log_prob: float
    """Of the sequence under the model: natural logarithm, summed over tokens, no temperature, no constraint."""


class Engine:
    """The one base and how to run it. Has no state of its own, so any number of threads may use it."""

    def __init__(self, base: T5ForConditionalGeneration) -> None:
        """Raises AdapterError for a base that PEFT has put an adapter into."""
        self._forward = Forward(base)
        self._eos, self._pad = int(base.config.eos_token_id), int(base.config.pad_token_id)
        self._start = int(base.config.decoder_start_token_id)
        self._collate = Collator(self._pad, self._start)

    @property
    def device(self) -> torch.device:
        """Where the base is."""
        return self._forward.device

    @torch.inference_mode()
    def generate(
        self, requests: Sequence[Request], lease: Lease, *, on_token: OnToken | None = None
    ) -> list[list[Answer]]:
        """``num_return_sequences`` answers, best first, for each request, in the order given.

        Requests that decode alike share a batch, the rest follow one another. Only the memory of a mixed batch's
        adapters is bounded here (MAX_GATHERED_BYTES), not the number of rows.

        Args:
            on_token: called for rows with one sequence (greedy, one sample), token by token, eos included.
        """
        answers: list[list[Answer]] = [[] for _ in requests]
        groups: dict[tuple[bool, int], list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault((request.num_beams > 1, request.width), []).append(place)
        for (is_beam, width), places in _within_memory(groups, requests, lease):
            batch = [requests[place] for place in places]
            deltas = lease.gather([request.mix for request in batch])
            decoding = self._prefill(batch, deltas, width, max(request.max_new_tokens for request in batch))
            if is_beam:
                found = self._beam_search(batch, decoding, deltas)
            else:
                found = self._decode(batch, places, decoding, deltas, on_token)
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer[: requests[place].num_return_sequences]
        return answers

    @torch.inference_mode()
    def label_probabilities(self, requests: Sequence[Request], lease: Lease) -> list[dict[str, float]]:
        """Of each request's labels, from the model's probabilities of their spellings; they add up to 1.

        Every label is read to its eos, so this can rank another label first than greedy decoding, which decides
        token by token.
        """
        found: list[dict[str, float]] = [{} for _ in requests]
        groups: dict[int, list[int]] = {}
        for place, request in enumerate(requests):
            assert request.constraint is not None, "only a request with labels has label probabilities"
            groups.setdefault(id(request.constraint), []).append(place)
        for places in groups.values():
            batch = [requests[place] for place in places]
            constraint = batch[0].constraint
            assert constraint is not None
            deltas = lease.gather([request.mix for request in batch])
            log_probs = self._label_log_probs(batch, list(constraint.labels), deltas)
            for place, row in zip(places, functional.softmax(log_probs, dim=-1).tolist(), strict=True):
                found[place] = dict(zip(constraint.labels.values(), row, strict=True))
        return found

    @torch.inference_mode()
    def pooled_states(self, sources: Sequence[Sequence[int]]) -> Tensor:
        """Mean of the bare base's encoder states over each source's tokens, (N, d_model) fp32 on the CPU."""
        input_ids, mask = self._inputs(sources)
        states = self._forward.encode(input_ids, mask, NO_DELTAS).float()
        weights = mask[..., None].float()
        return ((states * weights).sum(1) / weights.sum(1)).cpu()

    # Shared by all ways to decode

    def _inputs(self, sources: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        batch = self._collate([{"input_ids": list(source)} for source in sources])
        return batch["input_ids"].to(self.device), batch["attention_mask"].to(self.device)

    def _prefill(self, batch: Sequence[Request], deltas: Deltas, width: int, max_tokens: int) -> Decoding:
        input_ids, mask = self._inputs([request.input_ids for request in batch])
        states = self._forward.encode(input_ids, mask, deltas)
        return self._forward.start(states, mask, deltas, width=width, max_tokens=max_tokens)

    # Greedy and sampling

    def _decode(
        self,
        batch: Sequence[Request],
        places: Sequence[int],
        decoding: Decoding,
        deltas: Deltas,
        on_token: OnToken | None,
    ) -> list[list[Answer]]:
        """Token by token; finished rows leave as soon as half of the batch has finished."""
        width = decoding.width
        sequences = [[_Sequence(request, number) for number in range(width)] for request in batch]
        rows = list(range(len(batch)))
        ids = torch.full((len(batch) * width,), self._start, device=self.device)
        while True:
            logits = self._forward.step(ids, decoding, deltas)
            current = [sequence for row in rows for sequence in sequences[row]]
            chosen = self._choose(logits, current)
            log_probs = logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(dim=1)
            for sequence, token, log_prob in zip(current, chosen.tolist(), log_probs.tolist(), strict=True):
                sequence.append(token, log_prob, self._eos)
            if on_token is not None and width == 1:
                self._tell(on_token, [(places[row], sequences[row][0]) for row in rows], decoding.length)
            going = [place for place, row in enumerate(rows) if not all(s.is_done for s in sequences[row])]
            if not going:
                return [[sequence.answer() for sequence in row] for row in sequences]
            ids = chosen
            if len(going) * 2 <= len(rows):
                kept = torch.tensor(going, device=self.device)
                decoding.select(kept)
                deltas = deltas.select(going)
                ids, rows = ids.view(-1, width)[kept].flatten(), [rows[place] for place in going]

    @staticmethod
    def _tell(on_token: OnToken, current: Sequence[tuple[int, _Sequence]], length: int) -> None:
        """Rows that got a token in this step."""
        for place, sequence in current:
            if len(sequence.ids) == length:
                on_token(place, sequence.ids[-1])

    def _choose(self, logits: Tensor, sequences: Sequence[_Sequence]) -> Tensor:
        """The next token of each sequence (N,)."""
        constraints = [sequence.request.constraint for sequence in sequences]
        logits = _allowed_only(logits, constraints, [tuple(sequence.ids) for sequence in sequences])
        chosen = logits.argmax(dim=1)
        for place, sequence in enumerate(sequences):
            if sequence.generator is not None and not sequence.is_done:
                chosen[place] = sequence.draw(logits[place])
        return chosen

    # Labels

    def _label_log_probs(
        self, batch: Sequence[Request], labels: Sequence[tuple[int, ...]], deltas: Deltas
    ) -> Tensor:
        """(R, labels): the log-probability of each spelling, all labels of all rows side by side."""
        longest = max(map(len, labels))
        padded = torch.tensor([[*label, *[self._pad] * (longest - len(label))] for label in labels])
        targets = padded.to(self.device).repeat(len(batch), 1)
        lengths = torch.tensor([len(label) for label in labels], device=self.device).repeat(len(batch))
        decoding = self._prefill(batch, deltas, len(labels), longest)
        ids, total = torch.full_like(targets[:, 0], self._start), torch.zeros(len(targets), device=self.device)
        for step in range(longest):
            log_probs = self._forward.step(ids, decoding, deltas).log_softmax(dim=-1)
            ids = targets[:, step]
            total += log_probs.gather(1, ids[:, None])[:, 0] * (step < lengths)
        return total.view(len(batch), len(labels))

    # Beam search

    def _beam_search(self, batch: Sequence[Request], decoding: Decoding, deltas: Deltas) -> list[list[Answer]]:
        """transformers' search (length_penalty 1.0, early_stopping False), row by row independent.

        Source: transformers 5.23, GenerationMixin._beam_search.
        """
        beams = _Beams(batch, decoding.width, self._pad, self.device)
        answers: list[list[Answer]] = [[] for _ in batch]
        rows = list(range(len(batch)))
        ids = torch.full((len(batch) * decoding.width,), self._start, device=self.device)
        while True:
            log_probs = self._forward.step(ids, decoding, deltas).log_softmax(dim=-1)
            constraints = [batch[row].constraint for row in rows for _ in range(decoding.width)]
            log_probs = _allowed_only(log_probs, constraints, beams.generated())
            ids, origins = beams.advance(log_probs, self._eos)
            is_done = beams.is_done.tolist()
            for place, row in enumerate(rows):
                if is_done[place] and not answers[row]:
                    answers[row] = beams.answers(place, self._eos)
            going = [place for place, row in enumerate(rows) if not answers[row]]
            if not going:
                return answers
            decoding.reorder(origins)
            if len(going) * 2 <= len(rows):
                kept = torch.tensor(going, device=self.device)
                decoding.select(kept)
                beams.select(kept)
                deltas = deltas.select(going)
                ids = ids.view(-1, decoding.width)[kept].flatten()
                rows = [rows[place] for place in going]


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

    def answer(self) -> Answer:
        """What has been generated."""
        return Answer(tuple(self.ids), self.log_prob)


class _Beams:
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

    def answers(self, row: int, eos: int) -> list[Answer]:
        """The finished hypotheses of one row, best first."""
        limit = int(self.limits[row])
        found = []
        for ids, score in zip(self.finished_ids[row].tolist(), self.finished_scores[row].tolist(), strict=True):
            length = min(ids.index(eos) + 1 if eos in ids else limit, limit)
            found.append(Answer(tuple(ids[:length]), score * length))
        return found

    def select(self, rows: Tensor) -> None:
        """Keep some of the rows."""
        for name in (
            "limits", "running_ids", "running_scores", "finished_ids", "finished_scores", "is_finished",
            "can_improve", "is_done",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name)[rows])


def _within_memory(
    groups: Mapping[tuple[bool, int], list[int]], requests: Sequence[Request], lease: Lease
) -> Iterator[tuple[tuple[bool, int], list[int]]]:
    """The groups, a mixed one in as many parts as its gathered adapters take."""
    for key, places in groups.items():
        mixes = [requests[place].mix for place in places]
        size, is_mixed = len(places), any(mix != mixes[0] for mix in mixes) or len(mixes[0]) > 1
        if is_mixed and lease.slots is not None:
            row_bytes = lease.slots.rows[0].nbytes * max(map(len, mixes))
            size = max(1, MAX_GATHERED_BYTES // max(row_bytes, 1))
        for start in range(0, len(places), size):
            yield key, places[start : start + size]


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
