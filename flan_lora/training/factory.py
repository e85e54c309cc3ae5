"""The main job in one function: recipe -> rows -> lint -> base -> train -> evaluate -> card -> publish.

Composes the modules above it; every step is theirs. Only the command line stands below.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from flan_lora.adapters.card import card
from flan_lora.adapters.figures import LIGHT, has_matplotlib, training_curve
from flan_lora.adapters.manifest import CalibrationRecord, ExampleRecord, dump, portable_recipe
from flan_lora.adapters.peft_loader import load_adapter
from flan_lora.adapters.store import Store
from flan_lora.adapters.training_log import log_text
from flan_lora.adapters.validation import CARD, LOG, METRICS, PICTURE, StoredAdapter, check_name
from flan_lora.base.load import Base, base_slug, open_base, open_config, open_tokenizer
from flan_lora.data.encoding import encode_split
from flan_lora.data.lint import lint_splits
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import ROLES, Split, load_split, load_whole_file, max_rows_of
from flan_lora.errors import AdapterError, DataError, RecipeError
from flan_lora.evaluation.calibration import calibration_of, fit_temperature, tempered
from flan_lora.evaluation.evaluate import Evaluation, evaluate, evaluate_baselines
from flan_lora.evaluation.predict import label_probabilities, predict
from flan_lora.evaluation.predictions import write_predictions
from flan_lora.recipe import Recipe, Role, apply_overrides, parse_recipe
from flan_lora.system.files import disk_errors
from flan_lora.tasks import TASKS
from flan_lora.tasks.task import Task, card_examples
from flan_lora.training.checks import check_lora, check_places, check_prompts
from flan_lora.training.distributed import is_main_process
from flan_lora.training.estimate import Estimate, Shape, estimate, trainable_parameters
from flan_lora.training.record import Evaluations, FinishedRun, Rows
from flan_lora.training.run_dir import Origin, Run, can_resume, resume_run, sole_use, start_run
from flan_lora.training.trainer import TrainedAdapter, restore, train

Echo = Callable[[str], None]
_GO_ON = (
    "Make room or give write permission, then give the same command with --resume: it goes on from the last whole "
    "checkpoint."
)


def build_adapter(
    recipe: Recipe,
    source: DataSource,
    *,
    adapters_dir: Path,
    run_dir: Path,
    resume: bool = False,
    report_to: str = "none",
    echo: Echo = print,
) -> Path:
    """Train, evaluate and publish the adapter of a recipe; return its folder.

    Under ``accelerate launch`` every process trains; the first one evaluates and publishes.

    Args:
        adapters_dir: the adapter goes to <adapters_dir>/<base slug>/<recipe name>.
        run_dir: checkpoints and logs; what an earlier run left there is kept beside it.
        resume: go on from the last whole checkpoint in ``run_dir``.
        report_to: trackers of the Trainer, comma separated, or none.
        echo: gets one line per stage.

    Raises:
        BusyError: another process trains in ``run_dir``.
        FlanLoraError: whatever the user can fix, from any stage; nothing is published then.
    """
    check_places(recipe, adapters_dir, run_dir)  # before the work, not after it
    check_lora(recipe, open_config(recipe.base))
    is_main = is_main_process()
    with sole_use(run_dir) if is_main else nullcontext():
        return _build(
            recipe,
            source,
            adapters_dir,
            run_dir,
            resume=resume,
            report_to=report_to,
            say=echo if is_main else None,
        )


def _build(
    recipe: Recipe,
    source: DataSource,
    adapters_dir: Path,
    run_dir: Path,
    *,
    resume: bool,
    report_to: str,
    say: Echo | None,
) -> Path:
    """`build_adapter` by the one process that may, or by one that only trains along (without ``say``)."""
    is_main, say = say is not None, say or _silent
    rows = prepare_rows(recipe, source)
    rows.lint.raise_if_errors()
    for line in (*rows.lint.problems, *rows.lint.notes):
        say(str(line))
    base = open_base(recipe.base)
    check_places(recipe, adapters_dir, run_dir, trainable_parameters(Shape.of(base.model.config), recipe.lora))
    say(_introduction(recipe, base, rows))
    origin = Origin(base.fingerprint, rows.splits["train"].content_hash)
    with disk_errors(f"the run folder {run_dir}"):
        run = open_run(run_dir, recipe, origin, resume=resume, is_main=is_main)
    with disk_errors(f"the run in {run_dir}", _GO_ON):
        trained = train_or_restore(recipe, base, rows, run, resume=resume, report_to=report_to)
        if not is_main:
            return adapters_dir / base.slug / recipe.name
        say(f"trained {trained.num_steps:,} steps in {trained.seconds:.0f} s, best at step {trained.best_step:,}")
        evaluations = evaluate_all(recipe, base, trained, rows, run)
        path = publish(FinishedRun(recipe, source, base, rows, trained, evaluations), adapters_dir, run)
    shutil.rmtree(run.checkpoints_dir, ignore_errors=True)  # published: nothing is left to resume
    say(_conclusion(recipe, evaluations, path))
    return path


def is_published(recipe: Recipe, source: DataSource, adapters_dir: Path) -> bool:
    """Whether the store holds this very adapter: same recipe, training rows, prompt and base.

    Raises:
        FlanLoraError: rows or base are not to be had.
    """
    store = Store(adapters_dir / base_slug(recipe.base))
    try:
        stored = store.open(recipe.name)
        is_same = stored.recipe.resolved() == portable_recipe(recipe.resolved())
    except (AdapterError, RecipeError):
        return False
    manifest = stored.manifest
    if not is_same or manifest.data.kind != source.kind:
        return False
    return _origin(recipe, source) == Origin(manifest.base.fingerprint, manifest.data.content_hash)


def is_resumable(recipe: Recipe, source: DataSource, run_dir: Path) -> bool:
    """Whether a run of this recipe was cut off in `run_dir`, on this base and these training rows.

    Raises:
        FlanLoraError: rows or base are not to be had.
    """
    return can_resume(run_dir, recipe) and Run(run_dir).is_of(_origin(recipe, source))


def _origin(recipe: Recipe, source: DataSource) -> Origin:
    """What a run of the recipe would stand on now."""
    train = load_split(recipe, "train", source, max_rows=max_rows_of(recipe, "train"))
    return Origin(open_base(recipe.base).fingerprint, train.content_hash)


def plan(recipe: Recipe, source: DataSource) -> Estimate:
    """What training would take, from rows and shapes alone: loads no weights. Raises what training would."""
    check_name(recipe.name)
    config = open_config(recipe.base)
    check_lora(recipe, config)
    rows = prepare_rows(recipe, source)
    rows.lint.raise_if_errors()
    return estimate(recipe, config, rows.train)


def reevaluate(
    stored: StoredAdapter,
    source: DataSource,
    *,
    role: Role | None = "test",
    base: str | None = None,
    base_only: bool = False,
    overrides: Sequence[str] = (),
) -> Evaluation:
    """Score a published adapter, or the bare base under its prompt and limits, on the rows of its own recipe.

    Args:
        role: None scores every row of a user's file, which is then not divided.
        base: another name or place of the same base (a local copy, say); the fingerprint still decides.
        overrides: ``data.columns.text=body`` and other fields of data and evaluation, as training takes them.

    Raises:
        FlanLoraError: rows or base are not to be had, or the adapter does not fit the base.
    """
    recipe = reading_recipe(stored, overrides)
    split, notes = _split_to_score(stored, recipe, source, role, overrides)
    loaded = stored.open_base(base)
    model = load_adapter(loaded.model, stored, fingerprint=loaded.fingerprint)
    if not base_only:
        evaluation = _evaluate(recipe, loaded, model, split, stored.name)
    else:
        with model.disable_adapter():
            evaluation = _evaluate(recipe, loaded, model, split, "base")
    return replace(evaluation, notes=(*evaluation.notes, *notes, _limits(recipe, base_only=base_only)))


def reading_recipe(stored: StoredAdapter, overrides: Sequence[str]) -> Recipe:
    """An adapter's recipe with other columns, limits or rows; what its weights stand on cannot be set.

    Raises:
        RecipeError: an override is not valid, or not of data or evaluation.
    """
    for override in overrides:
        if not override.strip().startswith(("data.", "evaluation.")):
            raise RecipeError(
                f"--set {override}: only fields of data and evaluation can be set for an adapter that is trained, "
                "e.g. data.columns.text=body."
            )
    return parse_recipe(apply_overrides(stored.manifest.recipe, overrides), where=f"{stored.name} with --set")


def _split_to_score(
    stored: StoredAdapter, recipe: Recipe, source: DataSource, role: Role | None, overrides: Sequence[str]
) -> tuple[Split, list[str]]:
    """The rows, and what should be known of them."""
    if role is not None or source.kind != "file":
        role = role or "test"
        return load_split(recipe, role, source, max_rows=max_rows_of(recipe, role)), []
    is_limited = any(override.strip().startswith("evaluation.max_test_rows=") for override in overrides)
    split = load_whole_file(recipe, source, max_rows=recipe.evaluation.max_test_rows if is_limited else None)
    if not _learnt_from(stored, source):
        return split, []
    return split, ["the adapter was trained on rows of this very file; --split test scores those it has not seen"]


def _learnt_from(stored: StoredAdapter, source: DataSource) -> bool:
    """Whether the adapter's own division of the file gives its training rows."""
    if stored.manifest.data.kind != "file":
        return False
    try:
        train = load_split(stored.recipe, "train", source, max_rows=max_rows_of(stored.recipe, "train"))
    except DataError:  # other columns, or too few rows to divide: another file
        return False
    return train.content_hash == stored.manifest.data.content_hash


