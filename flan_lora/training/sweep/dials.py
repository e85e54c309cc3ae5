"""The dials of a sweep: fields of the recipe with the values to try, and the trials that they make."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from flan_lora.errors import RecipeError
from flan_lora.recipe import DataSection, Recipe, parse_recipe
from flan_lora.system.documents import DocumentError, parse_yaml
from flan_lora.system.schema import indented, sections_in
from flan_lora.system.text import shown

Kind = Literal["grid", "log", "uniform"]
Values = dict[str, Any]
"""Dotted key of the recipe -> the value that a trial gives it."""
MAX_TRIALS = 10_000
_SIGNIFICANT_DIGITS = 4
"""Of a drawn number: a recipe that a person reads, and no worse a draw."""
_FIXED = {
    "name": "a trial's weights would be another adapter",
    "task": "scores of two tasks cannot be compared",
    "base": "a worker loads its base once; sweep each base by itself (--base)",
    "training.seed": "it also draws the validation rows",
    "evaluation.select_on": "trials are compared by this score",
    "evaluation.max_test_rows": "trials are not scored on test rows",
}
"""What may not differ between trials, with the reason."""
_OF_TRAINING_ROWS = {"also", "augment", "max_source_tokens", "max_target_tokens", "max_train_rows", "romanise"}
"""Fields of `data` that leave the validation rows as they are."""


@dataclass(frozen=True, slots=True)
class Dial:
    """One field of the recipe, and the values that trials give it."""

    key: str
    """Dotted path in the recipe."""
    kind: Kind
    choices: tuple[Any, ...] = ()
    """Of a grid."""
    low: float = 0.0
    high: float = 0.0
    """Of a range, both included."""
    is_integer: bool = False
    """The field takes whole numbers only, so a range is drawn in whole numbers."""

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that must be valid for all of them to be: a grid's choices, a range's ends."""
        if self.kind == "grid":
            return self.choices
        return (int(self.low), int(self.high)) if self.is_integer else (self.low, self.high)

    def draw(self, random: np.random.Generator) -> float | int:
        """A value of a range: uniform, or uniform in its logarithm."""
        if self.is_integer:
            low, high = int(self.low), int(self.high)
            if self.kind == "uniform":
                return int(random.integers(low, high + 1))
            drawn = math.exp(random.uniform(math.log(low), math.log(high + 1)))
            return min(max(int(drawn), low), high)
        if self.kind == "uniform":
            value = random.uniform(self.low, self.high)
        else:
            value = math.exp(random.uniform(math.log(self.low), math.log(self.high)))
        return min(max(float(f"{value:.{_SIGNIFICANT_DIGITS}g}"), self.low), self.high)

    def description(self) -> dict[str, Any]:
        """JSON types; `sweep.json` keeps it."""
        own = {"choices": list(self.choices)} if self.kind == "grid" else {"low": self.low, "high": self.high}
        return {"key": self.key, "kind": self.kind, **own}


def parse_grid(text: str) -> Dial:
    """``lora.rank=4,16``; the values are YAML. Raises RecipeError."""
    key, values = _parts("--grid", text, "key.path=value,value")
    try:
        choices = parse_yaml(f"[{values}]")
    except DocumentError as error:
        raise RecipeError(
            f"--grid {shown(text)}: the values are not readable as YAML. Quote them, or check their brackets.\n"
            f"{indented(error.problems)}"
        ) from error
    if not choices:
        raise RecipeError(f"--grid {shown(text)}: no value. Give some, e.g. --grid lora.rank=4,16")
    if len({json.dumps(choice, sort_keys=True) for choice in choices}) < len(choices):
        raise RecipeError(f"--grid {shown(text)}: a value stands there twice.")
    return Dial(key, "grid", choices=tuple(choices))


def parse_range(kind: Literal["log", "uniform"], text: str) -> Dial:
    """``training.learning_rate=1e-4..3e-3``. Raises RecipeError."""
    key, values = _parts(f"--{kind}", text, "key.path=low..high")
    low_text, separator, high_text = values.partition("..")
    try:
        low, high = float(low_text), float(high_text)
    except ValueError:
        separator = ""
    if not separator or not math.isfinite(low) or not math.isfinite(high):
        raise RecipeError(
            f"--{kind} {shown(text)}: expected two numbers with two dots between them, "
            f"e.g. --{kind} training.learning_rate=1e-4..3e-3"
        )
    if low >= high:
        raise RecipeError(f"--{kind} {shown(text)}: the first number must be the smaller one.")
    if kind == "log" and low <= 0:
        raise RecipeError(f"--log {shown(text)}: a logarithm needs numbers above 0; or give --uniform {text}")
    return Dial(key, kind, low=low, high=high)


def _parts(option: str, text: str, form: str) -> tuple[str, str]:
    key, separator, values = text.partition("=")
    if not separator or not all(part.strip() for part in key.split(".")):
        raise RecipeError(f"{option} {shown(text)}: expected {form}.")
    return key.strip(), values.strip()


def check_dials(recipe: Recipe, dials: Sequence[Dial]) -> tuple[Dial, ...]:
    """The dials, with the type of their fields; each value that decides is tried in the recipe.

    Raises:
        RecipeError: an unknown field, one that may not differ, or values that the recipe refuses; the text lists
            the problems of all dials.
    """
    problems, settled = [], []
    keys = [dial.key for dial in dials]
    for dial in dials:
        try:
            settled.append(_settled(recipe, dial, is_twice=keys.count(dial.key) > 1))
        except RecipeError as error:
            problems.append(str(error))
    if problems:
        raise RecipeError("\n".join(dict.fromkeys(problems)))
    return tuple(settled)


