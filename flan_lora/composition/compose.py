"""The main job in one function: rows -> weights, without gradients -> the mix beside others -> one adapter."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flan_lora.adapters import remote_store
from flan_lora.adapters.manifest import ExampleRecord
from flan_lora.adapters.remote_store import store_at
from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import StoredAdapter, check_name
from flan_lora.base.load import open_tokenizer
from flan_lora.base.serving import open_serving_base
from flan_lora.composition.candidates import (
    BASE,
    FEW_SHOT,
    MERGED,
    MIX,
    Candidate,
    Compared,
    compare_candidates,
    equal_share,
)
from flan_lora.composition.few_shot import train_few_shot
from flan_lora.composition.merged import MergedUpdate, merge_mix
from flan_lora.composition.mix_model import MixModel
from flan_lora.composition.publish import FinishedComposition, merged_recipe, publish_merged, write_peft_folder
from flan_lora.composition.rows import FewRows, read_rows, task_recipe
from flan_lora.composition.search import SearchResult, SearchSettings, check_nevergrad, search_weights
from flan_lora.data.encoding import EncodedSplit, encode_afresh
from flan_lora.data.sources import DataSource
from flan_lora.errors import AdapterError, DataError, RequestError
from flan_lora.evaluation.predictions import Prediction
from flan_lora.recipe import Recipe
from flan_lora.system.files import check_writable
from flan_lora.tasks.task import Example, card_examples

Echo = Callable[[str], None]
_FEW_SHOT, _MERGED = "FewShot", "Merged"
"""Names in the engine that no published adapter can have: those are in lower case."""
MAX_RANK = 256
"""As of `LoraSection.rank`."""


@dataclass(frozen=True)
class MergeReport:
    """What became of the mix as one adapter."""

    rank: int
    relative_error: float
    """||mix - merged|| / ||mix|| of the update, Frobenius, over all linears together."""
    largest_error: tuple[str, float]
    """The linear that loses most, and how much."""
    equal_share: float
    """Of the held-out rows that both answer alike, word for word."""
    errors: Mapping[str, float]
    """Of every linear."""


@dataclass(frozen=True)
class Composition:
    """A mix for a task, how it was found and how it does."""

    task: str
    base: str
    adapter_mix: Mapping[str, float]
    """Adapter -> weight, as `Router.generate` takes it together with ``task``; empty: no adapter helped."""
    num_rows: int
    """That the weights were searched on."""
    num_held_out: int
    select_on: str
    """The score to read first."""
    search: SearchResult
    search_seconds: float
    compared: tuple[Compared, ...]
    """On the held-out rows, the mix first; empty without such rows."""
    merged: MergeReport | None = None
    published: str | None = None
    """Where the merged adapter lies: a folder, or the URL of an adapter root that is one."""


@dataclass(frozen=True)
class ComposeOptions:
    """What is searched, compared and published."""

    num_rows: int = 16
    """To search on."""
    max_held_out: int | None = 200
    """To compare on, a seeded sample; None: all there are."""
    search: SearchSettings = field(default_factory=SearchSettings)
    seed: int = 0
    """Of the rows, and of the few-shot training."""
    few_shot_steps: int = 40
    """Of the LoRA that is trained on the same rows; 0: none is."""
    publish_as: str | None = None
    """Name of the merged adapter; None: the mix stays a mix."""
    rank: int | None = None
    """Of the merged adapter; None: the largest of its parts."""


def compose(
    task: str,
    source: DataSource,
    *,
    adapters_dir: str | Path,
    names: Sequence[str] = (),
    base: str | None = None,
    held_out_source: DataSource | None = None,
    overrides: Sequence[str] = (),
    options: ComposeOptions = ComposeOptions(),
    echo: Echo = print,
) -> Composition:
    """Find weights for a mix of published adapters on a few rows of a task, and compare it on others.

    Args:
        task: whose prompt, parser and scores are used, key in `tasks.TASKS`.
        source: the rows; those of the search are a seeded sample of them.
        adapters_dir: of one base, adapters/<base>.
        names: adapters to compose; empty: all of the folder that are sound.
        base: another name or place of the adapters' base; the fingerprint still decides.
        held_out_source: other rows to compare on.
        overrides: ``data.columns.text=body`` and other fields of the task's recipe, as training takes them.
        echo: gets one line per stage.

    Raises:
        FlanLoraError: nevergrad is missing, rows or adapters are not to be had, or nothing can be published.
    """
    check_nevergrad()
    store = store_at(adapters_dir)
    parts = _open_parts(store, names)
    spec = next(iter(parts.values())).recipe.base.at(base)
    recipe = task_recipe(task, spec, tuple(parts.values()), overrides)
    rows = read_rows(
        recipe,
        source,
        num_rows=options.num_rows,
        max_held_out=options.max_held_out,
        seed=options.seed,
        held_out_source=held_out_source,
    )
    _check_publish(options, store, rows)
    model = MixModel(open_serving_base(spec), store, tuple(parts), recipe)
    try:
        return _Run(model, parts, rows, options, echo).compose(source, store)
    finally:
        model.close()


class _Run:
    """One composition, its base open."""

    def __init__(
        self,
        model: MixModel,
        parts: Mapping[str, StoredAdapter],
        rows: FewRows,
        options: ComposeOptions,
        echo: Echo,
    ) -> None:
        self._model, self._parts, self._rows, self._options, self._echo = model, parts, rows, options, echo
        self._recipe: Recipe = model.recipe
        self._encoded: EncodedSplit = encode_afresh(rows.search, self._recipe, open_tokenizer(self._recipe.base))

    def compose(self, source: DataSource, store: Store) -> Composition:
        """Search, compare, publish."""
        started_s = time.perf_counter()
        found = self._search()
        seconds = time.perf_counter() - started_s
        mix, options = found.best.weights, self._options
        with tempfile.TemporaryDirectory(prefix="flan-lora-") as folder:
            merged = self._merge(mix, Path(folder)) if options.publish_as else None
            candidates = self._candidates(found, Path(folder)) if self._rows.held_out else []
            started_s = time.perf_counter()
            compared, answers = self._compare(candidates)
            answer_seconds = time.perf_counter() - started_s
        report = published = None
        if merged is not None:
            assert options.publish_as is not None
            share = equal_share(answers[MIX], answers[MERGED])
            report = MergeReport(merged.rank, merged.relative_error, merged.largest_error, share, merged.errors)
            publish_merged(
                FinishedComposition(
                    merged_recipe(self._recipe, options.publish_as, merged),
                    source,
                    self._model.base,
                    self._rows,
                    found,
                    options.seed,
                    seconds,
                    answer_seconds,
                    self._parts,
                    merged,
                    share,
                    compared,
                    self._examples(),
                ),
                store,
            )
            published = f"{store.place}/{options.publish_as}"
        return Composition(
            self._recipe.task,
            self._recipe.base.model,
            dict(mix),
            len(self._rows.search.examples),
            len(self._rows.held_out.examples) if self._rows.held_out else 0,
            self._recipe.select_on,
            found,
            seconds,
            compared,
            report,
            published,
        )

    def _search(self) -> SearchResult:
        names, num_rows = tuple(self._parts), len(self._encoded)
        self._echo(f"{self._recipe.task}: {num_rows} rows of {self._rows.search.origin}, {len(names)} adapters")
        found = search_weights(names, lambda mix: self._model.loss(mix, self._encoded), self._options.search)
        single = found.single
        (name,) = single.weights
        self._echo(
            f"loss (nats per token) {found.best.loss:.4f} of the mix, {single.loss:.4f} of {name} alone, "
            f"{found.base.loss:.4f} of the bare base, after {len(found.evaluated)} evaluations"
        )
        return found

    def _merge(self, mix: Mapping[str, float], folder: Path) -> MergedUpdate:
        """The mix as one adapter, ready in the engine."""
        if not mix:
            raise AdapterError(
                "there is nothing to publish: no mix has a lower loss on these rows than the bare base.\n"
                "Give more rows or a larger budget, or train an adapter (flan-lora train)."
            )
        model, rank = self._model, self._options.rank
        merged = merge_mix(model.weights(mix), mix, model.linears, rank)
        assert self._options.publish_as is not None
        recipe = merged_recipe(self._recipe, self._options.publish_as, merged)
        model.load(_MERGED, write_peft_folder(folder / "merged", recipe, merged))
        self._echo(f"merged to rank {merged.rank}: {merged.relative_error:.2%} of the update is lost")
        return merged

    def _candidates(self, found: SearchResult, folder: Path) -> list[Candidate]:
        """The mix, and what it has to beat."""
        single, num_rows, options = found.single, len(self._encoded), self._options
        (name,) = single.weights
        candidates = [
            Candidate(MIX, f"weights searched on {num_rows} rows", found.best.weights),
            Candidate(f"{name} alone", f"the adapter with the lowest loss on the {num_rows} rows", single.weights),
            Candidate(BASE, "no adapter", {}),
        ]
        if options.few_shot_steps:
            steps = options.few_shot_steps
            self._echo(f"training a LoRA on the same {num_rows} rows, {steps} steps")
            staged = train_few_shot(
                self._recipe,
                self._rows.search,
                self._encoded,
                folder / "run",
                num_steps=steps,
                seed=options.seed,
            )
            self._model.load(_FEW_SHOT, staged)
            about = f"a fresh LoRA, {steps} steps on the {num_rows} rows"
            candidates.append(Candidate(FEW_SHOT, about, {_FEW_SHOT: 1.0}))
        if options.publish_as:
            candidates.append(Candidate(MERGED, "the mix as one adapter", {_MERGED: 1.0}))
        return candidates

    def _compare(
        self, candidates: Sequence[Candidate]
    ) -> tuple[tuple[Compared, ...], Mapping[str, Sequence[Prediction]]]:
        """Scores of all, and their answers by name."""
        held_out = self._rows.held_out
        if held_out is None:
            return (), {}
        self._echo(f"comparing on {len(held_out.examples)} rows that the search has not seen")
        answers = self._model.answer([each.mix for each in candidates], held_out.examples, progress=True)
        compared = compare_candidates(self._model.task, candidates, answers)
        return compared, {each.name: own for each, own in zip(candidates, answers, strict=True)}

    def _examples(self) -> list[ExampleRecord]:
        """The task's card examples, answered by the merged adapter and the bare base."""
        examples: list[Example] = card_examples(self._model.task)
        if not examples:
            return []
        own, bare = self._model.answer([{_MERGED: 1.0}, {}], examples)
        return [
            ExampleRecord(inputs=dict(item.inputs), expected=item.target, adapter=a.prediction, base=b.prediction)
            for item, a, b in zip(examples, own, bare, strict=True)
        ]


