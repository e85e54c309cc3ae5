"""What can be asked of a text alone: of a passage, questions with their answers, surest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flan_lora.errors import RequestError
from flan_lora.serving.completion import Completion
from flan_lora.serving.prompts import ServingConfig
from flan_lora.tasks.task import Inputs

_MAX_COMMON_SHARE = 0.6
"""Of the words of two questions; above it they ask the same."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Something that can be asked of a text, found by the task, and the adapter's answer to it."""

    inputs: Inputs
    completion: Completion

    @property
    def found(self) -> str:
        """What the task found in the text: the last of the inputs."""
        return [*self.inputs.values()][-1]

    @property
    def sureness(self) -> float:
        """Log-probability per token of the answer."""
        return self.completion.mean_log_prob


def propose(
    text: str,
    adapter: str,
    config: ServingConfig,
    generate: Callable[[list[Inputs]], list[Completion]],
    limit: int,
) -> list[Proposal]:
    """Ask the adapter for every span that its task finds, and keep the surest ones that differ.

    Raises:
        RequestError: the adapter's task proposes nothing.
    """
    if config.task is None or config.task.propose is None:
        raise RequestError(
            f"adapter {adapter!r} proposes nothing: its task takes {', '.join(config.inputs)}, and has "
            "no way to find them in a text.\nAsk it with `generate`."
        )
    asked = config.task.propose(text)
    proposals = [Proposal(*parts) for parts in zip(asked, generate(asked), strict=True)]
    kept: list[Proposal] = []
    for proposal in sorted(proposals, key=lambda item: -item.sureness):
        if len(kept) < limit and is_new(proposal, kept):
            kept.append(proposal)
    return kept


def is_new(proposal: Proposal, kept: Sequence[Proposal]) -> bool:
    """Whether a question keeps its answer to itself, and does not ask what a surer one asks."""
    question = proposal.completion.text.casefold()
    words = set(question.split())
    gives_away = proposal.found.casefold() in question
    others = (set(other.completion.text.casefold().split()) for other in kept)
    return (
        bool(words)
        and not gives_away
        and all(len(words & seen) <= _MAX_COMMON_SHARE * len(words | seen) for seen in others)
    )