def _limits(recipe: Recipe, *, base_only: bool) -> str:
    """How the model was asked."""
    task, beams = TASKS[recipe.task], recipe.evaluation.num_beams
    who = "the bare base, asked as the adapter is" if base_only else "asked"
    search = f"{beams} beams" if beams > 1 else "greedy"
    labels = ", labels only" if task.labels and recipe.evaluation.constrained else ""
    return f"{who}: {recipe.data.max_source_tokens} source and {task.max_new_tokens} new tokens, {search}{labels}"


def prepare_rows(recipe: Recipe, source: DataSource) -> Rows:
    """Load, encode (cached) and lint the three roles."""
    tokenizer = open_tokenizer(recipe.base)
    splits = {role: load_split(recipe, role, source, max_rows=max_rows_of(recipe, role)) for role in ROLES}
    check_prompts(recipe, splits, tokenizer)
    encoded = encode_split(splits["train"], recipe, tokenizer)
    return Rows(
        splits=splits,
        train=encoded,
        validation=encode_split(splits["validation"], recipe, tokenizer),
        lint=lint_splits(recipe, splits, encoded, tokenizer),
    )


def open_run(run_dir: Path, recipe: Recipe, origin: Origin, *, resume: bool, is_main: bool) -> Run:
    """The run's folder; of several processes only the first makes it."""
    if resume:
        return resume_run(run_dir, recipe, origin)
    return start_run(run_dir, recipe, origin) if is_main else Run(run_dir)


