"""The folder of a sweep: what was asked, and what became of each trial, in Optuna's journal.

<sweep_dir>/
  sweep.json        recipe, dials, seed, rule of early stopping: the same command goes on, another one is refused
  journal.log       Optuna's JournalStorage: state and scores of every trial (optuna-dashboard reads it)
  trials/<number>/  run folder of a trial (`training.run_dir`)
  results.json, results.csv, best.yaml, score-light.png, score-dark.png

Optuna keeps the trials and decides who stops; which values they have was decided before (`dials.plan_trials`).
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flan_lora.errors import FlanLoraError, TrainingError
from flan_lora.recipe import Recipe, parse_recipe
from flan_lora.system.documents import DocumentError, parse_json
from flan_lora.system.files import read_regular, replace_file
from flan_lora.training.sweep.dials import Dial, Values, recipe_with

if TYPE_CHECKING:
    import optuna

_NAME = "sweep"
"""Of the one study in the journal."""
_MAX_BYTES = 4_000_000
_VALUES, _ERROR = "values", "error"
"""User attributes of a trial."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """ASHA (asynchronous successive halving, arXiv:1810.05934): who may go on after some evaluations.

    After ``min_evaluations`` * ``reduction_factor`` ** k evaluations only the best 1 / ``reduction_factor`` of the
    trials that came so far go on.
    """

    min_evaluations: int = 1
    reduction_factor: int = 3


@dataclass(frozen=True, slots=True)
class Definition:
    """What a sweep was asked to do."""

    recipe: Recipe
    dials: tuple[Dial, ...]
    seed: int
    stopping: Stopping | None
    source: str
    """Where rows come from (`DataSource.description`)."""

    def document(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "recipe": self.recipe.resolved(),
            "dials": [dial.description() for dial in self.dials],
            "seed": self.seed,
            "stopping": asdict(self.stopping) if self.stopping else None,
            "source": self.source,
        }


class Study:
    """The trials of a sweep. Processes that share the folder may each open it."""

    def __init__(self, folder: Path) -> None:
        """Open what `create` made. Raises FlanLoraError without Optuna, TrainingError where a file is damaged."""
        check_optuna()
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder = folder
        document = _read(folder / "sweep.json")
        self.recipe = parse_recipe(document["recipe"], where=str(folder / "sweep.json"))
        self.stopping = Stopping(**document["stopping"]) if document["stopping"] else None
        backend = JournalFileBackend(str(folder / "journal.log"))
        self._storage = optuna.storages.JournalStorage(backend)
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=_NAME,
            direction="maximize",
            load_if_exists=True,
            pruner=self._pruner(),
        )
        self._study_id = self._storage.get_study_id_from_name(_NAME)

    def _pruner(self) -> optuna.pruners.BasePruner:
        import optuna

        if self.stopping is None:
            return optuna.pruners.NopPruner()
        return optuna.pruners.SuccessiveHalvingPruner(
            min_resource=self.stopping.min_evaluations, reduction_factor=self.stopping.reduction_factor
        )

    def add(self, planned: Sequence[Values]) -> None:
        """Put the trials that are not there yet at the end, waiting."""
        from optuna.trial import TrialState, create_trial

        for values in planned[len(self.trials()) :]:
            self._study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={_VALUES: values}))

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """By number."""
        return self._study.get_trials(deepcopy=False)

    def unfinished(self) -> list[int]:
        """Numbers of trials to train: those that were cut off first."""
        open_trials = [trial for trial in self.trials() if not trial.state.is_finished()]
        return [trial.number for trial in sorted(open_trials, key=lambda trial: trial.state.name != "RUNNING")]

    def recipe_of(self, number: int) -> Recipe:
        values = self.trials()[number].user_attrs[_VALUES]
        return recipe_with(self.recipe, values, where=f"trial {number} of {self.folder}")

    def run_dir(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04}"

    # What a trial says

    def start(self, number: int) -> None:
        from optuna.trial import TrialState

        if self.trials()[number].state is TrialState.WAITING:
            self._storage.set_trial_state_values(self._id_of(number), TrialState.RUNNING)

    def report(self, number: int, evaluation: int, score: float) -> None:
        """The score of an evaluation, counted from 1. One that is repeated after a kill says the same again."""
        self._storage.set_trial_intermediate_value(self._id_of(number), evaluation, score)

    def should_stop(self, number: int) -> bool:
        """Whether the trial is not among the best at the rung that it has reached."""
        return self._study.pruner.prune(self._study, self._storage.get_trial(self._id_of(number)))

    def finish(self, number: int) -> None:
        """Trained to its end: its score is the best of its evaluations, that of the checkpoint that is kept."""
        from optuna.trial import TrialState

        score = max(self.trials()[number].intermediate_values.values())
        self._storage.set_trial_state_values(self._id_of(number), TrialState.COMPLETE, [score])

    def stop(self, number: int) -> None:
        from optuna.trial import TrialState

        self._storage.set_trial_state_values(self._id_of(number), TrialState.PRUNED)

    def fail(self, number: int, reason: str) -> None:
        from optuna.trial import TrialState

        self._storage.set_trial_user_attr(self._id_of(number), _ERROR, reason)
        self._storage.set_trial_state_values(self._id_of(number), TrialState.FAIL)

    def check_stands_on(self, what: dict[str, str]) -> None:
        """Remember base and validation rows by hash, and refuse others than the first trial's.

        Raises:
            TrainingError: scores would not be comparable.
        """
        known = self._study.user_attrs.get("stands_on")
        if known is None:
            self._study.set_user_attr("stands_on", what)
        elif known != what:
            changed = ", ".join(name for name in what if known.get(name) != what[name])
            raise TrainingError(
                f"the sweep in {self.folder} was started on other weights or rows: changed: {changed}.\n"
                "Bring them back, or sweep into another folder (--sweep-dir)."
            )

    def _id_of(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def values_of(trial: optuna.trial.FrozenTrial) -> Values:
    values: Values = trial.user_attrs[_VALUES]
    return values


def error_of(trial: optuna.trial.FrozenTrial) -> str | None:
    return trial.user_attrs.get(_ERROR)


def best_score(trial: optuna.trial.FrozenTrial) -> float | None:
    """Of the evaluations so far."""
    scores = [score for score in trial.intermediate_values.values() if not math.isnan(score)]
    return max(scores, default=None)


def create(folder: Path, definition: Definition) -> None:
    """Make the folder of a sweep, or check that what lies there is of this very one.

    Raises:
        TrainingError: the folder holds something else.
        OSError: the disk refuses.
    """
    file = folder / "sweep.json"
    document = json.loads(json.dumps(definition.document()))
    if file.is_file():
        before = _read(file)
        if changed := [key for key in document if before.get(key) != document[key]]:
            raise TrainingError(
                f"{folder} holds a sweep of another {', '.join(changed)}.\n"
                "Give the values that it was started with, or another folder (--sweep-dir)."
            )
        _drop_torn_line(folder / "journal.log")
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise TrainingError(f"{folder} is not empty and holds no sweep.\nGive another folder (--sweep-dir).")
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(file, (json.dumps(document, indent=2) + "\n").encode())


def check_optuna() -> None:
    """Raise FlanLoraError with the remedy where sweeps cannot run."""
    if importlib.util.find_spec("optuna") is None:
        raise FlanLoraError(
            "a sweep needs Optuna, which is not installed.\nInstall it: pip install 'flan-lora[sweep]'"
        )


def _drop_torn_line(journal: Path) -> None:
    """Cut off what a full disk or a power cut left of a line: Optuna would write its next one behind it."""
    content = journal.read_bytes() if journal.is_file() else b""
    if content and not content.endswith(b"\n"):
        replace_file(journal, content[: content.rfind(b"\n") + 1])


def _read(file: Path) -> dict[str, Any]:
    try:
        document = parse_json(read_regular(file, _MAX_BYTES))
    except (OSError, DocumentError) as error:
        raise TrainingError(
            f"{file} cannot be read: {error}.\nRestore it, or sweep into another folder."
        ) from error
    if not isinstance(document, dict) or not {"recipe", "dials", "stopping"} <= document.keys():
        raise TrainingError(f"{file} is damaged.\nRestore it, or sweep into another folder (--sweep-dir).")
    return document
