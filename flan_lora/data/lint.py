"""Is this data worth a training run? Numbers against limits, each with the dial to turn. Reads, never repairs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from flan_lora.data.encoding import EncodedSplit, encode_split
from flan_lora.data.inspect import label_shares, percentile
from flan_lora.data.label_readings import describe_readings
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import ROLES, Split, load_split, max_rows_of
from flan_lora.errors import DataError
from flan_lora.recipe import DataSection, Recipe, Role
from flan_lora.system.text import shorten
from flan_lora.tasks.task import Example, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Limits:
    """Above ``warning`` a check is reported, above ``error`` training does not start; none = never."""

    warning: float | None
    error: float | None


LIMITS: dict[str, Limits] = {
    "target_unk_share": Limits(None, 0.01),  # what the base cannot spell it cannot learn to say
    "source_unk_share": Limits(0.02, 0.20),
    "source_truncated_share": Limits(0.05, 0.50),
    "target_truncated_share": Limits(0.0, 0.05),
    "empty_target_share": Limits(None, 0.0),
    "duplicate_share": Limits(0.0, 0.05),
    "seen_source_share": Limits(0.0, None),  # SAMSum's official splits: 5 %; PAWS sentences: 24 %
    "conflict_share": Limits(0.0, None),
    "absent_answer_share": Limits(0.0, 0.5),
    "markup_share": Limits(0.01, None),
}
"""All shares in [0, 1]."""
MIN_LABEL_SHARE = 0.01
_MARKUP = re.compile(r"&(?:amp|quot|apos|lt|gt|nbsp|#\d{1,5}|#x[0-9a-fA-F]{1,4});|</?(?:br|p|div|li)\s*/?>")
MIN_EXAMPLES = 50
"""Fewer than this many examples teach, or measure, next to nothing."""


@dataclass(frozen=True, slots=True)
class LintProblem:
    """One number on the wrong side of its limit."""

    level: Literal["error", "warning"]
    check: str
    value: float
    limit: float
    remedy: str
    """The dial to turn, or what to change in the rows."""
    text: str
    """What was found, in words."""

    def __str__(self) -> str:
        return f"{self.level:<7}  {self.text}\n         {self.remedy}"


@dataclass(frozen=True)
class LintReport:
    """What the lint found; ``str`` is the text that `flan-lora data lint` prints."""

    problems: tuple[LintProblem, ...]
    notes: tuple[str, ...] = ()
    """What was understood without being wrong: how labels are written."""

    @property
    def errors(self) -> tuple[LintProblem, ...]:
        return tuple(problem for problem in self.problems if problem.level == "error")

    def __str__(self) -> str:
        found = [str(problem) for problem in self.problems] or ["no problems found"]
        return "\n".join([*found, *(f"note     {note}" for note in self.notes)])

    def raise_if_errors(self) -> None:
        """Raises DataError with every problem, warnings included, when there is at least one error."""
        if self.errors:
            count = f"{len(self.errors)} error{'s' if len(self.errors) > 1 else ''}"
            raise DataError(f"the data does not pass the lint ({count}):\n{self}")


def lint(recipe: Recipe, source: DataSource, tokenizer: PreTrainedTokenizerBase) -> LintReport:
    """Load the recipe's three roles and check them; tokens come from the cache that training reads.

    Raises:
        DataError: rows cannot be found, read, divided or used by the task.
    """
    splits = {role: load_split(recipe, role, source, max_rows=max_rows_of(recipe, role)) for role in ROLES}
    return lint_splits(recipe, splits, encode_split(splits["train"], recipe, tokenizer), tokenizer)


def lint_splits(
    recipe: Recipe, splits: Mapping[Role, Split], encoded: EncodedSplit, tokenizer: PreTrainedTokenizerBase
) -> LintReport:
    """Check splits that are loaded already.

    Args:
        splits: at least train; validation and test are checked for size and against train where given.
        encoded: the tokens of train.
    """
    train, labels = splits["train"], recipe.task_definition.labels
    problems = [
        *_check_tokens(train, encoded, recipe.data, tokenizer),
        *_check_lengths(encoded, recipe.data),
        *_check_empty_targets(train, encoded),
        *_check_answers(train, recipe.task_definition),
        *_check_markup(train),
        *_check_sizes(splits.values()),
        *_check_duplicates(train, splits, is_generation=not labels),
    ]
    if labels:
        problems += [*_check_balance(train, labels), *_check_conflicts(train)]
    notes = [
        *(f"column {own_name!r} is read as {name!r}" for name, own_name in train.respelt_columns.items()),
        *describe_readings(train.label_readings, recipe.task_definition),
    ]
    return LintReport(tuple(sorted(problems, key=lambda problem: problem.level)), tuple(notes))


def _check_tokens(
    train: Split, encoded: EncodedSplit, data: DataSection, tokenizer: PreTrainedTokenizerBase
) -> list[LintProblem]:
    """Text that the base's vocabulary cannot hold."""
    problems = []
    sides = (
        ("target", encoded.unk_share_target, (example.target for example in train.examples)),
        ("source", encoded.unk_share_source, (str(example.prompt) for example in train.examples)),
    )
    for side, share, texts in sides:
        found = _above(f"{side}_unk_share", share)
        if found:
            characters = " ".join(_unknown_characters(texts, tokenizer)) or "whole words"
            remedy = f"The base has no pieces for: {characters}. Replace them in the rows, or use another base."
            problems.append(LintProblem(*found, remedy, f"{_percent(share)} of the {side} tokens are <unk>"))
    return problems