def _open_parts(store: Store, names: Sequence[str]) -> dict[str, StoredAdapter]:
    """The adapters to compose, by name."""
    if names:
        if len(set(names)) != len(names):
            raise RequestError(f"an adapter is named twice: {', '.join(names)}.")
        return {name: store.open(name) for name in names}
    sound = [item for item in store.list() if isinstance(item, StoredAdapter)]
    if not sound:
        raise AdapterError(f"no adapters in {store.place} to compose. Train some: flan-lora train RECIPE")
    return {item.name: item for item in sound}


def _check_publish(options: ComposeOptions, store: Store, rows: FewRows) -> None:
    """Refuse before the work what would be refused after it."""
    if options.publish_as is None:
        if options.rank is not None:
            raise RequestError("a rank is that of the merged adapter: give its name too (--publish NAME).")
        return
    check_name(options.publish_as)
    check_writable(store.root / options.publish_as)
    remote_store.check_writable(store.root)
    if options.rank is not None and not 1 <= options.rank <= MAX_RANK:
        raise RequestError(f"rank: expected 1 to {MAX_RANK} (got {options.rank}).")
    if rows.held_out is None:
        raise DataError(
            f"nothing is published without a score on rows that the search has not seen, and all "
            f"{len(rows.search.examples)} rows of {rows.search.origin} were searched on.\n"
            "Search on fewer (--rows), or give other rows to compare on (--test-data)."
        )