def train_or_restore(
    recipe: Recipe, base: Base, rows: Rows, run: Run, *, resume: bool, report_to: str
) -> TrainedAdapter:
    """Train, or pick up an adapter whose training had ended before the run was cut off."""
    if resume and run.done_path.is_file():
        return restore(recipe, base, run)
    return train(
        recipe,
        base,
        rows.train,
        rows.splits["validation"],
        rows.validation,
        run=run,
        resume=resume,
        report_to=report_to,
    )


def evaluate_all(recipe: Recipe, base: Base, trained: TrainedAdapter, rows: Rows, run: Run) -> Evaluations:
    """Score adapter, bare base and baselines on test, once; predictions are saved in the run's folder."""
    task, test = TASKS[recipe.task], rows.splits["test"]
    adapter = _evaluate(recipe, base, trained.peft_model, test, recipe.name)
    with trained.peft_model.disable_adapter():
        bare = _evaluate(recipe, base, trained.peft_model, test, "base")
        bare_answers = _answer_card_examples(recipe, base, trained.peft_model)
    examples = _examples(task, _answer_card_examples(recipe, base, trained.peft_model), bare_answers)
    baselines = evaluate_baselines(task, rows.splits["train"], test)
    for evaluation in (adapter, bare, *baselines.values()):
        write_predictions(run.path / "predictions" / f"{evaluation.name}.jsonl", evaluation.predictions)
    return Evaluations(adapter, bare, baselines, examples, _calibration(recipe, base, trained, rows))