def _unknown_characters(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, max_shown: int = 10
) -> list[str]:
    """The most frequent characters that the tokenizer turns into <unk>."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    characters = [character for character, _ in counts.most_common() if not character.isspace()]
    rows = tokenizer(characters, return_attention_mask=False)["input_ids"] if characters else []
    unknown = [c for c, ids in zip(characters, rows, strict=True) if tokenizer.unk_token_id in ids]
    return unknown[:max_shown]


def _check_lengths(encoded: EncodedSplit, data: DataSection) -> list[LintProblem]:
    """Text that the limits cut, with the limit that would pass."""
    problems = []
    sides = (
        ("source", encoded.input_ids, encoded.source_dropped, 0.95, data.max_source_tokens),
        ("target", encoded.labels, encoded.target_dropped, 1.0, data.max_target_tokens),
    )
    for side, rows, dropped, passing_share, limit in sides:
        share = sum(1 for count in dropped if count) / len(rows)
        found = _above(f"{side}_truncated_share", share)
        if found:
            full = sorted(len(ids) + count for ids, count in zip(rows, dropped, strict=True))
            name = f"data.max_{side}_tokens"
            needed = percentile(full, passing_share)
            remedy = f"--set {name}={needed} would pass; or shorten the rows ({_lengths(full)})."
            problems.append(
                LintProblem(*found, remedy, f"{_percent(share)} of the {side}s are cut to {limit} tokens")
            )
    return problems


def _check_empty_targets(train: Split, encoded: EncodedSplit) -> list[LintProblem]:
    """Targets without a single token: the adapter would learn to say nothing."""
    rows = zip(train.examples, encoded.labels, encoded.target_dropped, strict=True)
    empty = [example for example, ids, num_dropped in rows if len(ids) + num_dropped <= 1]
    if not (found := _above("empty_target_share", len(empty) / len(encoded))):
        return []
    text = f"{len(empty)} targets have no token at all"
    return [LintProblem(*found, f"Fill or remove these rows: {_few(empty)}.", text)]


def _check_answers(train: Split, task: Task) -> list[LintProblem]:
    """Extractive answers that stand nowhere in their text: what they are made of is no span that can be found."""
    if task.found_in is None:
        return []
    pairs = [(example, *task.found_in(example)) for example in train.examples]
    absent = [(example, answer) for example, answer, text in pairs if answer.strip() not in text]
    if not (found := _above("absent_answer_share", len(absent) / len(pairs))):
        return []
    shown = ", ".join(f"{shorten(answer, 50)!r} ({example.key})" for example, answer in absent[:3])
    remedy = f"Copy answers from their context, letter by letter: {shown}."
    text = f"{len(absent)} of {len(pairs)} training answers stand nowhere in their context"
    return [LintProblem(*found, remedy, text)]


def _check_markup(train: Split) -> list[LintProblem]:
    """Texts of web pages as they stand in their source: users will not write so."""
    texts = [f"{' '.join(example.inputs.values())} {example.target}" for example in train.examples]
    found = [_MARKUP.findall(text) for text in texts]
    share = sum(map(bool, found)) / len(texts)
    if not (above := _above("markup_share", share)):
        return []
    shown = " ".join(name for name, _ in Counter(each for own in found for each in own).most_common(5))
    remedy = "Turn them into characters (Python: html.unescape(text)), and tags into nothing or a space."
    return [LintProblem(*above, remedy, f"{_percent(share)} of the training examples hold HTML: {shown}")]


def _check_sizes(splits: Iterable[Split]) -> list[LintProblem]:
    """Splits too small to learn from or to measure on."""
    remedies = {"train": "Add rows, or raise data.max_train_rows."}
    other = "Its scores will have wide intervals: add rows, or raise the limit on its rows."
    return [
        LintProblem(
            "warning",
            f"num_{split.role}_examples",
            len(split.examples),
            MIN_EXAMPLES,
            remedies.get(split.role, other),
            f"{split.role} has only {len(split.examples)} examples",
        )
        for split in splits
        if len(split.examples) < MIN_EXAMPLES
    ]


def _check_duplicates(train: Split, splits: Mapping[Role, Split], *, is_generation: bool) -> list[LintProblem]:
    """Examples of validation or test that train has too: their scores would reward memory.

    A label is one of a few, so equal sources are duplicates. In generation a source may come with several
    references; it is a duplicate when its target is equal too, and else only worth knowing.
    """
    problems = []
    targets = _targets_by_source(train)
    remedy = "Remove them from train, or set data.group_by so that equal texts stay together"
    for role in ("validation", "test"):
        examples = splits[role].examples if role in splits else ()
        seen = [example for example in examples if str(example.prompt) in targets]
        twice = [e for e in seen if not is_generation or e.target in targets[str(e.prompt)]]
        others = [e for e in seen if is_generation and e.target not in targets[str(e.prompt)]]
        for check, matches, text in (
            ("duplicate_share", twice, "stand in train too"),
            ("seen_source_share", others, "have a source that train has with another target"),
        ):
            share = len(matches) / max(1, len(examples))
            if found := _above(check, share):
                counted = f"{len(matches)} of {len(examples)} {role} examples ({_percent(share)}) {text}"
                problems.append(LintProblem(*found, f"{remedy}: {_few(matches)}.", counted))
    return problems


def _check_balance(train: Split, labels: Sequence[str]) -> list[LintProblem]:
    """Labels that are missing or rare in train; only one label at all is an error."""
    shares = label_shares(train, labels)
    present = [label for label in labels if shares[label]]
    if len(present) == 1:
        text = f"every training target is {present[0]!r}"
        remedy = f"Add rows of the other labels ({', '.join(name for name in labels if name != present[0])})."
        return [LintProblem("error", "num_labels", 1, 2, remedy, text)]
    return [
        LintProblem(
            "warning",
            f"label_share_{label}",
            share,
            MIN_LABEL_SHARE,
            "Add rows of this label, or expect its F1 to be near 0; macro-F1 counts every label alike.",
            f"label {label!r} is {_percent(share)} of the training targets"
            if share
            else f"label {label!r} is missing",
        )
        for label, share in shares.items()
        if share < MIN_LABEL_SHARE
    ]


def _check_conflicts(train: Split) -> list[LintProblem]:
    """One text, several labels. Classification only: two summaries of one dialogue are no contradiction."""
    targets = _targets_by_source(train)
    torn = [example for example in train.examples if len(targets[str(example.prompt)]) > 1]
    if not (found := _above("conflict_share", len(torn) / len(train.examples))):
        return []
    text = f"{len(torn)} training rows have a twin with another label"
    return [LintProblem(*found, f"Decide on one label for each text: {_few(torn)}.", text)]


def _targets_by_source(split: Split) -> dict[str, set[str]]:
    """Every rendered source with all its targets."""
    targets: defaultdict[str, set[str]] = defaultdict(set)
    for example in split.examples:
        targets[str(example.prompt)].add(example.target)
    return dict(targets)


def _above(check: str, value: float) -> tuple[Literal["error", "warning"], str, float, float] | None:
    """(level, check, value, limit) of the highest limit that ``value`` is above."""
    limits = LIMITS[check]
    if limits.error is not None and value > limits.error:
        return "error", check, value, limits.error
    if limits.warning is not None and value > limits.warning:
        return "warning", check, value, limits.warning
    return None


def _percent(share: float) -> str:
    """A share for people; never rounded to a bare 0."""
    return f"{share:.1%}" if share >= 0.001 else f"{share:.2g}"


def _lengths(ordered: Sequence[int]) -> str:
    """Percentiles of ascending token counts."""
    return f"p50 {percentile(ordered, 0.5)}, p95 {percentile(ordered, 0.95)}, max {ordered[-1]}"


def _few(examples: Sequence[Example], num_shown: int = 3) -> str:
    """The first of many examples, by their input text: many rows have no id to find them by."""
    texts = [shorten(next(iter(example.inputs.values())), 50) for example in examples[:num_shown]]
    more = f" and {len(examples) - num_shown} more" if len(examples) > num_shown else ""
    return ", ".join(map(repr, texts)) + more
