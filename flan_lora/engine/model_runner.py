"""One base, ready to run: which runner suits it, its special tokens, and the passes that are no generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from flan_lora.base.encode import Collator
from flan_lora.engine.beam_search import BeamGroup
from flan_lora.engine.decode_group import DecodeGroup, RunningRequest, SpecialTokens
from flan_lora.engine.graphs.cuda_graph import GraphPool
from flan_lora.engine.lora_batch import NO_LORA
from flan_lora.engine.runner import EagerRunner, GraphRunner, Runner
from flan_lora.engine.sampling import SamplingGroup
from flan_lora.engine.t5 import T5

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration


class ModelRunner:
    """The one base and how to run it. It keeps nothing of a request, so any number of threads may use it."""

    def __init__(self, base: T5ForConditionalGeneration, *, graphs: bool | None = None) -> None:
        """
        Args:
            graphs: run by CUDA graphs (`flan_lora.engine.graphs`); None is on a GPU, where that pays.

        Raises:
            AdapterError: PEFT has put an adapter into the base.
        """
        self._t5 = T5(base)
        has_graphs = self._t5.device.type == "cuda" if graphs is None else graphs
        self._graph_pool = GraphPool.on(self._t5.device) if has_graphs else None
        config = base.config
        self._special = SpecialTokens(
            start=int(config.decoder_start_token_id), eos=int(config.eos_token_id), pad=int(config.pad_token_id)
        )
        self._collate = Collator(self._special.pad, self._special.start)

    @property
    def device(self) -> torch.device:
        """Where the base is."""
        return self._t5.device

    def new_runner(self) -> Runner[Any]:
        """For a new batch."""
        return EagerRunner(self._t5) if self._graph_pool is None else GraphRunner(self._t5, self._graph_pool)

    def prefill(self, runner: Runner[Any], requests: Sequence[RunningRequest]) -> DecodeGroup[Any]:
        """Read the sources of requests that decode alike, so that their first token can be chosen."""
        params = [each.request.params for each in requests]
        cache = runner.prefill(
            *self._inputs([each.request.input_ids for each in requests]),
            [each.refs for each in requests],
            requests[0].lease.pool,
            width=params[0].width,
            max_tokens=max(each.max_new_tokens for each in params),
        )
        group = BeamGroup if params[0].num_beams > 1 else SamplingGroup
        return group(requests, cache, self._special)

    @torch.inference_mode()
    def label_probabilities(self, requests: Sequence[RunningRequest]) -> list[dict[str, float]]:
        """Of each request's labels, from the model's probabilities of their spellings; they add up to 1.

        Every label is read to its eos, so this can rank another label first than greedy decoding, which decides
        token by token.
        """
        found: list[dict[str, float]] = [{} for _ in requests]
        groups: dict[int, list[int]] = {}
        for place, each in enumerate(requests):
            groups.setdefault(id(each.request.constraint), []).append(place)
        for places in groups.values():
            constraint = requests[places[0]].request.constraint
            assert constraint is not None, "only a request with labels has label probabilities"
            log_probs = self._label_log_probs([requests[place] for place in places], list(constraint.labels))
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

    def _inputs(self, sources: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        batch = self._collate([{"input_ids": list(source)} for source in sources])
        return batch["input_ids"].to(self.device), batch["attention_mask"].to(self.device)

    def _label_log_probs(self, requests: Sequence[RunningRequest], labels: Sequence[tuple[int, ...]]) -> Tensor:
        """(R, labels): the log-probability of each spelling, all labels of all requests side by side."""
        longest = max(map(len, labels))
        padded = torch.tensor([[*label, *[self._special.pad] * (longest - len(label))] for label in labels])
        targets = padded.to(self.device).repeat(len(requests), 1)
        lengths = torch.tensor([len(label) for label in labels], device=self.device).repeat(len(requests))
        runner = EagerRunner(self._t5)  # a graph for every number of labels would be captured in vain
        cache = runner.prefill(
            *self._inputs([each.request.input_ids for each in requests]),
            [each.refs for each in requests],
            None,
            width=len(labels),
            max_tokens=longest,
        )
        ids = torch.full_like(targets[:, 0], self._special.start)
        total = torch.zeros(len(targets), device=self.device)
        for step in range(longest):
            log_probs = runner.decode([cache], [ids])[0].log_softmax(dim=-1)
            ids = targets[:, step]
            total += log_probs.gather(1, ids[:, None])[:, 0] * (step < lengths)
        return total.view(len(requests), len(labels))