def publish(finished: FinishedRun, adapters_dir: Path, run: Run) -> Path:
    """Write log, metrics, picture and card beside the staged weights, then hand the folder to the store."""
    manifest, metrics, staged_dir = finished.manifest(), finished.metrics(), finished.trained.staged_dir
    log = run.read_log()
    (staged_dir / LOG).write_text(log_text(log), encoding="utf-8")
    has_picture = has_matplotlib()  # an extra: without it the card goes without its picture
    if has_picture:
        (staged_dir / PICTURE).write_bytes(training_curve(log, finished.recipe.select_on).png[LIGHT.name])
    (staged_dir / METRICS).write_text(dump(metrics), encoding="utf-8")
    text = card(manifest, metrics, picture=PICTURE if has_picture else None)
    (staged_dir / CARD).write_text(text, encoding="utf-8")
    store = Store(adapters_dir / finished.base.slug)
    return store.publish(staged_dir, manifest, weights_sha256=finished.trained.weights_sha256)


def _evaluate(recipe: Recipe, base: Base, model: torch.nn.Module, split: Split, name: str) -> Evaluation:
    return evaluate(
        model,
        base.tokenizer,
        TASKS[recipe.task],
        split,
        evaluation=recipe.evaluation,
        max_source_tokens=recipe.data.max_source_tokens,
        name=name,
        progress=True,
    )


def _calibration(recipe: Recipe, base: Base, trained: TrainedAdapter, rows: Rows) -> CalibrationRecord | None:
    """A temperature for the adapter's labels, fitted on validation and tried on test."""
    if not TASKS[recipe.task].labels or not recipe.evaluation.constrained:
        return None  # nobody is ever given probabilities of labels
    (known, wanted), (found, truths) = (
        _label_probabilities(recipe, base, trained, rows.splits[role]) for role in ("validation", "test")
    )
    if not known:
        return None
    temperature = fit_temperature(known, wanted)
    return CalibrationRecord(
        temperature=temperature,
        num_rows=len(known),
        ece_before=calibration_of(found, truths).error,
        ece_after=calibration_of([tempered(row, temperature) for row in found], truths).error,
    )


def _label_probabilities(
    recipe: Recipe, base: Base, trained: TrainedAdapter, split: Split
) -> tuple[list[dict[str, float]], list[str]]:
    """Of each row, and its true label."""
    found = label_probabilities(
        trained.peft_model,
        base.tokenizer,
        TASKS[recipe.task],
        split.examples,
        batch_size=recipe.evaluation.batch_size,
        max_source_tokens=recipe.data.max_source_tokens,
    )
    return found, [example.references[0] for example in split.examples]


def _answer_card_examples(recipe: Recipe, base: Base, model: torch.nn.Module) -> list[str]:
    """The examples of the task's card, answered as test rows are."""
    return predict(
        model,
        base.tokenizer,
        TASKS[recipe.task],
        card_examples(TASKS[recipe.task]),
        evaluation=recipe.evaluation,
        max_source_tokens=recipe.data.max_source_tokens,
    )


def _examples(task: Task, adapter: Sequence[str], bare: Sequence[str]) -> tuple[ExampleRecord, ...]:
    return tuple(
        ExampleRecord(inputs=dict(item.inputs), expected=item.expected, adapter=own, base=other)
        for item, own, other in zip(task.card.examples, adapter, bare, strict=True)
    )


def _introduction(recipe: Recipe, base: Base, rows: Rows) -> str:
    return (
        f"{recipe.name}: {len(rows.train):,} training examples, {rows.splits['train'].origin}\n"
        + "".join(f"  also {addition}\n" for addition in rows.splits["train"].also)
        + f"base {base.slug} on {base.device_reason}"
    )


def _conclusion(recipe: Recipe, evaluations: Evaluations, path: Path) -> str:
    """The score that matters, beside what it must beat."""
    key = recipe.select_on
    score = evaluations.adapter.scores[key]
    beside = {"bare base": evaluations.base, **evaluations.baselines}
    others = ", ".join(f"{name} {item.scores[key].value:.4g}" for name, item in beside.items())
    return (
        f"{key} on {evaluations.adapter.num_rows:,} test examples: {score.value:.4g} "
        f"(95 % interval {score.low:.4g} to {score.high:.4g}); {others}\n"
        + "".join(f"{note}\n" for note in evaluations.adapter.notes)
        + f"published {path}"
    )


def _silent(line: str) -> None:
    """Says nothing: the other processes of a distributed run."""
