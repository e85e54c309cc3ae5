"""The comparison job in one function: rows -> the base's best wording -> answers of base and adapter -> archive.

Composes the modules above it, as factory does for training; draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from flan_lora.adapters.manifest import installed_versions, utc_now
from flan_lora.adapters.validation import WEIGHTS, StoredAdapter
from flan_lora.base.load import MINI, open_base
from flan_lora.compare import out_of_domain as polarity
from flan_lora.compare.answers import Ask, Contest, Trial
from flan_lora.compare.comparison import Contestant
from flan_lora.compare.results import (
    ContestantRecord,
    ContestRecord,
    ReviewsRecord,
    TrialRecord,
    is_current,
    write_archive,
)
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import Split, load_split, max_rows_of
from flan_lora.errors import DataError
from flan_lora.evaluation.predictions import Prediction
from flan_lora.recipe import Recipe, Role
from flan_lora.system.devices import device_name
from flan_lora.tasks import get_task
from flan_lora.training.run_dir import training_log

BASE_NAME = "bare base"
NUM_TRIAL_ROWS = 200
"""Validation rows that choose the base's wording."""
NUM_TIMED_ROWS = 40
"""Rows whose latency is measured, one at a time."""
NUM_REVIEWS = 1000

Echo = Callable[[str], None]


def hold_contest(
    stored: StoredAdapter,
    source: DataSource,
    folder: Path,
    *,
    base: str | None = None,
    role: Role = "test",
    max_rows: int | None = None,
    runs_dir: Path = Path("runs"),
    reuse: bool = False,
    echo: Echo = print,
) -> None:
    """Let the bare base and an adapter answer the same rows, and save everything in ``folder``.

    The base is asked in the wording that does best on validation rows; both are decoded alike.

    Args:
        base: another name or place of the adapter's base; the fingerprint still decides.
        max_rows: a seeded sample of the rows, for a quick look.
        runs_dir: where the training log is looked for if it was not published with the adapter.
        reuse: keep what ``folder`` has if it is of this very adapter, base and rows.

    Raises:
        FlanLoraError: rows or base are not to be had, or the adapter does not fit the base.
    """
    recipe = Recipe.model_validate(stored.manifest.recipe)
    if base is not None:
        recipe = recipe.model_copy(update={"base": recipe.base.model_copy(update={"model": base})})
    split = load_split(recipe, role, source, max_rows=max_rows or max_rows_of(recipe, role))
    identity = _identity(stored, split, role)
    if reuse and is_current(folder, identity):
        echo(f"saved answers of {stored.name} and its base: {folder}")
        return
    trial_rows = load_split(recipe, "validation", source, max_rows=NUM_TRIAL_ROWS)
    loaded = open_base(recipe.base)
    contest = Contest(loaded, stored)
    task = get_task(recipe.task)
    trials = contest.try_wordings(task, trial_rows.examples)
    echo(f"the base does best under {trials[0].wording.name!r} ({task.select_on} {trials[0].score:.4g})")
    asks = [_bare(trials[0]), contest.own(task)]
    answered = contest.answer(task, asks, split.examples, progress=True)
    answered = contest.time(task, asks, split.examples[:NUM_TIMED_ROWS], answered)
    abouts = [
        f"{stored.manifest.base.model} without an adapter, asked in its best wording: {trials[0].wording.name}",
        f"the adapter {stored.name}, rank {recipe.lora.rank}, asked in its own prompt",
    ]
    contestants = _named([BASE_NAME, f"{stored.name} adapter"], abouts, answered)
    reviews, review_record = (
        _reviews(contest, stored, trials[0], source) if recipe.task == "emotion" else ((), None)
    )
    record = ContestRecord(
        adapter=stored.name,
        task=recipe.task,
        base=stored.manifest.base.model,
        **identity,
        origin=split.origin,
        contestants=_records(contestants),
        trials=_trial_records(trials),
        num_trial_rows=len(trial_rows.examples),
        training_log=training_log(stored, runs_dir),
        baselines=_baselines(stored, split, role),
        reviews=review_record,
        device=device_name(loaded.device),
        quantization=recipe.base.quantization,
        versions=installed_versions(),
        created_at=utc_now(),
    )
    write_archive(folder, record, contestants, reviews)