def _settled(recipe: Recipe, dial: Dial, *, is_twice: bool) -> Dial:
    option = f"--{dial.kind} {dial.key}"
    if is_twice:
        raise RecipeError(f"{option}: the field has two dials. Give one.")
    if reason := _why_fixed(dial.key):
        raise RecipeError(f"{option}: may not differ between trials: {reason}.")
    if dial.kind != "grid":
        types = _types_of(dial.key)
        if types and not types & {int, float}:
            raise RecipeError(f"{option}: not a number. Name its values: --grid {dial.key}=VALUE,VALUE")
        is_integer = int in types and float not in types
        if is_integer and not (dial.low.is_integer() and dial.high.is_integer()):
            raise RecipeError(f"{option}: takes whole numbers (got {dial.low:g}..{dial.high:g}).")
        dial = dataclasses.replace(dial, is_integer=is_integer)
    tried = [
        recipe_with(recipe, {dial.key: value}, where=f"the recipe with {dial.key}={shown(value)}")
        for value in dial.ends
    ]
    if dial.kind != "grid":
        return dial
    # as the recipe reads them: YAML's 1e-4 is a text, and a rank of 4.0 is 4
    return dataclasses.replace(dial, choices=tuple(value_at(each, dial.key) for each in tried))


def _why_fixed(key: str) -> str | None:
    for fixed, reason in _FIXED.items():
        if key == fixed or key.startswith(f"{fixed}."):
            return reason
    section, _, name = key.partition(".")
    if section == "data" and name.split(".")[0] in DataSection.model_fields.keys() - _OF_TRAINING_ROWS:
        return f"the validation rows must stay the same (of data, {', '.join(sorted(_OF_TRAINING_ROWS))} may)"
    return None


def _types_of(key: str) -> set[Any]:
    """Types that a field of the recipe takes; empty where there is no such field (the recipe says so better)."""
    section: Any = Recipe
    *above, last = key.split(".")
    for name in above:
        if name not in section.model_fields:
            return set()
        section = next(sections_in(section.model_fields[name].annotation), None)
        if section is None:
            return set()
    if last not in section.model_fields:
        return set()
    annotation = section.model_fields[last].annotation
    return {annotation, *get_args(annotation)}


def recipe_with(recipe: Recipe, values: Mapping[str, Any], *, where: str) -> Recipe:
    """The recipe with some fields set. Raises RecipeError, which begins with ``where``."""
    resolved = recipe.resolved()
    for key, value in values.items():
        *above, last = key.split(".")
        node = resolved
        for name in above:
            node = node.setdefault(name, {})
            if not isinstance(node, dict):
                raise RecipeError(f"{where} is not a valid recipe (1 problem):\n  {key}: {name} is no section")
        node[last] = value
    return parse_recipe(resolved, where)


def plan_trials(recipe: Recipe, dials: Sequence[Dial], samples: int, seed: int) -> tuple[Values, ...]:
    """The values of every trial, decided before the first is trained.

    Each combination of the grid comes ``samples`` times, each time with new draws of the ranges, as with Ray
    Tune's ``num_samples``. More samples only add trials at the end; values that came before are left out.

    Raises:
        RecipeError: nothing to vary, too many trials, or values that do not go together.
    """
    if not dials:
        raise RecipeError("nothing to vary. Give a dial, e.g. --grid lora.rank=4,16")
    grids = [dial for dial in dials if dial.kind == "grid"]
    ranges = [dial for dial in dials if dial.kind != "grid"]
    if samples > 1 and not ranges:
        raise RecipeError(
            f"--samples {samples} draws ranges so many times, and there is none: the grid comes once.\n"
            "Leave --samples away, or give a range (--log, --uniform)."
        )
    num_trials = samples * math.prod(len(dial.choices) for dial in grids)
    if num_trials > MAX_TRIALS:
        raise RecipeError(f"{num_trials:,} trials are more than {MAX_TRIALS:,}. Give fewer values or --samples.")
    combinations = list(itertools.product(*(dial.choices for dial in grids)))
    trials: dict[str, Values] = {}
    for sample, (place, combination) in itertools.product(range(samples), enumerate(combinations)):
        random = np.random.default_rng([seed, sample, place])
        values = {dial.key: choice for dial, choice in zip(grids, combination, strict=True)}
        values |= {dial.key: dial.draw(random) for dial in ranges}
        values = {dial.key: values[dial.key] for dial in dials}
        trials.setdefault(json.dumps(values), values)
    for values in trials.values():
        recipe_with(recipe, values, where=f"the trial {described(values)}")
    return tuple(trials.values())


def value_at(recipe: Recipe, key: str) -> Any:
    """A field of the recipe by its dotted path, in JSON types."""
    node: Any = recipe.resolved()
    for name in key.split("."):
        node = node[name]
    return node


def described(values: Mapping[str, Any]) -> str:
    """``lora.rank=4 training.learning_rate=0.001``."""
    return " ".join(f"{key}={shown_value(value)}" for key, value in values.items())


def shown_value(value: Any) -> str:
    """As a user would write it behind --set."""
    return value if isinstance(value, str) else json.dumps(value)
