"""Beam search as transformers does it, each request by itself.

Source: transformers 5.23, GenerationMixin._beam_search.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flan_lora.engine.decode_group import DecodeGroup, RunningRequest, SpecialTokens, StepOutput
from flan_lora.engine.kv_cache import Cache
from flan_lora.engine.logits_process import LogitsProcessor
from flan_lora.engine.request import Request, SequenceOutput

_NEVER = -1.0e9
"""Score of a hypothesis that must not be chosen; transformers' own number, which ties depend on."""


class BeamGroup(DecodeGroup[Cache]):
    """Requests of beam search, ``num_beams`` hypotheses each."""

    def __init__(self, requests: Sequence[RunningRequest], cache: Cache, special: SpecialTokens) -> None:
        super().__init__(requests, cache, special)
        own = [each.request for each in requests]
        self._hypotheses = _Hypotheses(own, cache.width, special, cache.device)
        each_beam = [request for request in own for _ in range(cache.width)]
        self._process = LogitsProcessor(each_beam, start=special.start, eos=special.eos, device=cache.device)

    def advance(self, logits: Tensor) -> StepOutput:
        """As `DecodeGroup.advance`."""
        log_probs = logits.log_softmax(dim=-1)
        self.ids, origins = self._hypotheses.advance(self._process(log_probs), log_probs)
        self.cache.reorder(origins)
        self._process.reorder(origins)
        self._process.append(self.ids.tolist() if self._process.has_labels else (), self.ids)
        finished = []
        for place, is_done in enumerate(self._hypotheses.is_done.tolist()):
            if is_done and not self._is_finished[place]:
                self._is_finished[place] = True
                request = self.requests[place]
                outputs = self._hypotheses.outputs(place)[: request.request.params.num_return_sequences]
                finished.append((request, tuple(outputs)))
        return StepOutput((), tuple(finished))

    def _filter(self, requests: list[int], sequences: list[int]) -> None:
        self._hypotheses.filter(requests)
        self._process.filter(sequences)


