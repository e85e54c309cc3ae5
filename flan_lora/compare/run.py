"""The comparison job in one function: rows -> the base's best prompt -> answers of base and adapter -> results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from flan_lora.adapters.manifest import installed_versions, utc_now
from flan_lora.adapters.validation import WEIGHTS, StoredAdapter
from flan_lora.base.load import MINI
from flan_lora.compare.answers import AnswerCollector, PromptScore, Query
from flan_lora.compare.comparison import Predictor
from flan_lora.compare.out_of_domain import as_labels, draw, find_rows
from flan_lora.compare.results import (
    ComparisonRecord,
    OutOfDomainRecord,
    PredictorRecord,
    PromptScoreRecord,
    is_current,
    write_results,
)
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import Split, load_split, load_whole_file, max_rows_of
from flan_lora.errors import DataError
from flan_lora.evaluation.predictions import Prediction
from flan_lora.recipe import Recipe, Role
from flan_lora.system.devices import device_name
from flan_lora.tasks.task import OutOfDomain, Task
from flan_lora.training.reevaluate import reading_recipe
from flan_lora.training.run_dir import training_log

BASE_NAME = "bare base"
NUM_PROMPT_ROWS = 200
"""Validation rows that choose the base's wording."""
NUM_TIMED_ROWS = 40
"""Rows whose latency is measured, one at a time."""
NUM_OUT_OF_DOMAIN_ROWS = 1000

Echo = Callable[[str], None]


def run_comparison(
    stored: StoredAdapter,
    source: DataSource,
    folder: Path,
    *,
    base: str | None = None,
    role: Role | None = "test",
    max_rows: int | None = None,
    overrides: Sequence[str] = (),
    runs_dir: Path = Path("runs"),
    reuse: bool = False,
    echo: Echo = print,
) -> None:
    """Let the bare base and an adapter answer the same rows, and save everything in ``folder``.

    The base is asked in the wording that does best on validation rows; both are decoded alike.

    Args:
        base: another name or place of the adapter's base; the fingerprint still decides.
        role: None is every row of a user's file but those that choose the wording.
        max_rows: a seeded sample of the rows, for a quick look.
        overrides: ``data.columns.text=body``, as training takes it.
        runs_dir: where the training log is looked for if it was not published with the adapter.
        reuse: keep what ``folder`` has if it is of this very adapter, base and rows.

    Raises:
        FlanLoraError: rows or base are not to be had, or the adapter does not fit the base.
    """
    # 1. The rows: some choose the base's prompt, the others are compared on.
    recipe = reading_recipe(stored, overrides)
    prompt_rows = load_split(recipe, "validation", source, max_rows=NUM_PROMPT_ROWS)
    split = _rows(recipe, source, role, max_rows, prompt_rows)
    identity = _identity(stored, split)
    if reuse and is_current(folder, identity):
        echo(f"saved answers of {stored.name} and its base: {folder}")
        return
    # 2. The prompt that the base does best under.
    loaded = stored.open_base(base)
    collector = AnswerCollector(loaded, stored)
    task = recipe.task_definition
    prompt_scores = collector.score_prompts(task, prompt_rows.examples)
    best = prompt_scores[0]
    echo(f"the base does best under {best.variant.name!r} ({task.select_on} {best.score:.4g})")
    # 3. Both answer, here and on rows of another domain.
    predictors = _answer(collector, task, best, stored, split)
    others = [
        found
        for spec in task.out_of_domain
        if (found := _out_of_domain(collector, task, spec, best, stored, source)) is not None
    ]
    # 4. Everything on disk; tables and pictures are made from there.
    record = ComparisonRecord(
        adapter=stored.name,
        task=recipe.task,
        base=stored.manifest.base.model,
        **identity,
        origin=split.origin,
        predictors=_records(predictors),
        prompt_scores=_prompt_score_records(prompt_scores),
        num_prompt_rows=len(prompt_rows.examples),
        training_log=training_log(stored, runs_dir),
        baselines=_baselines(stored, split),
        out_of_domain=[other for other, _ in others],
        device=device_name(loaded.device),
        quantization=recipe.base.quantization,
        versions=installed_versions(),
        created_at=utc_now(),
    )
    write_results(folder, record, predictors, [answered for _, answered in others])


def report_folder(reports_dir: Path, stored: StoredAdapter) -> Path:
    """Where a comparison of this adapter lies."""
    return reports_dir / f"{stored.path.parent.name}-{stored.name}"


def _rows(
    recipe: Recipe, source: DataSource, role: Role | None, max_rows: int | None, prompt_rows: Split
) -> Split:
    """The rows to compare on; without a role all of a user's file but those that choose the prompt."""
    if role is None:
        return _others(load_whole_file(recipe, source, max_rows=max_rows), prompt_rows)
    return load_split(recipe, role, source, max_rows=max_rows or max_rows_of(recipe, role))


