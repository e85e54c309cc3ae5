"""What is asked and what is answered: texts, adapters, completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, TypeAlias, TypeVar, Union

from flan_lora.engine.request import Mix
from flan_lora.errors import RequestError
from flan_lora.system.text import shorten, shown
from flan_lora.tasks.task import Inputs

Text: TypeAlias = "str | Inputs"
"""A text, or the inputs of a task that takes several (``{"question": ..., "context": ...}``)."""
Choice: TypeAlias = "str | Mapping[str, float] | None"
"""An adapter's name, ``"auto"``, a weighted mix, or None: the bare base."""

Abstain: TypeAlias = Literal["error", "base"]
"""What ``"auto"`` does with a text that is like those of no adapter."""
Item = TypeVar("Item")
PerText: TypeAlias = Union[Item, Sequence[Item]]  # noqa: UP007  (a text in quotes cannot be subscripted)
"""One for all texts, or one for each."""

AUTO = "auto"
MAX_MIX_WEIGHT = 1000
"""Beyond it nothing is left of the base's own numbers; far beyond it nothing finite."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a text without a named adapter belongs."""

    adapter: str | None
    """None: unlike the texts of every adapter."""
    score: float
    """Of the best adapter; log-density per dimension, comparable between adapters of one base."""
    threshold: float
    """What the best adapter asks for."""
    best: str
    runner_up: str | None
    runner_up_score: float | None

    @property
    def reason(self) -> str:
        """One line for the user."""
        against = "" if self.runner_up is None else f", ahead of {self.runner_up} ({self.runner_up_score:.2f})"
        verdict = "at least" if self.adapter else "less than"
        return f"most like {self.best} ({self.score:.2f}, {verdict} its {self.threshold:.2f}){against}"


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to one text."""

    text: str
    """Parsed by the task."""
    adapter: str | None
    """The adapter that answered (of a mix, the heaviest); None = the bare base."""
    latency_s: float
    """From the call to this text's last token."""
    num_tokens: int
    """Generated, eos included."""
    log_prob: float
    """Sum of the answer's token log-probabilities (nats)."""
    mix: Mix = field(default_factory=dict)
    """Adapter -> weight, as it was run."""
    label_probabilities: Mapping[str, float] | None = None
    """Of a classification's labels, when asked for; calibrated if the adapter says how (`Router.generate`)."""
    alternatives: tuple[str, ...] = ()
    """Further answers (num_return_sequences), best or first drawn first."""
    route: Route | None = None
    """How ``"auto"`` chose."""
    raw_text: str = ""
    """What the base wrote, before the task parsed it."""
    digest: str | None = None
    """sha256 (hex) of the weights of ``adapter``; None = the bare base."""
    asked_as: str | None = None
    """The adapter whose prompt and limits were used; None: no adapter's, or a text as it is."""

    @property
    def mean_log_prob(self) -> float:
        """Per token, eos included: comparable between answers of unlike length."""
        return self.log_prob / max(self.num_tokens, 1)


def per_text(value: Any, num_texts: int, what: str) -> list[Any]:
    """One value for all texts, or one for each. Raises RequestError for another number."""
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        return [value] * num_texts
    if len(value) != num_texts:
        raise RequestError(f"{len(value)} {what} for {num_texts} texts: give one for all texts, or one per text.")
    return list(value)


def mix_of(choice: Choice) -> Mix:
    """A choice as weights. An empty mix would be the bare base, which has a name of its own: None.

    Raises:
        RequestError: neither a name nor a mix, a mix of no adapter, or a weight that is no number within
            `MAX_MIX_WEIGHT`.
    """
    if choice is None:
        return {}
    if isinstance(choice, str):
        return {choice: 1.0}
    if not isinstance(choice, Mapping):
        raise RequestError(
            f"an adapter is a name, a mix {{name: weight, ...}} or none (got {shown(choice)}, "
            f"{type(choice).__name__})."
        )
    if not choice or not all(isinstance(name, str) and _is_weight(choice[name]) for name in choice):
        raise RequestError(
            "a mix takes one adapter or more, each with a finite weight "
            f"from -{MAX_MIX_WEIGHT:,} to {MAX_MIX_WEIGHT:,} (got {shown(dict(choice))})."
        )
    return {name: float(weight) for name, weight in choice.items()}


def _is_weight(value: object) -> bool:
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and abs(float(value)) <= MAX_MIX_WEIGHT
    except OverflowError:  # an integer of hundreds of digits
        return False


def heaviest(mix: Mix) -> str:
    """The adapter whose prompt a mix is asked in."""
    return max(mix, key=lambda name: abs(mix[name]))


def one_line(text: Text, max_chars: int = 60) -> str:
    """The beginning of a text, for an error message."""
    return shorten(text if isinstance(text, str) else " / ".join(text.values()), max_chars)
