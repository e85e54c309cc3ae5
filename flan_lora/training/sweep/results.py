"""What came out of a sweep: trials by score, as JSON, CSV and a picture, and the best as a recipe to train."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from flan_lora.adapters.figures import Picture, Theme, has_matplotlib, picture
from flan_lora.data.sources import DataSource
from flan_lora.system.files import replace_file
from flan_lora.tasks.scorers import number
from flan_lora.training.sweep.dials import Dial, Values, described, shown_value
from flan_lora.training.sweep.study import Study, best_score, error_of, values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Status = Literal["finished", "stopped", "failed", "unfinished"]
_STATUS: dict[str, Status] = {"COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed"}
_PANELS_A_ROW = 3


@dataclass(frozen=True, slots=True)
class TrialResult:
    """One trial."""

    number: int
    values: Values
    status: Status
    score: float | None
    """Best of its evaluations on validation, none before the first."""
    num_evaluations: int
    run_dir: str
    """Below the sweep's folder."""
    error: str | None
    """Why it failed."""

    @property
    def line(self) -> str:
        scored = "no score" if self.score is None else number(self.score)
        because = f": {self.error.splitlines()[0]}" if self.error else ""
        after = f"after {self.num_evaluations} evaluation{'s' if self.num_evaluations != 1 else ''}"
        return f"trial {self.number}: {described(self.values)}  {scored}, {self.status} {after}{because}"


@dataclass(frozen=True, slots=True)
class Results:
    """All trials of a sweep."""

    select_on: str
    """The score."""
    folder: Path
    trials: tuple[TrialResult, ...]
    """The best first; those without a score last."""

    @property
    def best(self) -> TrialResult | None:
        """Of those that were trained to their end; a stopped one was behind at equal length."""
        return next((trial for trial in self.trials if trial.status == "finished"), None)

    @property
    def best_path(self) -> Path:
        """Recipe of the best trial, once one has finished."""
        return self.folder / "best.yaml"

    def by_number(self, number: int) -> TrialResult:
        return next(trial for trial in self.trials if trial.number == number)


def read_results(study: Study) -> Results:
    trials = [
        TrialResult(
            number=trial.number,
            values=values_of(trial),
            status=_STATUS.get(trial.state.name, "unfinished"),
            score=best_score(trial),
            num_evaluations=len(trial.intermediate_values),
            run_dir=str(study.run_dir(trial.number).relative_to(study.folder)),
            error=error_of(trial),
        )
        for trial in study.trials()
    ]
    trials.sort(key=lambda trial: (trial.score is None, -(trial.score or 0.0)))
    return Results(study.recipe.select_on, study.folder, tuple(trials))


def write_results(study: Study, source: DataSource) -> Results:
    """Write results.json, results.csv and the best recipe; a reader finds the old files or the new ones."""
    results = read_results(study)
    folder = study.folder
    document = {"select_on": results.select_on, "trials": [dataclasses.asdict(trial) for trial in results.trials]}
    replace_file(folder / "results.json", (json.dumps(document, indent=2) + "\n").encode())
    replace_file(folder / "results.csv", _csv(results).encode())
    if results.best is not None:
        replace_file(results.best_path, _best_recipe(study, results, results.best, source).encode())
    return results


def _csv(results: Results) -> str:
    keys = list(results.trials[0].values) if results.trials else []
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["trial", *keys, results.select_on, "evaluations", "status", "run_dir"])
    for trial in results.trials:
        cells = [shown_value(trial.values[key]) for key in keys]
        score = "" if trial.score is None else trial.score
        writer.writerow([trial.number, *cells, score, trial.num_evaluations, trial.status, trial.run_dir])
    return buffer.getvalue()


