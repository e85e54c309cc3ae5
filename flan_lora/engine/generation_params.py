"""How one answer is generated: transformers' names and meaning (`GenerationConfig`), every value spelled out."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from flan_lora.errors import RequestError
from flan_lora.recipe import MAX_LENGTH_PENALTY


@dataclass(frozen=True, slots=True)
class Sampling:
    """Draw tokens instead of taking the likeliest. One seed draws the same, whatever else is in the batch."""

    temperature: float = 1.0
    """Logits are divided by it."""
    top_p: float = 1.0
    """Draw only from the likeliest tokens that together have this probability (arXiv:1904.09751, section 3.1)."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class GenerationParams:
    """Greedy search by default; beams with ``num_beams``, sampling with ``do_sample``. Never both.

    The tokens are those of ``model.generate`` with the same values (transformers 5.23). Sampling draws by ``seed``
    alone: the same answer whatever else is in the batch, on every device.

    Raises RequestError for values that make no sense; its text lists all of them.
    """

    max_new_tokens: int = 64
    """Tokens of an answer at most, eos included."""
    min_new_tokens: int = 0
    """Tokens before which eos is not allowed."""
    num_beams: int = 1
    length_penalty: float = 1.0
    """A finished beam's log-probability is divided by its length to this power: above 0 favours long answers.
    -5 to 5; long answers allow less below 0, where scores grow with it."""
    early_stopping: bool | Literal["never"] = False
    """When beam search ends: True at ``num_beams`` finished ones, False when a better one is unlikely, ``"never"``
    when none can come."""
    do_sample: bool = False
    temperature: float = 1.0
    """Logits are divided by it before a token is drawn."""
    top_p: float = 1.0
    """Draw only from the likeliest tokens that together have this probability (arXiv:1904.09751, section 3.1)."""
    top_k: int = 0
    """Draw only from so many of the likeliest tokens; 0 is all (transformers' own default is 50)."""
    seed: int = 0
    """Of the draws, 0 to 2**32 - 1."""
    num_return_sequences: int = 1
    """Answers: of beams the best, of sampling so many draws."""
    repetition_penalty: float = 1.0
    """Logits of tokens that are in the answer already are divided by it where positive, else multiplied
    (arXiv:1909.05858, section 4.1); 1 is off."""
    no_repeat_ngram_size: int = 0
    """No sequence of so many tokens comes twice in an answer; 0 is off."""
    stop: tuple[str, ...] = ()
    """Texts at whose first appearance an answer ends; they are not part of it."""

    def __post_init__(self) -> None:
        if problems := self._problems():
            raise RequestError(
                "these generation parameters cannot be run:\n" + "\n".join(f"  {line}" for line in problems)
            )

    @property
    def width(self) -> int:
        """Sequences that are decoded for one answer at once."""
        return self.num_return_sequences if self.do_sample else self.num_beams

    @property
    def sampling(self) -> Sampling | None:
        """None: greedy or beam search."""
        return Sampling(self.temperature, self.top_p, self.seed) if self.do_sample else None

    def _problems(self) -> list[str]:
        return [*self._of_wrong_type(), *self._out_of_range()]

    def _of_wrong_type(self) -> list[str]:
        """A bool is no number, and a number that came as text no number either."""
        problems = []
        for field in fields(self):
            value, kind = getattr(self, field.name), str(field.type)
            if kind == "int" and (isinstance(value, bool) or not isinstance(value, int)):
                problems.append(f"{field.name}: expected a whole number (got {value!r})")
            if kind == "float" and (isinstance(value, bool) or not isinstance(value, int | float)):
                problems.append(f"{field.name}: expected a number (got {value!r})")
            if kind == "bool" and not isinstance(value, bool):
                problems.append(f"{field.name}: expected true or false (got {value!r})")
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            problems.append(f"early_stopping: expected true, false or 'never' (got {self.early_stopping!r})")
        if not isinstance(self.stop, tuple) or not all(isinstance(text, str) and text for text in self.stop):
            problems.append(f"stop: expected texts that are not empty (got {self.stop!r})")
        return problems

    def _out_of_range(self) -> list[str]:
        if self._of_wrong_type():
            return []
        problems = [
            f"{name}: expected {least} or more (got {value})"
            for name, least in _LEAST.items()
            if (value := getattr(self, name)) < least
        ]
        for name in ("temperature", "repetition_penalty"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                greedy = "; greedy is do_sample=False" if name == "temperature" else ""
                problems.append(f"{name}: expected more than 0 (got {value}){greedy}")
        least = self._least_length_penalty
        if not least <= self.length_penalty <= MAX_LENGTH_PENALTY:
            of = f" for {self.max_new_tokens} new tokens" if least > -MAX_LENGTH_PENALTY else ""
            problems.append(
                f"length_penalty: expected {least:g} to {MAX_LENGTH_PENALTY:g}{of} (got {self.length_penalty})"
            )
        if not 0 < self.top_p <= 1:
            problems.append(f"top_p: expected 0 < top_p <= 1 (got {self.top_p})")
        if not 0 <= self.seed < 2**32:
            problems.append(f"seed: expected 0 to 2**32 - 1 (got {self.seed})")
        if self.min_new_tokens > self.max_new_tokens:
            problems.append(
                f"min_new_tokens: expected at most max_new_tokens={self.max_new_tokens} "
                f"(got {self.min_new_tokens})"
            )
        return [*problems, *self._contradictions()]

    @property
    def _least_length_penalty(self) -> float:
        """Below 0 scores are multiplied by a power of the length; they must stay above -1e9, that of no answer."""
        if self.num_beams <= 1 or self.max_new_tokens <= 1:
            return -MAX_LENGTH_PENALTY
        worst = math.log(1e9 / (_NATS_PER_TOKEN * self.max_new_tokens)) / math.log(self.max_new_tokens)
        return max(-MAX_LENGTH_PENALTY, math.ceil(-worst * 100) / 100)

    def _contradictions(self) -> list[str]:
        if self.do_sample:
            return [f"num_beams: sampling takes 1 (got {self.num_beams})"] if self.num_beams > 1 else []
        if self.num_return_sequences > self.num_beams >= 1:
            return [
                f"num_return_sequences: greedy and beam search have num_beams={self.num_beams} answers "
                f"(got {self.num_return_sequences}); raise num_beams, or sample"
            ]
        return []


_NATS_PER_TOKEN = 10.0
"""Of a beam's tokens, at worst: the logarithm of a vocabulary of 32,000."""
_LEAST = {
    "max_new_tokens": 1,
    "min_new_tokens": 0,
    "num_beams": 1,
    "top_k": 0,
    "num_return_sequences": 1,
    "no_repeat_ngram_size": 0,
}

GREEDY = GenerationParams()
