"""Greedy search and sampling: each request draws by its own seed, whatever else is in the group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flan_lora.engine.decode_group import DecodeGroup, RunningRequest, SpecialTokens, StepOutput
from flan_lora.engine.generation_params import GenerationParams
from flan_lora.engine.kv_cache import Cache
from flan_lora.engine.logits_process import LogitsProcessor
from flan_lora.engine.request import MAX_LOG_PROBS, Request, SequenceOutput, TokenLogProbs
from flan_lora.system.quick_start import load_meta_kernels


class SamplingGroup(DecodeGroup[Cache]):
    """Greedy and sampled requests, ``width`` sequences each."""

    def __init__(self, requests: Sequence[RunningRequest], cache: Cache, special: SpecialTokens) -> None:
        super().__init__(requests, cache, special)
        width = cache.width
        self._sequences = [_Sequence(each.request, number) for each in requests for number in range(width)]
        own = [sequence.request for sequence in self._sequences]
        self._process = LogitsProcessor(own, start=special.start, eos=special.eos, device=cache.device)
        self._asking = self._that_ask()

    def advance(self, logits: Tensor) -> StepOutput:
        """As `DecodeGroup.advance`."""
        self.ids = self._choose(self._process(logits))
        log_norms = logits.logsumexp(dim=1)
        log_probs = logits.gather(1, self.ids[:, None])[:, 0] - log_norms
        tops = self._tops(logits, log_norms)
        ids = self.ids.tolist()
        self._process.append(ids, self.ids)
        for sequence, token, log_prob in zip(self._sequences, ids, log_probs.tolist(), strict=True):
            sequence.append(token, log_prob, self._special.eos)
        for place, top in zip(self._asking, tops, strict=True):
            self._sequences[place].keep(log_probs[place].item(), top)
        width = self.cache.width
        tokens, finished = [], []
        for place, request in enumerate(self.requests):
            if self._is_finished[place]:
                continue
            own = self._sequences[place * width : (place + 1) * width]
            if width == 1:
                tokens.append((request, own[0].ids[-1]))
            if all(sequence.is_done for sequence in own):
                self._is_finished[place] = True
                finished.append((request, tuple(sequence.output() for sequence in own)))
        return StepOutput(tuple(tokens), tuple(finished))

    def _choose(self, scores: Tensor) -> Tensor:
        """The next token of each sequence (N,)."""
        chosen = scores.argmax(dim=1)
        drawn = [place for place, each in enumerate(self._sequences) if each.generator and not each.is_done]
        if drawn:
            sequences = [self._sequences[place] for place in drawn]
            index = torch.tensor(drawn, device=scores.device)
            # on the CPU, so that a seed means the same on every device
            probs = filtered_probs(scores[index].cpu(), [each.request.params for each in sequences])
            tokens = draw(probs, [each.generator for each in sequences if each.generator])
            chosen.index_copy_(0, index, tokens.to(chosen.device))
        return chosen

    def _that_ask(self) -> list[int]:
        """Places of the sequences that ask for log-probabilities of single tokens."""
        return [place for place, each in enumerate(self._sequences) if each.request.num_log_probs is not None]

    def _tops(self, logits: Tensor, log_norms: Tensor) -> list[tuple[tuple[int, float], ...]]:
        """The likeliest tokens of each sequence that asks; the others cost nothing.

        Always as many as may be asked for, so that no row's depend on how many its neighbours want.
        """
        if not self._asking:
            return []
        rows = torch.tensor(self._asking, device=logits.device)
        values, ids = logits[rows].topk(min(MAX_LOG_PROBS, logits.shape[1]), dim=1)
        values = values - log_norms[rows, None]
        return [tuple(zip(*pair, strict=True)) for pair in zip(ids.tolist(), values.tolist(), strict=True)]

    def _filter(self, requests: list[int], sequences: list[int]) -> None:
        self._sequences = [self._sequences[place] for place in sequences]
        self._process.filter(sequences)
        self._asking = self._that_ask()


class _Sequence:
    """One greedy or sampled sequence on its way."""

    def __init__(self, request: Request, number: int) -> None:
        self.request, self.ids, self.log_prob, self.is_done = request, list[int](), 0.0, False
        self.token_log_probs: list[TokenLogProbs] = []
        self.generator: torch.Generator | None = None
        if request.params.do_sample:
            load_meta_kernels()  # torch's generators need them
            self.generator = torch.Generator().manual_seed((request.params.seed << 16) + number)

    def append(self, token: int, log_prob: float, eos: int) -> None:
        """Take the next token, unless the sequence has ended."""
        if self.is_done:
            return
        self.ids.append(token)
        self.log_prob += log_prob
        stopping = self.request.stopping
        self.is_done = (
            token == eos
            or len(self.ids) == self.request.params.max_new_tokens
            or (stopping is not None and stopping(self.ids))
        )

    def keep(self, log_prob: float, top: tuple[tuple[int, float], ...]) -> None:
        """What the model thought of the token that has just been appended, unless the sequence had ended."""
        if len(self.token_log_probs) < len(self.ids):
            self.token_log_probs.append(TokenLogProbs(log_prob, top[: self.request.num_log_probs]))

    def output(self) -> SequenceOutput:
        """What has been generated."""
        return SequenceOutput(tuple(self.ids), self.log_prob, tuple(self.token_log_probs))


def filtered_probs(scores: Tensor, params: Sequence[GenerationParams]) -> Tensor:
    """What is drawn from: softmax of scores (N, V) on the CPU after each row's temperature, top_k and top_p.

    Source: transformers 5.23, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, in their order.
    """
    scores = scores / torch.tensor([each.temperature for each in params])[:, None]
    if any(each.top_k for each in params) or any(each.top_p < 1 for each in params):
        ranked, order = scores.sort(dim=1)  # lowest first
        size = scores.shape[1]
        top_k = torch.tensor([min(each.top_k, size) or size for each in params])[:, None]
        ranked = ranked.masked_fill(ranked < ranked.gather(1, size - top_k), -float("inf"))
        unlikely = (
            ranked.softmax(dim=1).cumsum(dim=1) <= torch.tensor([1 - each.top_p for each in params])[:, None]
        )
        unlikely &= torch.tensor([each.top_p < 1 for each in params])[:, None]
        unlikely[:, -1] = False
        scores = scores.scatter(1, order, ranked.masked_fill(unlikely, -float("inf")))
    return scores.softmax(dim=1)


def draw(probs: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """A token (N,) from each row of probabilities (N, V), as `torch.multinomial` draws with its generator.

    The least of exponential times with these rates falls on a token with its probability; torch draws so, too, but
    takes one generator for all rows.
    """
    times = torch.empty_like(probs)
    for row, generator in zip(times, generators, strict=True):
        row.exponential_(generator=generator)
    return (probs / times).argmax(dim=1)
