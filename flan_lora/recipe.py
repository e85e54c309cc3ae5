"""What makes one adapter special, as data.

Defaults live in the schema, the docstring under each field is its help, and the *resolved* recipe (every field
spelled out) is what a run and a manifest store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from flan_lora.errors import RecipeError
from flan_lora.system.schema import Section, indented, problem_lines
from flan_lora.system.text import shown, suggest
from flan_lora.tasks import TASKS, get_task
from flan_lora.tasks.task import Task, score_names

Role = Literal["train", "validation", "test"]
NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$"
"""Adapter names become folder names: lower-case letters, digits, dot, dash, underscore; no separators."""
MAX_BEAMS = 64
"""Memory and time grow with it; beyond about 10 answers get worse (arXiv:1706.03872)."""

MAX_LENGTH_PENALTY = 5.0
"""Either way. Length alone decides long before that; 16,384 tokens to the power of 10 are more than fp32 holds."""

GENERATION_FIELDS = (
    "num_beams",
    "max_new_tokens",
    "min_new_tokens",
    "length_penalty",
    "early_stopping",
    "repetition_penalty",
    "no_repeat_ngram_size",
)
"""Of `EvaluationSection`: those that `model.generate` takes."""


class BaseSection(Section):
    """The frozen base."""

    model: str = "google/flan-t5-large"
    """Hub id or local folder of a T5-family checkpoint, or `mini`, the embedded base."""
    revision: str | None = None
    """Commit or tag on the Hub; pin it for runs that must repeat. Ignored for `mini` and folders."""
    quantization: Literal["int8", "nf4", "bf16", "fp32"] = "int8"
    """Weights of the frozen linears: int8 (LLM.int8, arXiv:2208.07339), nf4 (arXiv:2305.14314), bf16 or fp32."""
    int8_threshold: float = Field(0.0, ge=0.0)
    """LLM.int8 outlier threshold. 0 keeps every row independent of its neighbours; 6.0 is the paper's value."""
    nf4_double_quant: bool = True
    """Quantise nf4's scales too (double quantisation): 4.13 bits per weight instead of 4.5."""

    def at(self, model: str | None) -> BaseSection:
        """The same base under another name or in another place; None: as it is."""
        return self if model is None else self.model_copy(update={"model": model})


class SplitNames(Section):
    """Which Hub split plays which role. Roles that name the same split divide it between them by `group_by`."""

    train: str = "train"
    """Rows the adapter learns from."""
    validation: str = "validation"
    """Rows that pick the best checkpoint."""
    test: str = "test"
    """Rows that are scored once, at the end."""


class PartnerSection(Section):
    """Rows that have the same ids as those of an auxiliary source, in another language, say."""

    dataset: str
    """Hub dataset id."""
    config: str = "default"
    """Hub config (subset) name."""
    split: str = "train"
    """Hub split name."""
    revision: str | None = None
    """Commit or branch of the dataset on the Hub."""


class AlsoSection(Section):
    """An auxiliary source: more rows for training, never for validation or test."""

    dataset: str
    """Hub dataset id; its local copy is found as that of `data.dataset`."""
    config: str = "default"
    """Hub config (subset) name."""
    split: str = "train"
    """Hub split name. What it shares with validation and test rows (id, text, article) is left out."""
    revision: str | None = None
    """Commit or branch of the dataset on the Hub."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Task column -> the source's column, where they differ."""
    keep: dict[str, str] = Field(default_factory=dict)
    """Column -> how its value begins in the rows to take, e.g. {id: english} of a set of many languages."""
    question_from: PartnerSection | None = None
    """Take the question of the row with the same id there; rows without a partner are left out."""
    max_rows: int | None = Field(None, ge=1)
    """Take at most this many rows (a seeded sample), none = all."""
    optional: bool = False
    """Train without the source where it is not to be had; said once, and recorded in the manifest."""


