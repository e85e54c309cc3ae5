"""A published adapter, or the bare base under its prompt, scored again: on its rows or a file of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flan_lora.adapters.peft_loader import load_adapter
from flan_lora.adapters.validation import StoredAdapter
from flan_lora.data.sources import DataSource
from flan_lora.data.splits import Split, load_split, load_whole_file, max_rows_of
from flan_lora.errors import DataError, RecipeError
from flan_lora.evaluation.evaluate import Evaluation
from flan_lora.recipe import Recipe, Role, parse_recipe
from flan_lora.recipe_file import apply_overrides
from flan_lora.training.evaluations import evaluate_split


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
        evaluation = evaluate_split(recipe, loaded, model, split, stored.name)
    else:
        with model.disable_adapter():
            evaluation = evaluate_split(recipe, loaded, model, split, "base")
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
    task, beams = recipe.task_definition, recipe.evaluation.num_beams
    who = "the bare base, asked as the adapter is" if base_only else "asked"
    search = f"{beams} beams" if beams > 1 else "greedy"
    labels = ", labels only" if task.labels and recipe.evaluation.constrained else ""
    return f"{who}: {recipe.data.max_source_tokens} source and {task.max_new_tokens} new tokens, {search}{labels}"
