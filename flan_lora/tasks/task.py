"""What a task is: data, not a class tree. Knows texts and labels; never sees a tokenizer or a tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flan_lora.errors import FlanLoraError
from flan_lora.tasks.labels import same_labels
from flan_lora.tasks.scorers import Scorer

Row = Mapping[str, Any]
Inputs = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text the base reads. Only ``body`` may be shortened to fit; ``head`` and ``tail`` always survive."""

    head: str
    body: str
    tail: str = ""

    def __str__(self) -> str:
        return f"{self.head}{self.body}{self.tail}"


@dataclass(frozen=True, slots=True)
class Example:
    """One training or evaluation item.

    ``target`` is what the base is trained to emit; ``references`` are the answers that ``Task.parse(output)``
    is scored against. They differ where the model's spelling is not the user's (romanised Hindi, say).
    """

    key: str
    """Stable within a split, e.g. the row's id; predictions are saved under it."""
    prompt: Prompt
    target: str
    references: tuple[str, ...]
    inputs: Inputs
    """The raw input columns, as a user would give them at inference time."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A trivial predictor to stand beside every score (majority, copy, lead-3, random span)."""

    name: str
    predict: Callable[[Sequence[Example], Sequence[Example]], list[str]]
    """(training examples, examples to predict) -> one answer each; deterministic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Everything that makes one task: prompt, parser, metrics and generation limits.

    Raise ``version`` when the prompt, the parser or the labels change: manifests carry it and an adapter
    trained on another version is refused at load.
    """

    name: str
    version: int
    summary: str
    """One line for listings."""
    inputs: tuple[str, ...]
    """Columns a user gives at inference time; a plain string stands for the first one of a one-input task."""
    columns: tuple[str, ...]
    """Columns a row must have for training and evaluation (inputs and answers, the Hub's own names)."""
    prompt: Callable[[Inputs], Prompt]
    """Inputs -> what the base reads. The one code path of training and serving."""
    examples: Callable[[Row], list[Example]]
    """A row -> zero or more examples (paraphrase: positives only, both directions). Raises DataError."""
    parse: Callable[[str], str] = str.strip
    """Decoded output -> answer, total: never raises."""
    scorers: tuple[Scorer, ...]
    """What the answers are scored by; no two give a score of one name."""
    select_on: str
    """The score that picks the best checkpoint; higher is better."""
    max_new_tokens: int
    windowed: str = ""
    """The input that is read in overlapping windows where a prompt does not fit (`base.sliding_window`); empty:
    the prompt is cut. For tasks whose answer, ``references[0]``, stands somewhere in that input: at the character
    ``inputs["answer_start"]``, if a row says so."""
    found_in: Callable[[Example], tuple[str, str]] | None = None
    """For extractive tasks: an example -> (its answer, the text it should stand in), which the lint compares."""
    labels: tuple[str, ...] = ()
    """For classification: every answer, as the base spells it; empty for generation."""
    baselines: tuple[Baseline, ...] = field(default=())
    swap: Callable[[Inputs], Inputs] | None = None
    """For symmetric tasks: the same question the other way round. Training reads both, evaluation compares."""
    propose: Callable[[str], list[Inputs]] | None = None
    """A text alone -> inputs that could be asked of it, in its order: the text, and last what was found in it
    (question-generation: an answer)."""
    answer_labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """Column -> the labels that its values stand for, where that is not the one column beside the inputs of a task
    with labels (paraphrase: which pairs are positives)."""

    def __post_init__(self) -> None:
        """Raises FlanLoraError for labels that no row could tell apart."""
        for labels in (self.labels, *self.answer_labels.values()):
            if pair := same_labels(labels):
                raise FlanLoraError(
                    f"task {self.name}: the labels {pair[0]!r} and {pair[1]!r} are one to a row's value "
                    "(case, spaces, Unicode form and the way a number is written do not count).\nRename one."
                )

    @property
    def label_columns(self) -> Mapping[str, tuple[str, ...]]:
        """Column -> labels of its values; empty for generation, and where the task does not say which column."""
        if self.answer_labels or not self.labels:
            return self.answer_labels
        columns = [column for column in self.columns if column not in self.inputs]
        return {columns[0]: self.labels} if len(columns) == 1 else {}


def swapped(task: Task, example: Example) -> Example:
    """The example the other way round; for tasks with ``swap`` only."""
    assert task.swap is not None
    inputs = task.swap(example.inputs)
    return replace(example, key=f"{example.key}-swapped", prompt=task.prompt(inputs), inputs=inputs)


def score_names(task: Task) -> tuple[str, ...]:
    """The scores that a checkpoint can be picked by."""
    return tuple(name for scorer in task.scorers for name in scorer.names)