class DataSection(Section):
    """Rows and their limits."""

    dataset: str
    """Hub dataset id; its local copy is <data root>/<owner>__<name>/<config>/<split>.jsonl."""
    config: str = "default"
    """Hub config (subset) name."""
    revision: str | None = None
    """Commit or branch of the dataset on the Hub, e.g. refs/convert/parquet for script datasets."""
    splits: SplitNames = SplitNames()
    """Split names on the Hub, per role."""
    group_by: str | None = None
    """Column whose equal values stay together when one split serves several roles (an article's title, say)."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Task column -> the column's name in your file, where they differ."""
    encoding: str | None = None
    """Encoding of a text file of yours, e.g. cp1252; none = UTF-8, or what its byte order mark says."""
    romanise: bool | None = None
    """Hindi in Latin letters for the base, and back; none = where its tokenizer lacks Devanagari, as T5's does."""
    also: tuple[AlsoSection, ...] = ()
    """Auxiliary sources of training rows, Hub or local root; with your own file or the sample there are none."""
    augment: tuple[Literal["case", "punctuation", "contractions", "speaker_marks", "emoji", "nukta"], ...] = ()
    """Ways to write a third of the training rows otherwise, drawn anew each epoch: `case`, `punctuation`,
    `contractions` (don't, do n't, dont, do not), `speaker_marks` (of dialogues; half of them without names),
    `emoji` (and hashtags), `nukta` (Devanagari without it). A task takes those that its prompt does not undo."""
    max_train_rows: int | None = Field(None, ge=1)
    """Use at most this many training rows (a seeded sample), those of `also` among them, none = all."""
    max_validation_rows: int | None = Field(400, ge=1)
    """Rows of the regular evaluation during training (a seeded sample), none = all."""
    max_source_tokens: int = Field(512, ge=8, le=4096)
    """Longest source in tokens; the prompt's body is cut to fit and the cut share is reported."""
    max_target_tokens: int = Field(64, ge=2, le=1024)
    """Longest target in tokens, end of sequence included."""

    @field_validator("encoding")
    @classmethod
    def _encoding_exists(cls, encoding: str | None) -> str | None:
        try:
            "x".encode(encoding or "utf-8")
        except (LookupError, ValueError) as error:
            raise ValueError("no text encoding of that name, try cp1252 or utf-16") from error
        return encoding

    @field_validator("columns")
    @classmethod
    def _no_empty_column(cls, columns: dict[str, str]) -> dict[str, str]:
        if not all(columns.values()):
            raise ValueError("a mapped column has an empty name")
        return columns


