"""A task as data: prompt, parser, scorers, limits, card, other prompts for the base, rows of another domain."""

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

    ``target`` is what the base is trained to emit; ``references`` are the answers that ``Task.answer(output)``
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


@dataclass(frozen=True, slots=True)
class PromptVariant:
    """One more way to ask the bare base, which never saw the task's prompt; an adapter is always asked in that."""

    name: str
    """As reports call it."""
    prompt: Callable[[Inputs], Prompt]
    spellings: Mapping[str, str] = field(default_factory=dict)
    """Label -> the word that stands for it in this prompt; empty: the labels themselves."""


@dataclass(frozen=True, slots=True)
class CardExample:
    """A text written by hand, no row of a data set, so that it may be printed anywhere."""

    inputs: Inputs
    expected: str
    """What a person would answer; one of several where the task writes freely."""


@dataclass(frozen=True, slots=True)
class DataSize:
    """Rows and mean tokens of a training set, counted with T5's tokenizer on up to 600 rows."""

    num_rows: int
    source_tokens: int
    target_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CardInfo:
    """What the model cards of a task's adapters say beside their numbers."""

    pipeline_tag: str = ""
    """The Hub's name of the task; empty: text-classification for tasks with labels, else text-generation."""
    limits: str = "It was made and tested on its publisher's rows; on other texts its answers are less reliable."
    """Known weaknesses, in plain words."""
    sample_inputs: Inputs = field(default_factory=dict)
    """A value for every input column, for the code in the card; "your <column>" where none is given."""
    examples: tuple[CardExample, ...] = ()
    """Answered by adapter and base at the end of a training run; of tasks with labels, one for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfDomain:
    """Rows of another data set, where a task's labels stand for those of another: does training help there?"""

    name: str
    """Folder of the answers in a comparison."""
    title: str
    """Heading of its picture and its part of the page."""
    about: str
    """How labels are mapped, in words for readers."""
    task: Task
    """What the bare base is asked directly; its labels are what is scored."""
    dataset: str
    """Hub dataset id; its local copy is found as that of a recipe."""
    config: str = "default"
    """Hub config (subset) name."""
    splits: tuple[str, ...] = ("test", "validation", "train")
    """The first of them that is at hand is used: no adapter learns from any of them."""
    seen_by_mini: tuple[str, ...] = ()
    """Splits that `mini` read with their labels in its pre-training; reports say so."""
    label_map: Mapping[str, str]
    """Label of the task -> label of the other one; a label that is not named counts for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Everything that makes one task: prompt, parser, metrics, generation limits, and what cards and reports say.

    Raise ``version`` when the prompt, the parser or the labels change: manifests carry it and an adapter
    trained on another version is refused at load.
    """

    name: str
    version: int
    summary: str
    """One line for listings."""
    inputs: tuple[str, ...]
    """Columns a user gives at inference time; a plain string stands for the first one of a one-input task."""
    optional_inputs: tuple[str, ...] = ()
    """Columns that may come along: the character at which an answer stands (SQuAD's ``answer_start``)."""
    columns: tuple[str, ...]
    """Columns a row must have for training and evaluation (inputs and answers, the Hub's own names)."""
    prompt: Callable[[Inputs], Prompt]
    """Inputs -> what the base reads. The one code path of training and serving."""
    examples: Callable[[Row], list[Example]]
    """A row -> zero or more examples (paraphrase: positives only, both directions). Raises DataError."""
    parse: Callable[[str], str] = str.strip
    """Decoded output -> answer, total: never raises."""
    restore: Callable[[str, Inputs], str] | None = None
    """A parsed answer in the inputs' own words, where the prompt has others (summarization: speakers' names). A
    function of the inputs alone, as the prompt is; total."""
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
    native: Task | None = None
    """The same task in every text's own script, where the task romanises: for tokenizers that have Devanagari."""
    swap: Callable[[Inputs], Inputs] | None = None
    """For symmetric tasks: the same question the other way round. Training reads both, evaluation compares."""
    propose: Callable[[str], list[Inputs]] | None = None
    """A text alone -> inputs that could be asked of it, in its order: the text, and last what was found in it
    (question-generation: an answer)."""
    answer_labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """Column -> the labels that its values stand for, where that is not the one column beside the inputs of a task
    with labels (paraphrase: which pairs are positives)."""
    public_data: DataSize | None = None
    """Of the data set that the task's recipe names, so that `doctor` can say offline what training would take."""
    card: CardInfo = field(default=CardInfo(), hash=False)
    """What model cards say of it."""
    prompt_variants: tuple[PromptVariant, ...] = field(default=(), hash=False)
    """Other ways to ask the bare base, so that it is compared at its best (`all_prompts`)."""
    augment: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """What `data.augment` may name: a way to write a row otherwise -> the columns that it rewrites together. Only
    ways that reach the base through the prompt. Of extractive tasks ``answers`` go along with their context."""
    out_of_domain: tuple[OutOfDomain, ...] = field(default=(), hash=False)
    """Further comparisons of base and adapter, where their rows are at hand."""

    def answer(self, output: str, inputs: Inputs) -> str:
        """What the model wrote, as the answer to these inputs: parsed, then in their own words."""
        answer = self.parse(output)
        return answer if self.restore is None else self.restore(answer, inputs)

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


OWN_PROMPT = "the task's own prompt"


def all_prompts(task: Task) -> tuple[PromptVariant, ...]:
    """Ways to ask the bare base: the task's own prompt first, then its variants."""
    return (PromptVariant(OWN_PROMPT, task.prompt), *task.prompt_variants)


def card_examples(task: Task) -> list[Example]:
    """The examples of the task's card in its own prompt; none for a task without."""
    return [
        Example(str(key), task.prompt(item.inputs), item.expected, (item.expected,), item.inputs)
        for key, item in enumerate(task.card.examples)
    ]


_PROBES = (
    "The parcel came a day late and one corner was torn.",
    "Thank you for the quick help this morning!",
    "In 1998 she moved to Oslo, where she opened a small bakery.",
)


def probe_examples(task: Task) -> list[Example]:
    """Inputs to compare two models on: the card's examples, else plain sentences in every input."""
    inputs = [dict.fromkeys(task.inputs, text) for text in _PROBES]
    plain = [Example(str(key), task.prompt(given), "", (), given) for key, given in enumerate(inputs)]
    return card_examples(task) or plain