def _answer(
    collector: AnswerCollector, task: Task, best: PromptScore, stored: StoredAdapter, split: Split
) -> list[Predictor]:
    """Base and adapter on the same rows, the first of them with their latency."""
    queries = [_bare(best), collector.own(task)]
    answered = collector.answer(task, queries, split.examples, progress=True)
    answered = collector.time(task, queries, split.examples[:NUM_TIMED_ROWS], answered)
    abouts = [
        f"{stored.manifest.base.model} without an adapter, asked in its best wording: {best.variant.name}",
        f"the adapter {stored.name}, rank {stored.recipe.lora.rank}, asked in its own prompt",
    ]
    return _named([BASE_NAME, f"{stored.name} adapter"], abouts, answered)


def _others(split: Split, chosen: Split) -> Split:
    """The rows of ``split`` that are not among the chosen ones."""
    keys = {example.key for example in chosen.examples}
    examples = tuple(example for example in split.examples if example.key not in keys)
    return replace(split, examples=examples, num_rows=len(examples))


def _identity(stored: StoredAdapter, split: Split) -> dict[str, str]:
    """What saved answers must be of, to be taken again."""
    return {
        "base_fingerprint": stored.manifest.base.fingerprint,
        "adapter_sha256": stored.manifest.files[WEIGHTS].sha256,
        "role": split.role,
        "content_hash": split.content_hash,
    }


def _bare(prompt_score: PromptScore) -> Query:
    return Query(BASE_NAME, {}, prompt_score.variant.prompt, prompt_score.variant.spellings)


def _named(
    names: Sequence[str], abouts: Sequence[str], answered: Sequence[tuple[Prediction, ...]]
) -> list[Predictor]:
    return [Predictor(*parts) for parts in zip(names, abouts, answered, strict=True)]


def _records(predictors: Sequence[Predictor]) -> list[PredictorRecord]:
    return [PredictorRecord(name=item.name, about=item.about) for item in predictors]


def _prompt_score_records(prompt_scores: Sequence[PromptScore]) -> list[PromptScoreRecord]:
    return [PromptScoreRecord(prompt=t.variant.name, example=t.example, score=t.score) for t in prompt_scores]


def _baselines(stored: StoredAdapter, split: Split) -> dict[str, dict[str, float]]:
    """The manifest's trivial baselines, if they were scored on as many test rows."""
    manifest = stored.manifest
    if split.role != "test" or manifest.data.num_test_rows != len(split.examples):
        return {}
    return {
        name: {score: record.value for score, record in scores.items()}
        for name, scores in manifest.baseline_scores.items()
    }


def _out_of_domain(
    collector: AnswerCollector,
    task: Task,
    spec: OutOfDomain,
    best: PromptScore,
    stored: StoredAdapter,
    source: DataSource,
) -> tuple[OutOfDomainRecord, list[Predictor]] | None:
    """The base asked for the other task's labels, and both asked for the task's own, which stand for them."""
    found = find_rows(spec, source)
    if found is None:
        return None
    rows, split, origin = found
    tried, scored = draw(spec.task, rows, num_tried=NUM_PROMPT_ROWS, num_scored=NUM_OUT_OF_DOMAIN_ROWS)
    if not scored:
        raise DataError(f"{origin}: {len(rows)} rows are too few to choose a prompt and to score.\nAdd rows.")
    prompt_scores = collector.score_prompts(spec.task, tried)
    [direct] = collector.answer(spec.task, [_bare(prompt_scores[0])], scored)
    mapped = collector.answer(task, [_bare(best), collector.own(task)], scored)
    names = [
        f"{BASE_NAME}, for the {spec.task.name}",
        f"{BASE_NAME}, by {task.name}",
        f"{stored.name} adapter, by {task.name}",
    ]
    abouts = [
        f"the bare base, asked in its best wording: {prompt_scores[0].variant.name}",
        f"the bare base, asked for the {task.name} ({best.variant.name})",
        f"the adapter {stored.name}, asked for the {task.name}",
    ]
    predictors = _named(names, abouts, [direct, *(as_labels(spec, answers) for answers in mapped)])
    note = ""
    if stored.manifest.base.model == MINI and split in spec.seen_by_mini:
        note = (
            f"mini has read these rows with their {spec.task.name} in its own pre-training, so its direct answers "
            "are no zero-shot result; the adapter has not seen any."
        )
    record = OutOfDomainRecord(
        name=spec.name,
        folder=spec.name,
        origin=origin,
        predictors=_records(predictors),
        prompt_scores=_prompt_score_records(prompt_scores),
        note=note,
    )
    return record, predictors
