"""One text -> the engine's requests -> one completion, by the task, limits and labels of the adapter it is for.

The only way from a text to an answer: the router and the comparison with the bare base both go through here.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from flan_lora.adapters.validation import WEIGHTS
from flan_lora.adapters.weights import PlainFolder, Source
from flan_lora.base.decode import LabelConstraint, decode, label_constraint
from flan_lora.base.sliding_window import WindowedPrompt, best, encode_windows
from flan_lora.engine.request import GenerationOutput, Mix, Request, SequenceOutput
from flan_lora.errors import AdapterError, RequestError
from flan_lora.evaluation.calibration import averaged, tempered
from flan_lora.serving.completion import Completion, Route, Text, heaviest
from flan_lora.serving.params import Params, cut_at_stop, resolve
from flan_lora.tasks import Prompt, Task, get_task
from flan_lora.tasks.task import Inputs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MAX_NEW_TOKENS = 64
"""Of an answer that no task limits."""
_STOP_MARGIN = 8
"""Tokens before those of a stop: the first of a text loses its space, and some are empty."""


@dataclass(frozen=True)
class ServingConfig:
    """How one adapter, or the bare base, is asked, and how its output is read."""

    task: Task | None = None
    """None: the text goes to the base as it is."""
    max_source_tokens: int = 512
    params: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `GenerationParams` that the adapter was evaluated with."""
    is_constrained: bool = True
    """Whether answers to a task with labels are held to them."""
    label_temperature: float = 1.0
    """What the logits of label probabilities are divided by; for the adapter alone, under its own prompt."""
    averages_orders: bool = True
    """Whether label probabilities of a symmetric task are the mean of both orders."""
    prompt: Callable[[Inputs], Prompt] | None = None
    """In place of the task's own."""
    spellings: Mapping[str, str] = field(default_factory=dict)
    """Label -> the word that stands for it in ``prompt``; empty: the labels themselves."""
    romanise: bool = True
    """Whether Hindi is read and written in Latin letters."""

    @staticmethod
    def of(source: Source, task: str | None = None, *, romanise: bool = True) -> ServingConfig:
        """From the manifest; a plain folder has none, so its owner names the task.

        Args:
            romanise: what the base's tokenizer asks for, where there is no manifest.
        """
        if isinstance(source, PlainFolder):
            return ServingConfig.of_task(task, romanise=romanise)
        recipe, manifest = source.recipe, source.manifest
        return ServingConfig(
            recipe.task_definition,
            recipe.data.max_source_tokens,
            recipe.evaluation.generation_params,
            recipe.evaluation.constrained,
            manifest.label_temperature,
            romanise=recipe.data.romanise is not False,
        )

    @staticmethod
    def of_task(task: str | None, *, romanise: bool) -> ServingConfig:
        """Of a task that no recipe says more of; None: none."""
        return ServingConfig(None if task is None else get_task(task, romanise=romanise), romanise=romanise)

    def under(self, task: str | None) -> ServingConfig:
        """The same limits under another task's prompt, where its own temperature says nothing; None: as it is."""
        if task is None or (other := get_task(task, romanise=self.romanise)) is self.task:
            return self
        return replace(self, task=other, label_temperature=1.0)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What a text consists of."""
        return self.task.inputs if self.task is not None else ("text",)

    @property
    def optional_inputs(self) -> tuple[str, ...]:
        """What may come along, such as where an answer stands."""
        return self.task.optional_inputs if self.task is not None else ()

    @property
    def label_words(self) -> tuple[str, ...]:
        """The answers that the base may give; empty where it may say anything."""
        if self.task is None or not self.is_constrained:
            return ()
        return tuple(self.spellings.get(label, label) for label in self.task.labels)

    def windowed_prompt(self) -> WindowedPrompt:
        """Inputs -> prompt, in windows where the task says so."""
        if self.task is None:
            return WindowedPrompt(lambda inputs: Prompt("", inputs["text"]))
        return WindowedPrompt(self.prompt or self.task.prompt, self.task.windowed)

    def label_of(self, word: str) -> str | None:
        """The label that a word of ``spellings`` stands for."""
        return next((label for label, spelling in self.spellings.items() if spelling == word), None)

    def parse(self, output: str, inputs: Inputs) -> str:
        """The task's answer to these inputs, in what the base wrote."""
        if self.task is None:
            return output.strip()
        label = self.label_of(output.strip())
        return self.task.answer(output, inputs) if label is None else label


