"""A merged mix as an ordinary adapter folder: PEFT's files, manifest, metrics and card, through the store."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flan_lora.adapters.card import card
from flan_lora.adapters.lora_config import CONFIG
from flan_lora.adapters.manifest import (
    BaseRecord,
    CompositionRecord,
    DataRecord,
    ExampleRecord,
    Manifest,
    Metrics,
    PartRecord,
    ScoreRecord,
    Scores,
    TrainingRecord,
    dump,
    installed_versions,
    portable_base_name,
    portable_recipe,
    utc_now,
)
from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import CARD, METRICS, WEIGHTS, StoredAdapter
from flan_lora.composition.candidates import BASE, MERGED, MIX, Compared
from flan_lora.composition.merged import MergedUpdate, short_name
from flan_lora.composition.rows import FewRows
from flan_lora.composition.search import SearchResult
from flan_lora.data.sources import DataSource
from flan_lora.recipe import LoraSection, Recipe
from flan_lora.system.devices import device_name

if TYPE_CHECKING:
    from flan_lora.base.load import Base


@dataclass(frozen=True)
class FinishedComposition:
    """Everything that a manifest says of a mix that became one adapter."""

    recipe: Recipe
    """Its name and its ``lora`` section are the merged adapter's."""
    source: DataSource
    base: Base
    rows: FewRows
    found: SearchResult
    seed: int
    """Of the rows."""
    seconds: float
    """Of the search."""
    answer_seconds: float
    """Of all candidates on the held-out rows."""
    parts: Mapping[str, StoredAdapter]
    merged: MergedUpdate
    equal_share: float
    compared: Sequence[Compared]
    """The merged adapter among them."""
    examples: Sequence[ExampleRecord]


def merged_recipe(recipe: Recipe, name: str, merged: MergedUpdate) -> Recipe:
    """The recipe with the update that the merged adapter has: scale 1, and the linears that it changes."""
    order = LoraSection(target_modules=("all-linear",)).modules(("q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"))
    changed = set(map(short_name, merged.pairs))
    lora = LoraSection.model_validate(
        {
            "rank": merged.rank,
            "alpha": merged.rank,
            "target_modules": [each for each in order if each in changed],
        }
    )
    return recipe.model_copy(update={"name": name, "lora": lora})


def write_peft_folder(folder: Path, recipe: Recipe, merged: MergedUpdate) -> Path:
    """PEFT's two files, as ``save_pretrained`` writes them."""
    from safetensors.torch import save_file

    from flan_lora.training.lora import peft_config

    folder.mkdir(parents=True, exist_ok=True)
    peft_config(recipe, recipe.lora.target_modules).save_pretrained(str(folder))
    tensors = {
        f"base_model.model.{path}.lora_{kind}.weight": tensor.contiguous()
        for path, pair in merged.pairs.items()
        for kind, tensor in zip("AB", pair, strict=True)
    }
    save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})
    assert (folder / CONFIG).is_file(), "PEFT names its config otherwise now"
    return folder


def publish_merged(finished: FinishedComposition, store: Store) -> Path:
    """Write the folder and hand it to the store. Raises what `Store.publish` raises."""
    metrics = _metrics(finished)
    manifest = _manifest(finished, metrics)
    with tempfile.TemporaryDirectory(prefix="flan-lora-") as place:
        staged = write_peft_folder(Path(place), finished.recipe, finished.merged)
        (staged / METRICS).write_text(dump(metrics), encoding="utf-8")
        (staged / CARD).write_text(card(manifest, metrics), encoding="utf-8")
        return store.publish(staged, manifest)


def _manifest(finished: FinishedComposition, metrics: Metrics) -> Manifest:
    recipe, base = finished.recipe, finished.base
    held_out = finished.rows.held_out
    assert held_out is not None, "nothing is published without a score"
    best = finished.found.best
    return Manifest(
        name=recipe.name,
        task=recipe.task,
        task_version=recipe.task_definition.version,
        base=BaseRecord(
            model=portable_base_name(recipe.base.model),
            revision=recipe.base.revision,
            fingerprint=base.fingerprint,
            quantization=recipe.base.quantization,
        ),
        recipe=portable_recipe(recipe.resolved()),
        recipe_fingerprint=recipe.fingerprint(),
        data=DataRecord(
            kind=finished.source.kind,
            origin=finished.rows.search.origin,
            content_hash=finished.rows.search.content_hash,
            num_train_rows=len(finished.rows.search.examples),
            num_validation_rows=0,
            num_test_rows=len(held_out.examples),
        ),
        training=TrainingRecord(
            num_steps=0,
            best_step=0,
            seconds=finished.seconds,
            device=device_name(base.device),
            precision="fp32",
            seed=finished.seed,
        ),
        composition=CompositionRecord(
            parts=tuple(
                PartRecord(name=name, weight=weight, sha256=finished.parts[name].manifest.files[WEIGHTS].sha256)
                for name, weight in best.weights.items()
            ),
            num_evaluations=len(finished.found.evaluated),
            loss=best.loss,
            base_loss=finished.found.base.loss,
            relative_error=finished.merged.relative_error,
            equal_share=finished.equal_share,
        ),
        scores=metrics.adapter,
        base_scores=metrics.base,
        baseline_scores=metrics.baselines,
        versions=installed_versions(),
        created_at=utc_now(),
    )


def _metrics(finished: FinishedComposition) -> Metrics:
    held_out = finished.rows.held_out
    assert held_out is not None, "nothing is published without a score"
    scores = {each.name: _records(each) for each in finished.compared}
    others = {name: own for name, own in scores.items() if name not in (MERGED, BASE)}
    return Metrics(
        task=finished.recipe.task,
        select_on=finished.recipe.select_on,
        split=held_out.role,
        num_rows=len(held_out.examples),
        origin=held_out.origin,
        seconds=finished.answer_seconds / len(finished.compared),
        adapter=scores[MERGED],
        base=scores[BASE],
        baselines={("the mix" if name == MIX else name): own for name, own in others.items()},
        examples=list(finished.examples),
    )


def _records(compared: Compared) -> Scores:
    return {name: ScoreRecord.model_validate(score) for name, score in compared.scores.items()}
