"""Ask the bare base and an adapter for the same rows, in mixed batches of the router's engine.

A `Query` is who answers and how it is asked; everything else is the engine's. Knows tasks, adapters and token ids;
never a score beyond choosing the base's wording, and never a picture.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from flan_lora.adapters.validation import StoredAdapter
from flan_lora.adapters.weights import base_linears
from flan_lora.base.decode import LabelConstraint, decode, label_constraint
from flan_lora.base.load import Base
from flan_lora.base.sliding_window import Reader, best, encode_windows
from flan_lora.engine.adapter_cache import AdapterCache, Mix
from flan_lora.engine.request import Request, SequenceOutput
from flan_lora.engine.runner import ModelRunner
from flan_lora.evaluation.predictions import Prediction
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
        self.recipe = stored.recipe
        self.adapter = stored.name
        self._base, self._engine = base, ModelRunner(base.model)
        linears = base_linears(base.model)
        self._cache = AdapterCache(linears, fingerprint=base.fingerprint, num_slots=2, device=base.device)
        self._cache.add(stored)

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
        constraints = [self._constraint(task, query) for query in queries]
        groups = [
            group
            for query, constraint in zip(queries, constraints, strict=True)
            for group in self._requests(task, query, constraint, examples)
        ]
        wants_labels = probabilities and bool(task.labels) and self.recipe.evaluation.constrained
        answers, found = self._run_groups(groups, wants_labels, progress)
        by_query: list[tuple[Prediction, ...]] = []
        for place, (query, constraint) in enumerate(zip(queries, constraints, strict=True)):
            rows = range(place * len(examples), (place + 1) * len(examples))
            by_query.append(
                tuple(
                    self._prediction(task, query, constraint, example, answers[row], found[row])
                    for example, row in zip(examples, rows, strict=True)
                )
            )
        return by_query

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
        constraints = [self._constraint(task, query) for query in queries]
        for number, example in enumerate([*examples[:WARM_UP_ROWS], *examples]):
            for latencies, query, constraint in zip(timed, queries, constraints, strict=True):
                [group] = self._requests(task, query, constraint, [example])
                start = time.perf_counter()
                self._run(group, wants_labels=False, progress=False)
                if number >= min(WARM_UP_ROWS, len(examples)):
                    latencies[example.key] = time.perf_counter() - start
        return [
            tuple(replace(row, latency_s=latencies.get(row.key)) for row in rows)
            for rows, latencies in zip(answered, timed, strict=True)
        ]

    # One batch

    def _constraint(self, task: Task, query: Query) -> LabelConstraint | None:
        """The base is held to labels as the adapter is: free answers would only make it look worse."""
        if not task.labels or not self.recipe.evaluation.constrained:
            return None
        words = [query.spellings.get(label, label) for label in task.labels]
        return label_constraint(self._base.tokenizer, words)

    def _requests(
        self, task: Task, query: Query, constraint: LabelConstraint | None, examples: Sequence[Example]
    ) -> list[list[Request]]:
        """For each example its windows: one, unless it does not fit and the task reads windows."""
        rows = [example.inputs for example in examples]
        prompts = [query.prompt(inputs) for inputs in rows]
        reader = Reader(query.prompt, task.windowed)
        limit = self.recipe.data.max_source_tokens
        longest = constraint.max_new_tokens if constraint else task.max_new_tokens
        return [
            [
                Request(
                    input_ids=source.input_ids,
                    mix=query.mix,
                    max_new_tokens=longest,
                    num_beams=self.recipe.evaluation.num_beams,
                    constraint=constraint,
                )
                for source in windows
            ]
            for windows in encode_windows(self._base.tokenizer, reader, prompts, rows, limit)
        ]

    def _run_groups(
        self, groups: Sequence[Sequence[Request]], wants_labels: bool, progress: bool
    ) -> tuple[list[SequenceOutput], list[Mapping[str, float] | None]]:
        """`_run` for windows: of each group the surest answer."""
        answers, found = self._run([request for group in groups for request in group], wants_labels, progress)
        chosen, start = [], 0
        for group in groups:
            chosen.append(start + best([answer.mean_log_prob for answer in answers[start : start + len(group)]]))
            start += len(group)
        return [answers[place] for place in chosen], [found[place] for place in chosen]

    def _run(
        self, requests: Sequence[Request], wants_labels: bool, progress: bool
    ) -> tuple[list[SequenceOutput], list[Mapping[str, float] | None]]:
        """The best answer to each request, and its labels' probabilities; batches of like length."""
        from tqdm import tqdm

        answers: dict[int, SequenceOutput] = {}
        found: dict[int, Mapping[str, float]] = {}
        order = sorted(range(len(requests)), key=lambda place: (-len(requests[place].input_ids), place))
        size = self.recipe.evaluation.batch_size
        visible = progress and sys.stderr.isatty()
        with tqdm(total=len(order), desc="compare", unit="row", disable=not visible, leave=False) as bar:
            for start in range(0, len(order), size):
                places = order[start : start + size]
                batch = [requests[place] for place in places]
                with self._cache.lease([name for request in batch for name in request.mix]) as lease:
                    generated = self._engine.generate(batch, lease)
                    if wants_labels:
                        labels = self._engine.label_probabilities(batch, lease)
                        found.update(zip(places, labels, strict=True))
                answers.update({place: best for place, (best, *_) in zip(places, generated, strict=True)})
                bar.update(len(places))
        every = range(len(requests))
        return [answers[place] for place in every], [found.get(place) for place in every]

    def _prediction(
        self,
        task: Task,
        query: Query,
        constraint: LabelConstraint | None,
        example: Example,
        answer: SequenceOutput,
        probabilities: Mapping[str, float] | None,
    ) -> Prediction:
        raw = decode(self._base.tokenizer, answer.ids, constraint)
        labels = {word: label for label, word in query.spellings.items()}
        return Prediction(
            key=example.key,
            source=example.inputs[task.inputs[0]],
            prediction=labels.get(raw.strip(), task.parse(raw)),
            references=example.references,
            raw=raw,
            num_tokens=len(answer.ids),
            label_probabilities=None
            if probabilities is None
            else {labels.get(word, word): share for word, share in probabilities.items()},
        )
