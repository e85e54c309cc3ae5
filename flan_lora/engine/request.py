"""What the engine is asked and what it answers, in token ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flan_lora.base.decode import LabelConstraint
from flan_lora.engine.generation_params import GREEDY, GenerationParams
from flan_lora.errors import RequestError

Mix = Mapping[str, float]
"""Adapter -> weight of its update; empty = the bare base."""
MAX_LOG_PROBS = 20
"""OpenAI's limit, too."""


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
    num_log_probs: int | None = None
    """Keep each token's log-probability, and those of so many likeliest tokens beside it, `MAX_LOG_PROBS` at most;
    None: their sum only. For greedy search and sampling."""
    target: Sequence[int] = ()
    """A given answer, eos included, whose log-probability is asked for (`Engine.score_targets`)."""

    def __post_init__(self) -> None:
        if not self.input_ids:
            raise RequestError("a request cannot be run:\n  input_ids: expected at least eos (got nothing)")
        if self.num_log_probs is None:
            return
        if not 0 <= self.num_log_probs <= MAX_LOG_PROBS:
            raise RequestError(
                f"a request cannot be run:\n  num_log_probs: expected 0 to {MAX_LOG_PROBS} "
                f"(got {self.num_log_probs})"
            )
        if self.params.num_beams > 1:
            raise RequestError(
                "log-probabilities of single tokens are kept in greedy search and sampling, not in beam search "
                f"(got num_beams={self.params.num_beams}).\nAsk with num_beams=1, or without them."
            )


@dataclass(frozen=True, slots=True)
class TokenLogProbs:
    """What the model thought of one generated token, and of others in its place (nats)."""

    log_prob: float
    top: tuple[tuple[int, float], ...] = ()
    """(token id, log-probability) of the likeliest, best first."""


@dataclass(frozen=True, slots=True)
class SequenceOutput:
    """One generated sequence."""

    ids: tuple[int, ...]
    """Without the start token; ends in eos unless a limit or a stop came first."""
    log_prob: float
    """Sum of token log-probabilities under the model (nats): no temperature, no penalty, no constraint."""
    token_log_probs: tuple[TokenLogProbs, ...] = ()
    """One for each of ``ids``, where `Request.num_log_probs` asks for them; of the same distribution."""

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