def report_folder(reports_dir: Path, stored: StoredAdapter) -> Path:
    """Where a comparison of this adapter lies."""
    return reports_dir / f"{stored.path.parent.name}-{stored.name}"


def _identity(stored: StoredAdapter, split: Split, role: str) -> dict[str, str]:
    """What saved answers must be of, to be taken again."""
    return {
        "base_fingerprint": stored.manifest.base.fingerprint,
        "adapter_sha256": stored.manifest.files[WEIGHTS].sha256,
        "role": role,
        "content_hash": split.content_hash,
    }


def _bare(trial: Trial) -> Ask:
    return Ask(BASE_NAME, {}, trial.wording.prompt, trial.wording.spellings)


def _named(
    names: Sequence[str], abouts: Sequence[str], answered: Sequence[tuple[Prediction, ...]]
) -> list[Contestant]:
    return [Contestant(*parts) for parts in zip(names, abouts, answered, strict=True)]


def _records(contestants: Sequence[Contestant]) -> list[ContestantRecord]:
    return [ContestantRecord(name=item.name, about=item.about) for item in contestants]


def _trial_records(trials: Sequence[Trial]) -> list[TrialRecord]:
    return [TrialRecord(wording=t.wording.name, example=t.example, score=t.score) for t in trials]


def _baselines(stored: StoredAdapter, split: Split, role: str) -> dict[str, dict[str, float]]:
    """The manifest's trivial baselines, if they were scored on as many test rows."""
    manifest = stored.manifest
    if role != "test" or manifest.data.num_test_rows != len(split.examples):
        return {}
    return {
        name: {score: record.value for score, record in scores.items()}
        for name, scores in manifest.baseline_scores.items()
    }


def _reviews(
    contest: Contest, stored: StoredAdapter, best: Trial, source: DataSource
) -> tuple[Sequence[Contestant], ReviewsRecord | None]:
    """Film reviews: the base asked for the sentiment, and both asked for the emotion, which stands for one."""
    found = polarity.find_reviews(source)
    if found is None:
        return (), None
    rows, origin = found
    tried, scored = polarity.draw(rows, num_tried=NUM_TRIAL_ROWS, num_scored=NUM_REVIEWS)
    if not scored:
        raise DataError(f"{origin}: {len(rows)} rows are too few to choose a wording and to score.\nAdd rows.")
    trials = contest.try_wordings(polarity.TASK, tried, polarity.WORDINGS)
    [direct] = contest.answer(polarity.TASK, [_bare(trials[0])], scored)
    emotions = get_task("emotion")
    mapped = contest.answer(emotions, [_bare(best), contest.own(emotions)], scored)
    answered = [direct, *map(polarity.as_sentiment, mapped)]
    names = ["bare base, for the sentiment", "bare base, by emotion", f"{stored.name} adapter, by emotion"]
    abouts = [
        f"the bare base, asked in its best wording: {trials[0].wording.name}",
        f"the bare base, asked for the emotion ({best.wording.name})",
        f"the adapter {stored.name}, asked for the emotion",
    ]
    contestants = _named(names, abouts, answered)
    note = ""
    if stored.manifest.base.model == MINI and origin.startswith(f"{polarity.DATASET}/{polarity.CONFIG}:train"):
        note = (
            "mini has read these reviews with their sentiment in its own pre-training, so its direct answers are "
            "no zero-shot result; the adapter has not seen any."
        )
    record = ReviewsRecord(
        origin=origin, contestants=_records(contestants), trials=_trial_records(trials), note=note
    )
    return contestants, record
