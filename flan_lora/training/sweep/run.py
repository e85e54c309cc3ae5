"""A whole sweep: plan, check, train every trial, and say which was the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flan_lora.base.load import open_config
from flan_lora.data.sources import DataSource
from flan_lora.recipe import Recipe
from flan_lora.system.files import disk_errors
from flan_lora.system.ray_cluster import check_ray
from flan_lora.training.checks import check_lora, check_places
from flan_lora.training.factory import on_its_base, prepare_rows
from flan_lora.training.run_dir import sole_use
from flan_lora.training.sweep import ray_workers
from flan_lora.training.sweep.dials import Dial, Values, check_dials, described, plan_trials, recipe_with
from flan_lora.training.sweep.results import Results, write_picture, write_results
from flan_lora.training.sweep.study import Definition, Stopping, Study, check_optuna, create
from flan_lora.training.sweep.worker import Worker

Echo = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How many trials, and from which seed their values are drawn."""

    samples: int = 1
    """Draws of the ranges for each combination of the grid."""
    seed: int = 0


ONCE = Sampling()
ASHA = Stopping()


def sweep(
    recipe: Recipe,
    dials: Sequence[Dial],
    source: DataSource,
    *,
    sweep_dir: Path,
    sampling: Sampling = ONCE,
    stopping: Stopping | None = ASHA,
    ray: ray_workers.Resources | None = None,
    echo: Echo = print,
) -> Results:
    """Train a trial for every choice of values, and rank them by the recipe's own score on validation.

    A sweep that was cut off goes on where it stood; with more samples it goes on with new trials. Test rows are
    not looked at: the best recipe is scored on them when it is trained, or when its trial is published
    (`flan-lora train best.yaml --run-dir TRIAL --resume`).

    Args:
        dials: `parse_grid`, `parse_range`.
        sweep_dir: journal, run folders, results (`study`).
        stopping: ASHA's rule; None trains every trial to its end.
        ray: train on workers of a Ray cluster, which must all see ``sweep_dir``; None: here, one after another.
        echo: gets a line per trial.

    Raises:
        RecipeError: a dial that the recipe does not take; before anything is trained.
        BusyError: another process sweeps in the folder.
        FlanLoraError: whatever the user can fix, from any stage. Trials that ended stand.
    """
    check_optuna()
    if ray is not None:
        check_ray()
    dials = check_dials(recipe, dials)
    planned = plan_trials(recipe, dials, sampling.samples, sampling.seed)
    check_places(recipe, sweep_dir, sweep_dir)
    _check_trials(recipe, planned)
    rows = prepare_rows(on_its_base(recipe), source)
    rows.lint.raise_if_errors()
    for line in (*rows.lint.problems, *rows.lint.notes):
        echo(str(line))
    definition = Definition(recipe, dials, sampling.seed, stopping, source.description)
    with sole_use(sweep_dir), disk_errors(f"the sweep's folder {sweep_dir}"):
        create(sweep_dir, definition)
        study = Study(sweep_dir)
        study.add(planned)
        _train(study, source, ray, echo)
        results = write_results(study, source)
        write_picture(results, dials)
    return results


def _check_trials(recipe: Recipe, planned: Sequence[Values]) -> None:
    """Refuse an update of linears that the base lacks, which only the base's config knows. Loads no weights."""
    config = open_config(recipe.base)
    for values in planned:
        check_lora(recipe_with(recipe, values, where=f"the trial {described(values)}"), config)


def _train(study: Study, source: DataSource, ray: ray_workers.Resources | None, echo: Echo) -> None:
    numbers, num_trials = study.unfinished(), len(study.trials())
    if len(numbers) < num_trials:
        echo(f"going on in {study.folder}: {num_trials - len(numbers)} of {num_trials} trials had ended")

    def say(number: int) -> None:
        echo(write_results(study, source).by_number(number).line)

    if ray is not None:
        ray_workers.run(study.folder, source, numbers, ray, on_end=say)
    elif numbers:
        worker = Worker(study.folder, source)
        for number in numbers:
            worker.run(number)
            say(number)
