"""What the engine is asked and what it answers, in token ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flan_lora.base.decode import LabelConstraint
from flan_lora.engine.generation_params import GREEDY, GenerationParams
from flan_lora.errors import RequestError

Mix = Mapping[str, float]
"""Adapter -> weight of its update; empty = the bare base."""


@dataclass(frozen=True, slots=True)
class Request:
    """One source, and how it is to be answered. Raises RequestError for a source without tokens."""

    input_ids: Sequence[int]
    """Source tokens, eos included."""
    mix: Mix = field(default_factory=dict)
    params: GenerationParams = GREEDY
    constraint: LabelConstraint | None = None
    """The labels that the answer is one of. They decide where it ends, so that of ``params`` min_new_tokens,
    repetition_penalty and no_repeat_ngram_size do nothing beside it."""
    stopping: Callable[[Sequence[int]], bool] | None = None
    """Whether an answer ends with these ids, the new one last, as transformers' stopping criteria do. It is called
    by the worker for every new token and must not wait. Texts (``params.stop``) are the caller's to match."""

    def __post_init__(self) -> None:
        if not self.input_ids:
            raise RequestError("a request cannot be run:\n  input_ids: expected at least eos (got nothing)")


@dataclass(frozen=True, slots=True)
class SequenceOutput:
    """One generated sequence."""

    ids: tuple[int, ...]
    """Without the start token; ends in eos unless a limit or a stop came first."""
    log_prob: float
    """Sum of token log-probabilities under the model (nats): no temperature, no penalty, no constraint."""

    @property
    def mean_log_prob(self) -> float:
        """Per token, eos included: comparable between answers of unlike length."""
        return self.log_prob / max(len(self.ids), 1)


@dataclass(frozen=True, slots=True)
class GenerationOutput:
    """The answers to one request. Times are on the clock of ``time.perf_counter``, in seconds."""

    sequences: tuple[SequenceOutput, ...]
    """``num_return_sequences``, best first; of sampling in the order of their draws."""
    queued_s: float
    """When it was submitted."""
    first_token_s: float
    finished_s: float
    """When the last token came."""