class LoraSection(Section):
    """The update h = W0 x + (alpha / rank) B A x (LoRA, arXiv:2106.09685, section 4.1)."""

    rank: int = Field(16, ge=1, le=256)
    """Rank r of the update B A. Adapter size in bytes grows linearly with it."""
    alpha: int = Field(32, ge=1, le=16_384)
    """Numerator of the scale alpha / r on the update."""
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Dropout on the input of A, training only; on a CPU it costs a quarter of a step. The base has its own."""
    target_modules: tuple[
        Literal["all-linear", "attention", "q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"], ...
    ] = Field(("all-linear",), min_length=1)
    """Linears of every layer that get an update: names, `attention` (q, k, v, o) or `all-linear`, all of them."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(r) instead (rsLoRA, arXiv:2312.03732)."""
    use_dora: bool = False
    """Weight-decomposed update (DoRA, arXiv:2402.09353): a trained length for each row of W0 + B A."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _one_word(cls, modules: Any) -> Any:
        return (modules,) if isinstance(modules, str) else modules

    @field_validator("target_modules")
    @classmethod
    def _each_once(cls, modules: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(modules)) != len(modules):
            raise ValueError("a module is named twice")
        return modules

    def modules(self, linears: Sequence[str]) -> tuple[str, ...]:
        """The targets by name, each once.

        Args:
            linears: short names of those that the base has, the attention's first.
        """
        groups = {"all-linear": tuple(linears), "attention": ("q", "k", "v", "o")}
        return tuple(dict.fromkeys(name for each in self.target_modules for name in groups.get(each, (each,))))


class TrainingSection(Section):
    """Optimiser, schedule and rhythm. AdamW throughout, as in the source project."""

    learning_rate: float = Field(1e-3, gt=0.0, le=1.0)
    """Peak rate. LoRA's is about ten times that of full fine-tuning (3e-5 in the source project)."""
    loraplus_lr_ratio: float = Field(1.0, ge=1.0, le=1_000.0)
    """Rate of B over that of A, which is `learning_rate` (LoRA+, arXiv:2402.12354); 1 = one rate for both."""
    epochs: float = Field(3.0, gt=0.0, le=10_000.0)
    """Passes over the training rows."""
    max_steps: int | None = Field(None, ge=1, le=1_000_000_000)
    """Stop after this many optimizer steps, overrides epochs."""
    batch_size: int = Field(16, ge=1, le=1_000_000)
    """Examples per optimizer step, over all devices; split into micro batches and accumulated exactly."""
    micro_batch_size: int | None = Field(None, ge=1)
    """Examples per forward pass and device; the dial to turn when memory runs out. None = batch_size / devices."""
    lr_schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Decay after the warm-up."""
    warmup_share: float = Field(0.03, ge=0.0, lt=1.0)
    """Share of the steps over which the rate rises to its peak; each of them has a rate above 0."""
    weight_decay: float = Field(0.0, ge=0.0)
    """AdamW's decoupled weight decay."""
    max_grad_norm: float = Field(1.0, gt=0.0)
    """Clip the global gradient norm to this."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Autocast of the forward pass; auto = bf16 where the hardware has it."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third slower, far less memory."""
    evals_per_epoch: int = Field(2, ge=1, le=10_000)
    """Generation-based evaluations on validation per epoch; each one is also a checkpoint."""
    patience: int | None = Field(4, ge=1)
    """Stop after this many evaluations without a better score; none = never."""
    seed: int = Field(0, ge=0, lt=1 << 32)
    """Seeds A, the dropout, the order of the rows and every sample."""

    @model_validator(mode="after")
    def _micro_divides_batch(self) -> TrainingSection:
        if self.micro_batch_size is not None and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size must divide batch_size "
                f"(got micro_batch_size {self.micro_batch_size}, batch_size {self.batch_size})"
            )
        return self


class EvaluationSection(Section):
    """How validation and test are scored."""

    select_on: str | None = None
    """Score that picks the best checkpoint; none = the task's own."""
    batch_size: int = Field(32, ge=1, le=1_000_000)
    """Sources per generation batch, sorted by length."""
    num_beams: int = Field(1, ge=1, le=MAX_BEAMS)
    """Beams; 1 = greedy."""
    max_new_tokens: int | None = Field(None, ge=1, le=100_000)
    """Tokens of an answer at most, eos included; none = the task's own."""
    min_new_tokens: int = Field(0, ge=0)
    """Tokens before which an answer may not end. This, the penalty and n-grams do nothing to labels."""
    length_penalty: float = Field(1.0, ge=-MAX_LENGTH_PENALTY, le=MAX_LENGTH_PENALTY)
    """Beams only: a finished answer's log-probability is divided by its length to this power."""
    early_stopping: bool | Literal["never"] = False
    """Beams only: end at `num_beams` finished answers (true), or when a better one is unlikely (false) or cannot
    come (never)."""
    repetition_penalty: float = Field(1.0, gt=0, le=100)
    """Tokens that an answer already has are this much less likely (arXiv:1909.05858, section 4.1); 1 = off."""
    no_repeat_ngram_size: int = Field(0, ge=0)
    """No run of so many tokens comes twice in an answer; 0 = off."""
    constrained: bool = True
    """Classification only: decode among the task's labels, so an answer is always a label."""
    max_test_rows: int | None = Field(None, ge=1)
    """Score at most this many test rows (a seeded sample), none = all."""

    @model_validator(mode="after")
    def _least_length_fits(self) -> EvaluationSection:
        if self.max_new_tokens is not None and self.min_new_tokens > self.max_new_tokens:
            least, most = self.min_new_tokens, self.max_new_tokens
            raise ValueError(f"min_new_tokens={least} is more than max_new_tokens={most}")
        return self

    @property
    def generation_params(self) -> dict[str, Any]:
        """How an answer is generated, by transformers' names; no max_new_tokens where it is the task's own."""
        params = {name: getattr(self, name) for name in GENERATION_FIELDS}
        return {name: value for name, value in params.items() if value is not None}


