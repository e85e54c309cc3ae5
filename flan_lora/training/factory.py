"""The main job in one function: recipe -> rows -> lint -> base -> train -> evaluate -> card -> publish.

Composes the modules above it; every step is theirs. Only the command line stands below.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flan_lora.adapters.card import card
from flan_lora.adapters.figures import LIGHT, has_matplotlib, training_curve
from flan_lora.adapters.manifest import dump, portable_recipe
from flan_lora.adapters.remote_store import store_at
from flan_lora.adapters.training_log import log_text
from flan_lora.adapters.validation import CARD, LOG, METRICS, PICTURE, check_name
from flan_lora.base.architecture import for_base
from flan_lora.base.load import Base, base_slug, open_base, open_config, open_tokenizer
from flan_lora.data.encoding import AugmentedRows, encode_afresh, encode_split
from flan_lora.data.lint import lint_splits
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import ROLES, augmented_train, load_split, max_rows_of
from flan_lora.errors import AdapterError, RecipeError
from flan_lora.recipe import Recipe
from flan_lora.system.files import disk_errors
from flan_lora.training.cards import CardPlan, plan_cards
from flan_lora.training.checks import check_lora, check_places, check_prompts
from flan_lora.training.distributed import is_main_process
from flan_lora.training.estimate import Estimate, Lengths, Shape, estimate, trainable_parameters
from flan_lora.training.evaluations import evaluate_all
from flan_lora.training.record import Evaluations, FinishedRun, Rows
from flan_lora.training.run_dir import Origin, Run, can_resume, resume_run, sole_use, start_run
from flan_lora.training.trainer import TrainedAdapter, restore, train

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, TrainerCallback

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
    recipe = on_its_base(recipe)
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
    store = store_at(adapters_dir / base_slug(recipe.base))
    recipe = on_its_base(recipe)
    try:
        stored = store.open(recipe.name)
        wanted = Recipe.model_validate(portable_recipe(recipe.resolved()))
        is_same = stored.recipe.fingerprint() == wanted.fingerprint()
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
    recipe = on_its_base(recipe)
    return can_resume(run_dir, recipe) and Run(run_dir).is_of(_origin(recipe, source))


def _origin(recipe: Recipe, source: DataSource) -> Origin:
    """What a run of the recipe would stand on now."""
    train = load_split(recipe, "train", source, max_rows=max_rows_of(recipe, "train"))
    return Origin(open_base(recipe.base).fingerprint, train.content_hash)


@dataclass(frozen=True)
class Plan:
    """What a run would take here, and on cards of usual sizes."""

    here: Estimate
    cards: tuple[CardPlan, ...]

    def __str__(self) -> str:
        cards = "\n".join(f"{f'{card.card_gb} GB card':<18}  {card}" for card in self.cards)
        return f"{self.here}\n{cards}"


def plan(recipe: Recipe, source: DataSource) -> Plan:
    """What training would take, from rows and shapes alone: loads no weights. Raises what training would."""
    check_name(recipe.name)
    recipe = on_its_base(recipe)
    rows = prepare_rows(recipe, source)
    rows.lint.raise_if_errors()
    config, lengths = open_config(recipe.base), Lengths.of(rows.train)
    return Plan(estimate(recipe, config, lengths), plan_cards(recipe, config, lengths))


def on_its_base(recipe: Recipe) -> Recipe:
    """The recipe with what depends on the base spelled out; loads no weights.

    Raises:
        TrainingError: the base lacks linears that it names.
    """
    config = open_config(recipe.base)
    check_lora(recipe, config)
    return for_base(recipe, config, open_tokenizer(recipe.base))


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
        augmented=_augmented(recipe, source, tokenizer, len(encoded)) if recipe.data.augment else None,
    )


def _augmented(
    recipe: Recipe, source: DataSource, tokenizer: PreTrainedTokenizerBase, num_rows: int
) -> AugmentedRows:
    """The training rows as each epoch writes them; encoded when the epoch begins."""
    rows_of = augmented_train(recipe, source)
    return AugmentedRows(num_rows, lambda epoch: encode_afresh(rows_of(epoch), recipe, tokenizer))


def open_run(run_dir: Path, recipe: Recipe, origin: Origin, *, resume: bool, is_main: bool) -> Run:
    """The run's folder; of several processes only the first makes it."""
    if resume:
        return resume_run(run_dir, recipe, origin)
    return start_run(run_dir, recipe, origin) if is_main else Run(run_dir)


def train_or_restore(
    recipe: Recipe,
    base: Base,
    rows: Rows,
    run: Run,
    *,
    resume: bool,
    report_to: str,
    callbacks: Sequence[TrainerCallback] = (),
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
        augmented=rows.augmented,
        callbacks=callbacks,
    )


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
    store = store_at(adapters_dir / finished.base.slug)
    return store.publish(staged_dir, manifest, weights_sha256=finished.trained.weights_sha256)


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
        + f"published {store_at(path.parent).place}/{path.name}"
    )


def _silent(line: str) -> None:
    """Says nothing: the other processes of a distributed run."""
