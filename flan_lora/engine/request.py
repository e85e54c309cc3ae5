"""What the engine is asked and what it answers, in token ids. Knows limits; never a text, a tensor or a thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from flan_lora.base.decode import LabelConstraint
from flan_lora.engine.adapter_cache import Mix
from flan_lora.errors import RequestError


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
class SequenceOutput:
    """One generated sequence."""

    ids: tuple[int, ...]
    """Without the start token; ends in eos unless the limit came first."""
    log_prob: float
    """Of the sequence under the model: natural logarithm, summed over tokens, no temperature, no constraint."""

    @property
    def mean_log_prob(self) -> float:
        """Per token, eos included: comparable between answers of unlike length."""
        return self.log_prob / max(len(self.ids), 1)