class _Hypotheses:
    """Running and finished hypotheses of every request. Shapes: R requests, K beams, T tokens at most."""

    def __init__(
        self, requests: Sequence[Request], num_beams: int, special: SpecialTokens, device: torch.device
    ) -> None:
        self._requests, self._special = list(requests), special
        self.limits = torch.tensor([[each.params.max_new_tokens] for each in requests], device=device)
        self.length = 0
        shape = (len(requests), num_beams, int(self.limits.max()))
        self.running_ids = torch.full(shape, special.pad, device=device)
        self.running_scores = torch.full(shape[:2], _NEVER, device=device)
        self.running_scores[:, 0] = 0.0  # else every beam would begin with the same token
        self.running_log_probs = torch.zeros(shape[:2], device=device)
        self.finished_ids = self.running_ids.clone()
        self.finished_scores = torch.full(shape[:2], _NEVER, device=device)
        self.finished_log_probs = self.running_log_probs.clone()
        self.is_finished = torch.zeros(shape[:2], dtype=torch.bool, device=device)
        self.can_improve = torch.ones(len(requests), 1, dtype=torch.bool, device=device)
        self.is_done = torch.zeros(len(requests), dtype=torch.bool, device=device)
        self.finished_lengths = torch.zeros(shape[:2], dtype=torch.int64, device=device)
        self._set_params()

    def advance(self, scores: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """One token further, from scores and the model's own log-probabilities, (R * K, V) both.

        Returns the next ids to feed (R * K,), and the sequence that each goes on from (R * K,).
        """
        num_requests, num_beams, _ = self.running_ids.shape
        vocabulary = scores.shape[-1]
        totals = (scores.view(num_requests, num_beams, -1) + self.running_scores[..., None]).flatten(1)
        # twice as many as beams: even if all beams end here, as many are left to go on
        top_scores, top = totals.topk(2 * num_beams)
        beams, tokens = top // vocabulary, top % vocabulary
        top_log_probs = _take(self.running_log_probs, beams) + log_probs.view(num_requests, -1).gather(1, top)
        candidates = _take(self.running_ids, beams)
        candidates[..., self.length] = tokens
        self.length += 1
        ends = (tokens == self._special.eos) | (self.limits <= self.length) | self._stopped(candidates)
        self._finish(candidates, top_scores, top_log_probs, ends)
        going = top_scores + ends.float() * _NEVER
        order = going.topk(num_beams)[1]
        self.running_ids, self.running_scores = _take(candidates, order), _take(going, order)
        self.running_log_probs = _take(top_log_probs, order)
        self._settle(ends)
        first = torch.arange(num_requests, device=beams.device)[:, None] * num_beams
        return _take(tokens, order).flatten(), (_take(beams, order) + first).flatten()

    def outputs(self, place: int) -> list[SequenceOutput]:
        """The finished hypotheses of one request, best first."""
        columns = self.finished_ids, self.finished_lengths, self.finished_log_probs, self.is_finished
        limit, found = int(self.limits[place]), []
        for ids, length, log_prob, is_finished in zip(*(each[place].tolist() for each in columns), strict=True):
            # fewer have ended than beams: what transformers returns for the others is padded up to the limit
            found.append(SequenceOutput(tuple(ids[: length if is_finished else limit]), log_prob))
        return found

    def filter(self, requests: Sequence[int]) -> None:
        """Keep the requests at these places."""
        rows = torch.tensor(list(requests), device=self.limits.device)
        for name in (
            "limits", "running_ids", "running_scores", "running_log_probs", "finished_ids", "finished_scores",
            "finished_log_probs", "finished_lengths", "is_finished", "can_improve", "is_done",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name)[rows])
        self._requests = [self._requests[place] for place in requests]
        self._set_params()

    def _set_params(self) -> None:
        """What the requests ask for, as columns (R, 1)."""
        params, device = [each.params for each in self._requests], self.limits.device
        self._length_penalty = torch.tensor([[each.length_penalty] for each in params], device=device)
        self._stops_early = torch.tensor([each.early_stopping is True for each in params], device=device)
        hopes = [[each.early_stopping == "never" and each.length_penalty > 0] for each in params]
        self._hopes_for_limit = torch.tensor(hopes, device=device)
        self._has_stopping = any(each.stopping is not None for each in self._requests)

    def _finish(self, candidates: Tensor, scores: Tensor, log_probs: Tensor, ends: Tensor) -> None:
        """Keep the best finished hypotheses, old and new; new ones only from the first K candidates."""
        num_beams = self.finished_scores.shape[1]
        ends = ends.clone()
        ends[:, num_beams:] = False
        scores = scores / self.length**self._length_penalty + (~ends).float() * _NEVER
        merged = torch.cat([self.finished_scores, scores], dim=1)
        best = merged.topk(num_beams)[1]
        self.finished_scores = _take(merged, best)
        self.finished_ids = _take(torch.cat([self.finished_ids, candidates], dim=1), best)
        self.finished_log_probs = _take(torch.cat([self.finished_log_probs, log_probs], dim=1), best)
        lengths = torch.full_like(ends, self.length, dtype=torch.int64)
        self.finished_lengths = _take(torch.cat([self.finished_lengths, lengths], dim=1), best)
        self.is_finished = _take(torch.cat([self.is_finished, ends], dim=1), best)

    def _settle(self, ends: Tensor) -> None:
        """Which requests are done: no running hypothesis can overtake the worst finished one, or none is left."""
        length = torch.where(self._hopes_for_limit, self.limits, self.length)
        best_possible = self.running_scores[:, :1] / length**self._length_penalty
        worst = self.finished_scores.min(dim=1, keepdim=True)[0]
        worst_finished = torch.where(self.is_finished, worst, _NEVER)
        self.can_improve &= (best_possible > worst_finished).any(dim=1, keepdim=True)
        has_enough = self._stops_early & self.is_finished.all(dim=1)
        self.is_done = ~self.can_improve[:, 0] | has_enough | ends.all(dim=1)

    def _stopped(self, candidates: Tensor) -> Tensor | bool:
        """Which of the candidates (R, 2 K, T) end where their request says so."""
        if not self._has_stopping:
            return False
        found = [
            [request.stopping is not None and request.stopping(ids) for ids in own]
            for request, own in zip(self._requests, candidates[..., : self.length].tolist(), strict=True)
        ]
        return torch.tensor(found, device=candidates.device)


def _take(tensor: Tensor, order: Tensor) -> Tensor:
    """Reorder dimension 1 row by row."""
    index = order if tensor.dim() == 2 else order[..., None].expand(-1, -1, tensor.shape[-1])
    return tensor.gather(1, index)