def _best_recipe(study: Study, results: Results, best: TrialResult, source: DataSource) -> str:
    """The whole recipe; the header says how to train it, or to publish what the trial has trained."""
    recipe = study.recipe_of(best.number)
    data = {"hub": [], "sample": ["--data", "sample"]}.get(source.kind, ["--data", str(source.path)])
    train = ["flan-lora", "train", str(results.best_path), *data]
    again = [*train, "--run-dir", str(study.folder / best.run_dir), "--resume"]
    assert best.score is not None
    return (
        f"# The best of {len(results.trials)} trials: {described(best.values)}\n"
        f"# {results.select_on} on validation {number(best.score)}, of many the highest: test rows say what it is "
        "worth.\n"
        f"#   {shlex.join(train)}    trains it\n"
        f"#   {shlex.join(again)}    publishes what the trial has trained\n"
        + yaml.safe_dump(recipe.resolved(), sort_keys=False, allow_unicode=True)
    )


# The picture


def write_picture(results: Results, dials: Sequence[Dial]) -> Picture | None:
    """Draw score-light.png and score-dark.png; nothing without matplotlib, or without a score."""
    if not has_matplotlib() or all(trial.score is None for trial in results.trials):
        return None
    drawn = score_picture(results, dials)
    for theme, png in drawn.png.items():
        replace_file(results.folder / f"{drawn.name}-{theme}.png", png)
    return drawn


def score_picture(results: Results, dials: Sequence[Dial]) -> Picture:
    """Score against each dial: finished trials filled, stopped ones hollow, the best one marked."""
    num_rows = -(-len(dials) // _PANELS_A_ROW)
    num_columns = min(len(dials), _PANELS_A_ROW)

    def paint(figure: Figure, theme: Theme) -> None:
        panels = figure.subplots(num_rows, num_columns, squeeze=False, sharey=True).flat
        for place, panel in enumerate(panels):
            if place >= len(dials):
                panel.set_axis_off()
                continue
            _paint_dial(panel, theme, results, dials[place])
            if place % num_columns == 0:
                panel.set_ylabel(f"{results.select_on} on validation")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))

    best = results.best
    said = f" {described(best.values)} is best: {number(best.score or 0.0)}." if best else ""
    keys = ", ".join(dial.key for dial in dials)
    alt = f"{results.select_on} of {len(results.trials)} trials against {keys}.{said}"
    return picture("score", "Score against each dial", alt, 0.7 + 2.7 * num_rows, paint)


def _paint_dial(panel: Axes, theme: Theme, results: Results, dial: Dial) -> None:
    scored = [(trial, trial.score) for trial in results.trials if trial.score is not None]
    place = {json.dumps(choice): index for index, choice in enumerate(dial.choices)}

    def at(trial: TrialResult) -> Any:
        value = trial.values[dial.key]
        return place[json.dumps(value)] if dial.kind == "grid" else value

    kinds = (("finished", True, theme.series[1]), ("stopped early", False, theme.series[0]))
    for label, is_finished, colour in kinds:
        shown = [(at(trial), score) for trial, score in scored if (trial.status == "finished") == is_finished]
        fill = colour if is_finished else "none"
        x, y = [point[0] for point in shown], [point[1] for point in shown]
        panel.scatter(x, y, label=label, edgecolors=colour, facecolors=fill, s=34, linewidths=1.4)
    for trial, score in scored:
        if trial is results.best:
            ring = theme.series[4]
            panel.scatter(
                [at(trial)], [score], label="best", edgecolors=ring, facecolors="none", s=130, linewidths=1.8
            )
    if dial.kind == "grid":
        panel.set_xticks(range(len(dial.choices)), [shown_value(choice) for choice in dial.choices])
        panel.set_xlim(-0.5, len(dial.choices) - 0.5)
    elif dial.kind == "log":
        panel.set_xscale("log")
        ticks = [dial.low, math.sqrt(dial.low * dial.high), dial.high]  # matplotlib's own lie over each other
        panel.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
        panel.minorticks_off()
    panel.set_xlabel(dial.key)
