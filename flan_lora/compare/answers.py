"""Ask the bare base and an adapter for the same rows, through the router's own prompts, batches and windows.

A `Query` is who answers and how it is asked; from there on a row is a text like any other (`serving.pipeline`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from flan_lora.adapters.remote_store import store_at
from flan_lora.adapters.validation import StoredAdapter
from flan_lora.base.load import Base
from flan_lora.engine.request import Mix
from flan_lora.engine.scheduler import EngineLimits
from flan_lora.evaluation.predictions import Prediction
from flan_lora.serving.completion import Completion
from flan_lora.serving.pipeline import Pipeline, wait
from flan_lora.serving.prompts import PreparedRequest, ServingConfig
from flan_lora.tasks.scorers import score
from flan_lora.tasks.task import Example, Inputs, Prompt, PromptVariant, Task, all_prompts

WARM_UP_ROWS = 2


@dataclass(frozen=True)
class Query:
    """One predictor."""

    name: str
    mix: Mix
    """Empty: the bare base."""
    prompt: Callable[[Inputs], Prompt]
    spellings: Mapping[str, str] = field(default_factory=dict)
    """Label -> the word that stands for it in the prompt; empty: the labels themselves."""


@dataclass(frozen=True)
class PromptScore:
    """How the base did under one wording, on validation rows."""

    variant: PromptVariant
    example: str
    """The wording around the first validation row."""
    score: float
    """`Task.select_on`, in its own unit."""


class AnswerCollector:
    """One base with one adapter, ready to answer; as many threads as you like may ask."""

    def __init__(self, base: Base, stored: StoredAdapter) -> None:
        """Raises what loading an adapter raises: another base, damaged files."""
        self.adapter = stored.name
        # the model's own probabilities, of the order given: what is compared, not what is served calibrated
        self._config = replace(ServingConfig.of(stored), label_temperature=1.0, averages_orders=False)
        limits = EngineLimits(max_running=stored.recipe.evaluation.batch_size, max_waiting=None)
        self._pipeline = Pipeline(base, store_at(stored.path.parent), limits, num_slots=2)
        self._pipeline.registry.load(stored.name)

    def own(self, task: Task) -> Query:
        """The adapter, asked as it was trained."""
        return Query(self.adapter, {self.adapter: 1.0}, task.prompt)

    def score_prompts(
        self, task: Task, examples: Sequence[Example], tried: Sequence[PromptVariant] | None = None
    ) -> tuple[PromptScore, ...]:
        """The bare base under each wording; the best comes first, of equals the one that was named first.

        Args:
            examples: validation rows; never the rows of the comparison.
            tried: in place of the task's own wordings.
        """
        tried = all_prompts(task) if tried is None else tried
        queries = [Query(variant.name, {}, variant.prompt, variant.spellings) for variant in tried]
        answered = self.answer(task, queries, examples, probabilities=False)
        references = [example.references for example in examples]
        sources = [example.inputs[task.inputs[0]] for example in examples]
        prompt_scores = [
            PromptScore(
                variant,
                str(variant.prompt(examples[0].inputs)),
                score(task.scorers, [row.prediction for row in rows], references, sources)[task.select_on],
            )
            for variant, rows in zip(tried, answered, strict=True)
        ]
        return tuple(sorted(prompt_scores, key=lambda prompt_score: -prompt_score.score))

    def answer(
        self,
        task: Task,
        queries: Sequence[Query],
        examples: Sequence[Example],
        *,
        probabilities: bool = True,
        progress: bool = False,
    ) -> list[tuple[Prediction, ...]]:
        """What each predictor says to each example; all of them share every batch.

        Args:
            probabilities: of every label as well, where the task has labels; one more pass.
            progress: show a bar when stderr is a terminal.

        Raises:
            DataError: a prompt does not fit, or the tokenizer cannot spell the labels.
        """
        prepared = [self._prepare(task, query, example) for query in queries for example in examples]
        completions = iter(self._run(prepared, probabilities, progress))
        return [tuple(_prediction(task, example, next(completions)) for example in examples) for _ in queries]

    def time(
        self,
        task: Task,
        queries: Sequence[Query],
        examples: Sequence[Example],
        answered: Sequence[Sequence[Prediction]],
    ) -> list[tuple[Prediction, ...]]:
        """The same answers, those to ``examples`` with their latency alone in a batch.

        Predictors take turns row by row, so that a busy machine slows all of them alike; the first rows of each
        are run once before, unmeasured.
        """
        timed: list[dict[str, float]] = [{} for _ in queries]
        for number, example in enumerate([*examples[:WARM_UP_ROWS], *examples]):
            for latencies, query in zip(timed, queries, strict=True):
                prepared = self._prepare(task, query, example)
                [completion] = self._pipeline.generate([prepared], start=time.perf_counter())
                if number >= min(WARM_UP_ROWS, len(examples)):
                    latencies[example.key] = completion.latency_s
        return [
            tuple(replace(row, latency_s=latencies.get(row.key)) for row in rows)
            for rows, latencies in zip(answered, timed, strict=True)
        ]

    def _prepare(self, task: Task, query: Query, example: Example) -> PreparedRequest:
        """The base is held to labels as the adapter is: free answers would only make it look worse."""
        config = replace(self._config, task=task, prompt=query.prompt, spellings=query.spellings)
        return self._pipeline.prompts.prepare(example.inputs, query.mix, config)

    def _run(self, prepared: Sequence[PreparedRequest], probabilities: bool, progress: bool) -> list[Completion]:
        from tqdm import tqdm

        visible = progress and sys.stderr.isatty()
        with tqdm(total=len(prepared), desc="compare", unit="row", disable=not visible, leave=False) as bar:
            pending = self._pipeline.submit_texts(lambda: prepared, label_probabilities=probabilities)
            for each in pending:
                each.add_done_callback(lambda _: bar.update())
            return wait(pending)


def _prediction(task: Task, example: Example, completion: Completion) -> Prediction:
    return Prediction(
        key=example.key,
        source=example.inputs[task.inputs[0]],
        prediction=completion.text,
        references=example.references,
        raw=completion.raw_text,
        num_tokens=completion.num_tokens,
        label_probabilities=completion.label_probabilities,
    )
