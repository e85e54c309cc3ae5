"""Prompts too long for the base as several overlapping ones, and one answer out of those to each.

Knows a tokenizer and prompts; never a model. A prompt that fits stays the same object, so nothing changes for it.
Source: windows with a stride over long contexts, as BERT reads them (arXiv:1810.04805), for a base that writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from flan_lora.encode import CUT_PIECE, fitting_end

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from flan_lora.tasks.task import Prompt, Task

Item = TypeVar("Item")


@dataclass(frozen=True)
class Windows:
    """The prompts of several rows, each row as one or more of them, in order."""

    prompts: list[Prompt]
    rows: list[int]
    """The row that each prompt belongs to."""

    @staticmethod
    def over(
        task: Task | None, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], max_tokens: int
    ) -> Windows:
        """Windows where the task wants them; otherwise every prompt as it is, to be cut when it is encoded.

        Raises:
            DataError: a prompt does not fit even with an empty body.
        """
        is_windowed = task is not None and task.is_windowed
        parts = [windows(tokenizer, prompt, max_tokens) if is_windowed else [prompt] for prompt in prompts]
        rows = [row for row, found in enumerate(parts) for _ in found]
        return Windows([prompt for found in parts for prompt in found], rows)

    def best(self, items: Sequence[Item], score: Callable[[Item], float]) -> list[Item]:
        """For each row the item of its best window, the first of equals; `items` are in the order of `prompts`."""
        chosen: dict[int, Item] = {}
        for row, item in zip(self.rows, items, strict=True):
            if row not in chosen or score(item) > score(chosen[row]):
                chosen[row] = item
        return [chosen[row] for row in sorted(chosen)]


def windows(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, max_tokens: int) -> list[Prompt]:
    """Prompts over parts of the body, each as long as fits, each beginning in the middle of the one before."""
    found: list[Prompt] = []
    rest = prompt
    while True:
        end = fitting_end(tokenizer, rest, max_tokens)
        if end == len(rest.body):
            return [*found, rest]
        found.append(replace(rest, body=rest.body[:end]))
        ends = [word.end() for word in CUT_PIECE.finditer(rest.body[:end])]
        if not ends:
            return found  # not even one word fits
        middle = max((place for place in ends if 2 * place <= end), default=ends[0])
        rest = replace(rest, body=rest.body[middle:].lstrip())


def window_with(
    target: str, task: Task, tokenizer: PreTrainedTokenizerBase, prompt: Prompt, max_tokens: int
) -> Prompt:
    """What an adapter learns from: the first window that holds the target, the first of all if none does."""
    if not task.is_windowed:
        return prompt
    found = windows(tokenizer, prompt, max_tokens)
    return next((window for window in found if target in window.body), found[0])
