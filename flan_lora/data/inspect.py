"""What the model will see: decoded prompts, token lengths, truncated shares, label balance. Changes nothing."""

from __future__ import annotations

import math
import random
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flan_lora.data.encoding import EncodedSplit, encode_split
from flan_lora.data.mixing import Addition
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import ROLES, Split, load_split, max_rows_of
from flan_lora.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Lengths:
    """Token counts before anything is cut, eos included; percentiles by nearest rank."""

    p50: int
    p90: int
    p95: int
    p99: int
    max: int
    limit: int
    """data.max_source_tokens or data.max_target_tokens."""
    truncated_share: float
    """Share of the texts that the limit cuts."""


@dataclass(frozen=True, slots=True)
class ShownExample:
    """One example as the model sees it: decoded from its ids, so lost characters show as <unk>."""

    key: str
    source: str
    target: str
    references: tuple[str, ...]
    num_source_tokens: int
    num_dropped_tokens: int


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """One role in numbers."""

    role: str
    num_rows: int
    num_examples: int
    origin: str
    also: tuple[Addition, ...] = ()
    """What auxiliary sources added to train."""


@dataclass(frozen=True)
class Inspection:
    """The training split of a recipe, looked at; ``str`` is the text that `flan-lora data inspect` prints."""

    recipe: str
    splits: tuple[SplitSummary, ...]
    examples: tuple[ShownExample, ...]
    source_tokens: Lengths
    target_tokens: Lengths
    unk_share_source: float
    unk_share_target: float
    label_shares: dict[str, float]
    """Share of each label among the training examples, in the task's order; empty for generation."""

    def __str__(self) -> str:
        parts = [
            "\n".join(_shown(example) for example in self.examples),
            "\n".join(line for summary in self.splits for line in _summary_lines(summary)),
            self._lengths_table(),
            "\n".join(
                f"{label:<11}{share:>7.1%} of training targets" for label, share in self.label_shares.items()
            ),
        ]
        return "\n\n".join(part for part in parts if part)

    def _lengths_table(self) -> str:
        lines = ["tokens         p50    p90    p95    p99    max  limit  truncated   <unk>"]
        rows = (
            ("source", self.source_tokens, self.unk_share_source),
            ("target", self.target_tokens, self.unk_share_target),
        )
        for name, n, unk_share in rows:
            counts = "".join(f"{count:>7}" for count in (n.p50, n.p90, n.p95, n.p99, n.max, n.limit))
            lines.append(f"{name:<11}{counts}  {n.truncated_share:>9.1%}  {unk_share:>6.2%}")
        return "\n".join(lines)


def inspect(
    recipe: Recipe, source: DataSource, tokenizer: PreTrainedTokenizerBase, num_examples: int = 3
) -> Inspection:
    """Load the recipe's three roles and look at train, with the tokenizer of the base.

    Args:
        num_examples: prompts to show, a seeded sample (training.seed).

    Raises:
        DataError: rows cannot be found, read, divided or used by the task.
    """
    splits = {role: load_split(recipe, role, source, max_rows=max_rows_of(recipe, role)) for role in ROLES}
    train = splits["train"]
    encoded = encode_split(train, recipe, tokenizer)
    numbers = list(range(len(encoded)))
    shown = sorted(random.Random(recipe.training.seed).sample(numbers, min(num_examples, len(encoded))))
    return Inspection(
        recipe=recipe.name,
        splits=tuple(SplitSummary(s.role, s.num_rows, len(s.examples), s.origin, s.also) for s in splits.values()),
        examples=tuple(_show(train, encoded, number, tokenizer) for number in shown),
        source_tokens=measure(encoded.input_ids, encoded.source_dropped, recipe.data.max_source_tokens),
        target_tokens=measure(encoded.labels, encoded.target_dropped, recipe.data.max_target_tokens),
        unk_share_source=encoded.unk_share_source,
        unk_share_target=encoded.unk_share_target,
        label_shares=label_shares(train, recipe.task_definition.labels),
    )


def measure(rows: Sequence[Sequence[int]], dropped: Sequence[int], limit: int) -> Lengths:
    """Lengths of one side of an encoded split, before the cut."""
    full = sorted(len(ids) + count for ids, count in zip(rows, dropped, strict=True))
    p50, p90, p95, p99 = (percentile(full, share) for share in (0.5, 0.9, 0.95, 0.99))
    truncated_share = sum(1 for count in dropped if count) / len(full)
    return Lengths(p50, p90, p95, p99, full[-1], limit, truncated_share)


def percentile(ordered: Sequence[int], share: float) -> int:
    """Nearest rank: the smallest value that at least ``share`` of the ascending values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def label_shares(split: Split, labels: Sequence[str]) -> dict[str, float]:
    """Share of each label among the targets of a split; 0 for one that never occurs, {} without labels."""
    counts = Counter(example.target for example in split.examples)
    return {label: counts[label] / len(split.examples) for label in labels}


def _show(split: Split, encoded: EncodedSplit, number: int, tokenizer: PreTrainedTokenizerBase) -> ShownExample:
    example, item = split.examples[number], encoded[number]
    return ShownExample(
        key=example.key,
        source=tokenizer.decode(item["input_ids"]),
        target=tokenizer.decode(item["labels"]),
        references=example.references,
        num_source_tokens=len(item["input_ids"]),
        num_dropped_tokens=encoded.source_dropped[number],
    )


def _summary_lines(summary: SplitSummary) -> list[str]:
    first = f"{summary.role:<11}{summary.num_examples:>7} examples  {summary.origin}"
    return [first, *(f"{'':>28}also {addition}" for addition in summary.also)]


def _shown(example: ShownExample) -> str:
    """One example for a terminal: source and target, wrapped."""
    cut = f", {example.num_dropped_tokens} cut" if example.num_dropped_tokens else ""
    texts = (("source", example.source), ("target", example.target))
    lines = [f"{example.key} ({example.num_source_tokens} tokens{cut})"]
    for name, text in texts:
        lines.append(textwrap.fill(text, 100, initial_indent=f"  {name}  ", subsequent_indent=" " * 10))
    return "\n".join(lines)
