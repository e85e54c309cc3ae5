"""One base, ready to run: which runner suits it, its special tokens, and the passes that are no generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from flan_lora.base.encode import Collator
from flan_lora.base.fingerprint import int8_scale
from flan_lora.engine.beam_search import BeamGroup
from flan_lora.engine.decode_group import DecodeGroup, RunningRequest, SpecialTokens
from flan_lora.engine.graphs.cuda_graph import GraphPool
from flan_lora.engine.lora_batch import NO_LORA
from flan_lora.engine.runner import EagerRunner, GraphRunner, Runner
from flan_lora.engine.sampling import SamplingGroup
from flan_lora.engine.t5 import T5
from flan_lora.errors import BaseModelError

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration


ServePrecision = Literal["exact", "int8"]

_PADDED_TO = 32
"""Multiples of tokens that sources are padded to where an answer must not depend on its neighbours' lengths."""


class ModelRunner:
    """The one base and how to run it. It keeps nothing of a request, so any number of threads may use it."""

    def __init__(
        self,
        base: T5ForConditionalGeneration,
        *,
        graphs: bool | None = None,
        deterministic: bool = False,
        serve_precision: ServePrecision = "exact",
    ) -> None:
        """
        Args:
            graphs: run by CUDA graphs (`flan_lora.engine.graphs`); None is on a GPU, where that pays.
            deterministic: an answer, and its log-probability, is the same to the last bit whatever else is in the
                batch: products of fixed shapes, sources padded to lengths of their own. On a CPU only.
            serve_precision: ``exact`` computes what adapters were trained on; ``int8`` multiplies the head and the
                feed-forwards' ``wo`` in int8, too. On a CPU, of an int8 base only.

        Raises:
            AdapterError: PEFT has put an adapter into the base.
            BaseModelError: ``deterministic`` or ``serve_precision`` cannot be had here.
        """
        if deterministic and base.device.type != "cpu":
            raise BaseModelError(f"deterministic: on a CPU only (got {base.device}). Open the base on the CPU.")
        if serve_precision == "int8":
            _check_int8(base)
        self._t5 = T5(base, is_invariant=deterministic, all_int8=serve_precision == "int8")
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

    def padded_length(self, num_tokens: int) -> int | None:
        """What a source is padded to wherever it is read; None: to the longest of its group."""
        return -(-num_tokens // _PADDED_TO) * _PADDED_TO if self._t5.is_invariant else None

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
        groups: dict[tuple[int, int | None], list[int]] = {}
        for place, each in enumerate(requests):
            length = self.padded_length(len(each.request.input_ids))
            groups.setdefault((id(each.request.constraint), length), []).append(place)
        for places in groups.values():
            constraint = requests[places[0]].request.constraint
            assert constraint is not None, "only a request with labels has label probabilities"
            labels = list(constraint.labels)
            log_probs = self._log_probs([requests[place] for place in places], [labels] * len(places))
            for place, row in zip(places, functional.softmax(log_probs, dim=-1).tolist(), strict=True):
                found[place] = dict(zip(constraint.labels.values(), row, strict=True))
        return found

    @torch.inference_mode()
    def target_log_probs(self, requests: Sequence[RunningRequest]) -> list[float]:
        """Of each request's target, summed over its tokens (nats)."""
        found: dict[int, float] = {}
        for places in self._by_length([each.request.input_ids for each in requests]):
            own = [requests[place] for place in places]
            log_probs = self._log_probs(own, [[each.request.target] for each in own])
            found.update(zip(places, log_probs[:, 0].tolist(), strict=True))
        return [found[place] for place in range(len(requests))]

    @torch.inference_mode()
    def pooled_states(self, sources: Sequence[Sequence[int]]) -> Tensor:
        """Mean of the bare base's encoder states over each source's tokens, (N, d_model) fp32 on the CPU."""
        pooled: dict[int, Tensor] = {}
        for places in self._by_length(sources):
            input_ids, mask = self._inputs([sources[place] for place in places])
            states = self._t5.encode(input_ids, mask, NO_LORA).float()
            weights = mask[..., None].float()
            pooled.update(zip(places, ((states * weights).sum(1) / weights.sum(1)).cpu(), strict=True))
        return torch.stack([pooled[place] for place in range(len(sources))])

    def _by_length(self, sources: Sequence[Sequence[int]]) -> list[list[int]]:
        """Places of sources that may share a pass."""
        groups: dict[int | None, list[int]] = {}
        for place, source in enumerate(sources):
            groups.setdefault(self.padded_length(len(source)), []).append(place)
        return list(groups.values())

    def _inputs(self, sources: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        batch = self._collate([{"input_ids": list(source)} for source in sources])
        ids, mask = batch["input_ids"], batch["attention_mask"]
        missing = (self.padded_length(ids.shape[1]) or 0) - ids.shape[1]
        if missing > 0:
            ids = functional.pad(ids, (0, missing), value=self._special.pad)
            mask = functional.pad(mask, (0, missing))
        return ids.to(self.device), mask.to(self.device)

    def _log_probs(self, requests: Sequence[RunningRequest], targets: Sequence[Sequence[Sequence[int]]]) -> Tensor:
        """(R, W): the log-probability of each request's W targets, those of all requests side by side."""
        flat, width = [target for own in targets for target in own], len(targets[0])
        longest = max(map(len, flat))
        padded = torch.tensor([[*target, *[self._special.pad] * (longest - len(target))] for target in flat])
        ids_of_step = padded.to(self.device).T
        lengths = torch.tensor([len(target) for target in flat], device=self.device)
        runner = EagerRunner(self._t5)  # a graph for every number of targets would be captured in vain
        cache = runner.prefill(
            *self._inputs([each.request.input_ids for each in requests]),
            [each.refs for each in requests],
            None,
            width=width,
            max_tokens=longest,
        )
        ids = torch.full_like(ids_of_step[0], self._special.start)
        total = torch.zeros(len(flat), device=self.device)
        for step in range(longest):
            log_probs = runner.decode([cache], [ids])[0].log_softmax(dim=-1)
            ids = ids_of_step[step]
            total += log_probs.gather(1, ids[:, None])[:, 0] * (step < lengths)
        return total.view(len(requests), width)


def _check_int8(base: T5ForConditionalGeneration) -> None:
    is_int8 = any(isinstance(each, nn.Linear) and int8_scale(each) is not None for each in base.modules())
    if base.device.type != "cpu" or not is_int8:
        got = f"got {'int8' if is_int8 else 'another precision'} on {base.device.type}"
        raise BaseModelError(
            f"serve_precision: int8 is for an int8 base on a CPU ({got}).\n"
            "Open the base in int8 on the CPU, or serve it in the precision exact."
        )