@dataclass(frozen=True)
class PreparedRequest:
    """One text, ready for the engine."""

    config: ServingConfig
    windows: tuple[Request, ...]
    """In the order of the text; one, unless it does not fit and its task reads it in windows."""
    swapped: Request | None = None
    """The same question the other way round, of a symmetric task with labels."""
    temperature: float = 1.0
    """Of its label probabilities."""
    route: Route | None = None
    asked_as: str | None = None
    """The adapter whose ``config`` this is."""
    inputs: Inputs = field(default_factory=dict)
    """What was asked, in the caller's words: an answer is read in them."""
    sources: Mapping[str, Source] = field(default_factory=dict)
    """What the adapters' names stood for when it was prepared."""

    def is_for(self, sources: Mapping[str, Source]) -> bool:
        """Whether these are the very adapters that it was prepared for."""
        return all(sources.get(name) is source for name, source in self.sources.items())

    @property
    def mix(self) -> Mix:
        """The adapters that answer."""
        return self.windows[0].mix

    @property
    def label_requests(self) -> tuple[Request, ...]:
        """What label probabilities are read from: every window, then the swapped question; none without labels."""
        orders = (*self.windows, *(() if self.swapped is None else (self.swapped,)))
        return tuple(request for request in orders if request.constraint is not None)


@dataclass(frozen=True)
class ChosenWindow:
    """The window whose answer counts: the one that the model is surest of."""

    request: Request
    answers: Sequence[SequenceOutput]
    finished_s: float
    """When the last window's last token came (``time.perf_counter``)."""
    place: int = 0
    """Among the windows."""


class PromptEncoder:
    """Texts to requests, with one tokenizer. Any number of threads may use it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._constraints: dict[tuple[str, ...], LabelConstraint] = {}
        self._lock = threading.Lock()

    def prepare(
        self,
        text: Text,
        mix: Mix,
        config: ServingConfig,
        params: Params = None,
        route: Route | None = None,
        asked_as: str | None = None,
        sources: Mapping[str, Source] | None = None,
    ) -> PreparedRequest:
        """A text in the prompt and within the limits of ``config``.

        Raises:
            RequestError: the inputs are not those of the task or blank, or limits make no sense.
            DataError: the prompt does not fit, or the tokenizer cannot spell the labels.
        """
        inputs, task = inputs_of(config, text), config.task
        if task is not None or mix:
            _check_not_blank(config, inputs)
        constraint = self._constraint(config.label_words)
        longest = constraint.max_new_tokens if constraint else task.max_new_tokens if task else _MAX_NEW_TOKENS
        orders = [inputs]
        if task is not None and task.swap is not None and constraint and config.averages_orders:
            orders.append(task.swap(inputs))
        windowed = config.windowed_prompt()
        prompts = [windowed.render(order) for order in orders]
        windows, *swapped = encode_windows(self._tokenizer, windowed, prompts, orders, config.max_source_tokens)
        own = {name: value for name, value in config.params.items() if not constraint or name != "max_new_tokens"}
        request = Request(
            input_ids=windows[0].input_ids,
            mix=mix,
            params=resolve(params, own, longest),
            constraint=constraint,
        )
        if request.params.stop:
            request = replace(request, stopping=partial(self._has_stop, request.params.stop))
        is_alone = list(mix.values()) == [1.0]
        return PreparedRequest(
            config,
            tuple(replace(request, input_ids=window.input_ids) for window in windows),
            replace(request, input_ids=swapped[0][0].input_ids) if swapped else None,
            config.label_temperature if is_alone else 1.0,
            route,
            asked_as,
            inputs,
            sources or {},
        )

    def complete(
        self, prepared: PreparedRequest, chosen: ChosenWindow, latency_s: float, labels: LabelScores = ()
    ) -> Completion:
        """The completion that the answers of the chosen window are.

        Args:
            labels: probabilities of the label words, of each order that was read.
        """
        config, mix = prepared.config, prepared.mix
        source = prepared.sources.get(heaviest(mix)) if mix else None
        stop = chosen.request.params.stop
        raw = [
            cut_at_stop(decode(self._tokenizer, answer.ids, chosen.request.constraint), stop)
            for answer in chosen.answers
        ]
        texts = [config.parse(each, prepared.inputs) for each in raw]
        check_has_numbers(prepared, chosen)
        return Completion(
            text=texts[0],
            adapter=heaviest(mix) if mix else None,
            latency_s=latency_s,
            num_tokens=len(chosen.answers[0].ids),
            log_prob=chosen.answers[0].log_prob,
            mix=mix,
            label_probabilities=_label_probabilities(prepared, labels),
            alternatives=tuple(texts[1:]),
            route=prepared.route,
            raw_text=raw[0],
            asked_as=prepared.asked_as,
            digest=None if source is None else digest_of(source),
        )

    def text_of(self, ids: Sequence[int], stop: Sequence[str] = ()) -> str:
        """What the base has written so far, up to a stop."""
        return cut_at_stop(decode(self._tokenizer, ids), stop)

    def _has_stop(self, stop: Sequence[str], ids: Sequence[int]) -> bool:
        """Whether the end of an answer has one of these texts. Its last tokens are enough: each is a character."""
        tail = decode(self._tokenizer, ids[-max(map(len, stop)) - _STOP_MARGIN :])
        return any(each in tail for each in stop)

    def _constraint(self, words: tuple[str, ...]) -> LabelConstraint | None:
        """One object for equal words: rows of one constraint are scored together."""
        if not words:
            return None
        with self._lock:
            if words not in self._constraints:
                self._constraints[words] = label_constraint(self._tokenizer, words)
            return self._constraints[words]


LabelScores = Sequence[Mapping[str, float]]


def choose_window(prepared: PreparedRequest, outputs: Sequence[GenerationOutput]) -> ChosenWindow:
    """Of one text's windows, the one whose best answer has the highest mean log-probability."""
    place = best([output.sequences[0].mean_log_prob for output in outputs])
    finished_s = max(output.finished_s for output in outputs)
    return ChosenWindow(prepared.windows[place], outputs[place].sequences, finished_s, place)