_YOUNGER = (
    ("base", "nf4_double_quant"),
    ("data", "encoding"),
    ("data", "augment"),
    ("training", "loraplus_lr_ratio"),
    *(("evaluation", name) for name in GENERATION_FIELDS if name != "num_beams"),
)
"""Fields that are younger than published adapters, whose recipes must stay theirs."""
_EVERY_T5_LINEAR = ["q", "k", "v", "o", "wi_0", "wi_1", "wo"]
"""What `all-linear` means on most bases, in the words of recipes that are older than it."""


class Recipe(Section):
    """One adapter: which base, which rows, which update, which optimiser."""

    name: str = Field(pattern=NAME_PATTERN, max_length=64)
    """The adapter's name and its folder under adapters/<base>/."""
    task: str
    """Key in flan_lora.tasks.TASKS; fixes prompt, parser and metrics."""
    base: BaseSection = BaseSection()
    """The frozen base."""
    data: DataSection
    """Rows and their limits."""
    lora: LoraSection = LoraSection()
    """The low-rank update."""
    training: TrainingSection = TrainingSection()
    """Optimiser, schedule and rhythm."""
    evaluation: EvaluationSection = EvaluationSection()
    """How validation and test are scored."""

    @field_validator("task")
    @classmethod
    def _task_exists(cls, task: str) -> str:
        if task not in TASKS:
            raise ValueError(f"unknown task{suggest(task, TASKS)}")
        return task

    @model_validator(mode="after")
    def _augment_reaches_the_base(self) -> Recipe:
        known = TASKS[self.task].augment
        if idle := [name for name in self.data.augment if name not in known]:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ValueError(f"data.augment: {', '.join(idle)} changes nothing that {self.task} reads; {has}")
        return self

    @model_validator(mode="after")
    def _select_on_is_a_score(self) -> Recipe:
        chosen, task = self.evaluation.select_on, TASKS[self.task]
        if chosen is None or chosen == task.select_on:
            return self
        if chosen not in (names := score_names(task)):
            raise ValueError(
                f"evaluation.select_on: {shown(chosen)} is no score of {self.task}{suggest(chosen, names)}"
            )
        return self

    def with_base(self, model: str | None) -> Recipe:
        """The same recipe on another base; None: as it is."""
        return self if model is None else self.model_copy(update={"base": self.base.at(model)})

    @property
    def select_on(self) -> str:
        """The score that picks the best checkpoint."""
        return self.evaluation.select_on or TASKS[self.task].select_on

    @property
    def task_definition(self) -> Task:
        """The task, in the script that the base reads."""
        return get_task(self.task, romanise=self.data.romanise is not False)

    def resolved(self) -> dict[str, Any]:
        """Every field spelled out, JSON types only, in schema order."""
        return self.model_dump(mode="json")

    def fingerprint(self) -> str:
        """sha256 (hex) of the resolved recipe: equal exactly when two recipes train the same adapter."""
        values = self.resolved()
        for section, name in _YOUNGER:
            own = getattr(self, section)
            if getattr(own, name) == type(own).model_fields[name].default:
                del values[section][name]
        if values["data"]["romanise"] is not False:  # as every adapter was that is older than the field
            del values["data"]["romanise"]
        if values["lora"]["target_modules"] == ["all-linear"]:
            values["lora"]["target_modules"] = _EVERY_T5_LINEAR
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


class RecipeFile(Recipe):
    """What a YAML file may hold: a recipe, and values that only hold on one base."""

    for_base: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """base.model -> sections merged over the file's when that base is used; `--set` wins over both."""


def parse_recipe(values: Mapping[str, Any], where: str) -> Recipe:
    """Validate plain values; ``where`` names their origin in the error text."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = problem_lines(error, Recipe)
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise RecipeError(f"{where} is not a valid recipe ({count}):\n{indented(problems)}") from error


def resolve(stored: Any) -> Any:
    """A stored resolved recipe in the words of this schema: fields that came since get their defaults.

    Values that are no recipe here stay as they are, so that a comparison can name what differs.
    """
    try:
        return Recipe.model_validate(stored).resolved()
    except ValidationError:
        return stored
