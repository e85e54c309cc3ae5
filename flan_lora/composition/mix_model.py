"""Published adapters of one base as a mix: its loss on given targets, its answers as the router gives them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flan_lora.adapters.store import Store
from flan_lora.adapters.weights import AdapterWeights, base_linears, bind_to_base, read_adapter
from flan_lora.base.load import Base
from flan_lora.base.quantised import weight_of
from flan_lora.data.encoding import EncodedSplit
from flan_lora.engine.request import Mix, Request
from flan_lora.engine.scheduler import EngineLimits
from flan_lora.evaluation.predictions import Prediction
from flan_lora.recipe import Recipe
from flan_lora.serving.completion import Completion
from flan_lora.serving.pipeline import Pipeline, wait
from flan_lora.serving.prompts import ServingConfig
from flan_lora.tasks.task import Example

_NUM_OWN = 2
"""Slots of adapters that are made here: the few-shot one and the merged one."""


class MixModel:
    """One base, asked for one task under any mix of its adapters."""

    def __init__(self, base: Base, store: Store, names: Sequence[str], recipe: Recipe) -> None:
        """
        Args:
            names: published adapters of the store, which stay in their slots.
            recipe: of the task: its prompt, limits and decoding hold for every mix.

        Raises what loading an adapter raises.
        """
        self.base, self.recipe = base, recipe
        self.task = recipe.task_definition
        limits = EngineLimits(max_running=recipe.evaluation.batch_size, max_waiting=None)
        self._pipeline = Pipeline(base, store, limits, num_slots=len(names) + _NUM_OWN + 1)
        self._config = ServingConfig(
            self.task,
            recipe.data.max_source_tokens,
            recipe.evaluation.generation_params,
            recipe.evaluation.constrained,
            romanise=recipe.data.romanise is not False,
        )
        for name in names:
            self._pipeline.registry.load(name)

    def load(self, name: str, folder: Path) -> None:
        """Take in a PEFT folder under a name. Raises what `Router.load` raises."""
        self._pipeline.registry.load(name, folder, task=self.recipe.task)

    def loss(self, mix: Mix, rows: EncodedSplit) -> float:
        """Mean cross entropy of the target tokens (nats), as training and validation count it."""
        requests = [
            Request(source, mix, target=target) for source, target in zip(rows.input_ids, rows.labels, strict=True)
        ]
        return -sum(self._pipeline.engine.score_targets(requests)) / sum(map(len, rows.labels))

    def answer(
        self, mixes: Sequence[Mix], examples: Sequence[Example], *, progress: bool = False
    ) -> list[tuple[Prediction, ...]]:
        """What each mix says to each example; all of them share every batch.

        Args:
            progress: show a bar when stderr is a terminal.

        Raises:
            DataError: a prompt does not fit, or the tokenizer cannot spell the labels.
        """
        prepare = self._pipeline.prompts.prepare
        prepared = [prepare(example.inputs, mix, self._config) for mix in mixes for example in examples]
        pending = self._pipeline.submit_texts(lambda: prepared)
        with _bar(len(prepared), self.task.name, progress) as bar:
            for each in pending:
                each.add_done_callback(lambda _: bar.update())
            found = iter(wait(pending))
        return [tuple(self._prediction(example, next(found)) for example in examples) for _ in mixes]

    def weights(self, mix: Mapping[str, float]) -> list[AdapterWeights]:
        """The tensors of a mix's adapters, in its order."""
        linears, weight = self.linears, weight_of(self.base.model)
        sources = {name: self._pipeline.registry.find(name).source for name in mix}
        return [bind_to_base(name, read_adapter(source), linears, weight) for name, source in sources.items()]

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Those of the base that an adapter may change."""
        return base_linears(self.base.model)

    def close(self) -> None:
        """Nothing more will be asked."""
        self._pipeline.engine.close()

    def _prediction(self, example: Example, completion: Completion) -> Prediction:
        return Prediction(
            key=example.key,
            source=example.inputs[self.task.inputs[0]],
            prediction=completion.text,
            references=example.references,
            raw=completion.raw_text,
        )


def _bar(total: int, name: str, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc=name, unit="row", disable=not (progress and sys.stderr.isatty()), leave=False)
