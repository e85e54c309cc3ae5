"""Batches of requests, each row with its own adapters and its own way to decode, through one frozen base.

Greedy and beam search give the tokens of ``model.generate``. A row's answer does not depend on its neighbours,
beyond float noise, nor on when they come and go. Knows token ids and limits; never a text, a file or a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from flan_lora.base.encode import Collator
from flan_lora.engine.adapter_cache import Lease
from flan_lora.engine.decode_group import BeamGroup, DecodeGroup, Memory, RunningRequest, SamplingGroup, StepOutput
from flan_lora.engine.graphs.cuda_graph import GraphPool
from flan_lora.engine.graphs.decode_graph import CacheSlots, DecodeGraphs
from flan_lora.engine.lora_batch import NO_LORA, SegmentedLora
from flan_lora.engine.request import Request, SequenceOutput
from flan_lora.engine.t5 import T5, DynamicKVCache

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

OnToken = Callable[[int, int], None]
"""(place of the request in the batch, token id), as soon as the token is known."""

_LENGTH_RATIO, _LENGTH_SLACK = 1.5, 16
"""Sources of a cohort are padded to the longest: at most this many times the shortest, and these tokens, long."""


class ModelRunner:
    """The one base and how to run it. Any number of threads may use it."""

    def __init__(self, base: T5ForConditionalGeneration, *, graphs: bool | None = None) -> None:
        """
        Args:
            graphs: decode in slots of fixed shapes (`flan_lora.engine.graphs`); None is on a GPU, where that pays.

        Raises:
            AdapterError: PEFT has put an adapter into the base.
        """
        self._t5 = T5(base)
        has_boards = self._t5.device.type == "cuda" if graphs is None else graphs
        self._graph_pool = GraphPool.on(self._t5.device) if has_boards else None
        self._eos, self._pad = int(base.config.eos_token_id), int(base.config.pad_token_id)
        self._start = int(base.config.decoder_start_token_id)
        self._collate = Collator(self._pad, self._start)

    @property
    def device(self) -> torch.device:
        """Where the base is."""
        return self._t5.device

    def generate(
        self, requests: Sequence[Request], lease: Lease, *, on_token: OnToken | None = None
    ) -> list[list[SequenceOutput]]:
        """``num_return_sequences`` answers, best first, for each request, in the order given.

        All requests run at once, whatever their number.

        Args:
            on_token: called for rows with one sequence (greedy, one sample), token by token, eos included.
        """
        rows = [RunningRequest(request, lease) for request in requests]
        places = {row: place for place, row in enumerate(rows)}
        answers: list[list[SequenceOutput]] = [[] for _ in requests]
        batch = RunningBatch(self)
        batch.join(rows)
        while batch.num_rows:
            outcome = batch.step()
            if on_token is not None:
                for place, token in sorted((places[row], token) for row, token in outcome.tokens):
                    on_token(place, token)
            for row, found in outcome.finished:
                answers[places[row]] = found
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
            lora = lease.gather([request.mix for request in batch])
            log_probs = self._label_log_probs(batch, list(constraint.labels), lora)
            for place, row in zip(places, functional.softmax(log_probs, dim=-1).tolist(), strict=True):
                found[place] = dict(zip(constraint.labels.values(), row, strict=True))
        return found

    @torch.inference_mode()
    def pooled_states(self, sources: Sequence[Sequence[int]]) -> Tensor:
        """Mean of the bare base's encoder states over each source's tokens, (N, d_model) fp32 on the CPU."""
        input_ids, mask = self._inputs(sources)
        states = self._t5.encode(input_ids, mask, NO_LORA).float()
        weights = mask[..., None].float()
        return ((states * weights).sum(1) / weights.sum(1)).cpu()

    # For `Batch`

    def graphs(self) -> DecodeGraphs | None:
        """For the rows of a new batch; None where rows do without."""
        return None if self._graph_pool is None else DecodeGraphs(self._t5, self._graph_pool)

    def start(self, rows: Sequence[RunningRequest], graphs: DecodeGraphs | None) -> DecodeGroup:
        """Read the sources of rows that decode alike, so that their first token can be chosen."""
        requests = [row.request for row in rows]
        updates = [row.lease.updates(row.request.mix) for row in rows]
        lora = SegmentedLora(updates)
        width, is_beam = requests[0].width, requests[0].num_beams > 1
        max_tokens = max(request.max_new_tokens for request in requests)
        past: Memory
        if graphs is None:
            past = self._prefill(requests, lora, width, max_tokens)
        else:
            inputs = self._inputs([request.input_ids for request in requests])
            pool = rows[0].lease.pool
            past = graphs.start(*inputs, updates, pool, width=width, max_tokens=max_tokens)
        per_sequence = lora.repeat(width)
        if is_beam:
            return BeamGroup(rows, past, per_sequence, start=self._start, eos=self._eos, pad=self._pad)
        return SamplingGroup(rows, past, per_sequence, start=self._start, eos=self._eos)

    def step(self, groups: Sequence[DecodeGroup], lora: SegmentedLora) -> list[Tensor]:
        """One token further, all cohorts in one pass: logits (R * W, V) of each."""
        ids = torch.cat([group.ids for group in groups])
        caches = [group.kv_cache for group in groups if isinstance(group.kv_cache, DynamicKVCache)]
        logits = self._t5.step(ids, caches, lora)
        return list(logits.split_with_sizes([kv_cache.num_sequences for kv_cache in caches]))

    def _inputs(self, sources: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        batch = self._collate([{"input_ids": list(source)} for source in sources])
        return batch["input_ids"].to(self.device), batch["attention_mask"].to(self.device)

    def _prefill(
        self, batch: Sequence[Request], lora: SegmentedLora, width: int, max_tokens: int
    ) -> DynamicKVCache:
        input_ids, mask = self._inputs([request.input_ids for request in batch])
        states = self._t5.encode(input_ids, mask, lora)
        return self._t5.start(states, mask, lora, width=width, max_tokens=max_tokens)

    def _label_log_probs(
        self, batch: Sequence[Request], labels: Sequence[tuple[int, ...]], lora: SegmentedLora
    ) -> Tensor:
        """(R, labels): the log-probability of each spelling, all labels of all rows side by side."""
        longest = max(map(len, labels))
        padded = torch.tensor([[*label, *[self._pad] * (longest - len(label))] for label in labels])
        targets = padded.to(self.device).repeat(len(batch), 1)
        lengths = torch.tensor([len(label) for label in labels], device=self.device).repeat(len(batch))
        kv_cache = self._prefill(batch, lora, len(labels), longest)
        ids, total = torch.full_like(targets[:, 0], self._start), torch.zeros(len(targets), device=self.device)
        for step in range(longest):
            log_probs = self._t5.step(ids, [kv_cache], lora).log_softmax(dim=-1)
            ids = targets[:, step]
            total += log_probs.gather(1, ids[:, None])[:, 0] * (step < lengths)
        return total.view(len(batch), len(labels))


class RunningBatch:
    """Rows that decode together, one token a step; between two steps rows may join and leave. For one thread."""

    def __init__(self, engine: ModelRunner) -> None:
        self._engine, self._graphs = engine, engine.graphs()
        self._groups: list[DecodeGroup] = []
        self._lora: SegmentedLora | None = None

    @property
    def num_rows(self) -> int:
        """Rows that have not ended."""
        return sum(group.num_going for group in self._groups)

    @torch.inference_mode()
    def join(self, rows: Sequence[RunningRequest]) -> None:
        """Read the sources of new rows; they get their first token in the next step. If it raises, none is in."""
        started = [self._engine.start(group, self._graphs) for group in _alike(rows)]
        if started:
            self._groups += started
            self._lora = None

    def drop(self, rows: Collection[RunningRequest]) -> None:
        """Forget rows that nobody waits for any more."""
        for group in self._groups:
            group.drop(rows)
        self._tidy()

    @torch.inference_mode()
    def step(self) -> StepOutput:
        """The next token of every row. If it raises, the batch is no longer good for anything."""
        assert self._groups, "a step takes rows"
        logits = self._logits()
        outcomes = [group.advance(own) for group, own in zip(self._groups, logits, strict=True)]
        self._tidy()
        return StepOutput(
            tuple(token for outcome in outcomes for token in outcome.tokens),
            tuple(row for outcome in outcomes for row in outcome.finished),
        )

    def _logits(self) -> list[Tensor]:
        if self._graphs is not None:
            slots = [group.kv_cache for group in self._groups if isinstance(group.kv_cache, CacheSlots)]
            return self._graphs.step(slots, [group.ids for group in self._groups])
        if self._lora is None:
            self._lora = SegmentedLora.joined([group.lora for group in self._groups])
        return self._engine.step(self._groups, self._lora)

    def _tidy(self) -> None:
        going = [group for group in self._groups if group.num_going]
        for group in self._groups:
            if not group.num_going:
                group.kv_cache.close()
        have_shrunk = [group.compact() for group in going]
        if any(have_shrunk) or len(going) < len(self._groups):
            self._groups, self._lora = going, None
            if self._graphs is not None:
                self._graphs.release_idle()


def _alike(rows: Sequence[RunningRequest]) -> Iterator[list[RunningRequest]]:
    """Rows that may share a cohort: the same way to decode, sources of like length; rows of a mix together.

    Leases from before and after the slots were made roomier are apart.
    """
    ways: dict[tuple[bool, int, int], list[RunningRequest]] = {}
    for row in rows:
        request, pool = row.request, id(row.lease.pool)
        ways.setdefault((request.num_beams > 1, request.width, pool), []).append(row)
    for group in ways.values():
        group.sort(key=lambda row: len(row.request.input_ids))
        start = 0
        for place, row in enumerate(group):
            limit = _LENGTH_RATIO * len(group[start].request.input_ids) + _LENGTH_SLACK
            if len(row.request.input_ids) > limit:
                yield sorted(group[start:place], key=_pool)
                start = place
        yield sorted(group[start:], key=_pool)


def _pool(row: RunningRequest) -> list[tuple[int, float]]:
    """Where a row's updates lie: neighbours in this order share products (`lora_batch.Segment`)."""
    return [(update.slot, update.weight) for update in row.lease.updates(row.request.mix)]