def check_has_numbers(prepared: PreparedRequest, chosen: ChosenWindow) -> None:
    """Raise AdapterError for an answer that was chosen among NaN."""
    if math.isnan(chosen.answers[0].log_prob):
        who = " + ".join(prepared.mix) or "the base"
        raise AdapterError(f"{who} computes no numbers for this text (NaN): its weights or their scale are unfit.")


def takes(task: Task, text: Text) -> bool:
    """Whether a task's inputs are these: one for a text, else the same names, and any of its optional ones."""
    if isinstance(text, str):
        return len(task.inputs) == 1
    return set(task.inputs) == text.keys() - set(task.optional_inputs)


def inputs_of(config: ServingConfig, text: Text) -> Inputs:
    """The named inputs of a text. Raises RequestError when they are not those of the task."""
    task = config.task
    if task is None:
        if isinstance(text, str):
            return {"text": text}
        raise RequestError(
            f"without a task there is one text, and no {', '.join(text)}.\n"
            "Name the task (task=...), or give the whole prompt as a text."
        )
    if takes(task, text):
        return {task.inputs[0]: text} if isinstance(text, str) else _checked(text)
    got = "one text" if isinstance(text, str) else f"{', '.join(text) or 'nothing'}"
    raise RequestError(
        f"task {task.name} takes {', '.join(task.inputs)} (got {got}): give a mapping of its inputs."
    )


def _checked(inputs: Inputs) -> Inputs:
    """Texts, and places as the digits of a number."""
    wrong = {name: value for name, value in inputs.items() if not isinstance(value, (str, int))}
    if wrong:
        got = ", ".join(f"{name}: {type(value).__name__}" for name, value in wrong.items())
        raise RequestError(f"inputs are texts (got {got}).")
    return {name: str(value) for name, value in inputs.items()}


def _check_not_blank(config: ServingConfig, inputs: Inputs) -> None:
    """An adapter has learned from no blank text. Raises RequestError."""
    if blank := [name for name in config.inputs if not inputs[name].strip()]:
        raise RequestError(
            f"the {'text' if blank == ['text'] else f'input {blank[0]!r}'} is blank: an adapter has nothing to "
            "answer.\nGive a text, or ask the bare base without a task."
        )


def digest_of(source: Source) -> str:
    """sha256 (hex) of an adapter's weights file."""
    files = source.files if isinstance(source, PlainFolder) else source.manifest.files
    return files[WEIGHTS].sha256


def _label_probabilities(prepared: PreparedRequest, labels: LabelScores) -> Mapping[str, float] | None:
    """The mean over the orders that were read, at the adapter's temperature, by label."""
    if not labels:
        return None
    mean = labels[0] if len(labels) == 1 else averaged(labels[0], labels[1])
    shares = tempered(mean, prepared.temperature)
    return {prepared.config.label_of(word) or word: share for word, share in shares.items()}
