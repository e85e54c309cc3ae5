"""One frozen base, any adapter for any text. Any number of threads may use one router; their texts share batches.

Texts in, texts out, through the prompt, limits and parser that the adapter was trained with.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from flan_lora.adapters.manifest import Manifest
from flan_lora.adapters.remote_store import keep_fresh, store_at
from flan_lora.adapters.store import Store
from flan_lora.base.load import MINI, Base
from flan_lora.base.serving import open_serving_base
from flan_lora.engine.engine import EngineStats
from flan_lora.engine.lease import AdapterStatus
from flan_lora.engine.model_runner import ServePrecision
from flan_lora.engine.scheduler import EngineLimits
from flan_lora.recipe import BaseSection
from flan_lora.serving.auto_route import AutoRouter
from flan_lora.serving.background import read_background
from flan_lora.serving.completion import (
    Abstain,
    Choice,
    Completion,
    PerText,
    Route,
    Text,
    per_text,
)
from flan_lora.serving.params import OlderParams, Params, over
from flan_lora.serving.pending import PendingCompletion
from flan_lora.serving.pipeline import Pipeline, wait
from flan_lora.serving.preprocess import Asked, Preprocessor
from flan_lora.serving.prompts import PreparedRequest
from flan_lora.serving.propose import Proposal, propose
from flan_lora.serving.routing_profile import RoutingProfile

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Router:
    """The adapters of one base, served. Open it with `Router.open`."""

    def __init__(
        self,
        base: Base,
        store: Store,
        *,
        num_slots: int = 9,
        batch_size: int = 32,
        max_waiting: int | None = None,
        deterministic: bool = False,
        serve_precision: ServePrecision = "exact",
    ) -> None:
        """
        Args:
            num_slots: adapters that stay ready at once, plus one for the bare base.
            batch_size: texts in one pass of the base, of all threads together.
            max_waiting: texts that wait for their turn; beyond that, QueueFullError. None: any number.
            deterministic: no bit of an answer depends on the other texts; slower, on a CPU only.
            serve_precision: ``int8`` multiplies the head and ``wo`` in int8, too: faster, and some answers differ.
        """
        self.base, self.store = base, store
        limits = EngineLimits(max_running=batch_size, max_waiting=max_waiting)
        self.pipeline = Pipeline(
            base, store, limits,
            num_slots=num_slots, deterministic=deterministic, serve_precision=serve_precision,
        )  # fmt: skip
        self._registry = self.pipeline.registry
        keep_fresh(store)
        self._auto = AutoRouter(base, self._registry, self.pipeline.engine)
        self._preprocess = Preprocessor(self._registry, self._auto, self.pipeline.prompts)

    @staticmethod
    def open(
        adapters_dir: str | Path,
        base: str | Base = MINI,
        *,
        quantization: Literal["int8", "nf4", "bf16", "fp32"] = "int8",
        device: str | None = None,
        num_slots: int = 9,
        batch_size: int = 32,
        max_waiting: int | None = None,
        deterministic: bool = False,
        serve_precision: ServePrecision = "exact",
    ) -> Router:
        """A router over adapters/<base>; loads nothing but the base. Raises what `open_serving_base` raises."""
        if isinstance(base, str):
            base = open_serving_base(BaseSection(model=base, quantization=quantization), device=device)
        return Router(
            base, store_at(adapters_dir),
            num_slots=num_slots, batch_size=batch_size, max_waiting=max_waiting,
            deterministic=deterministic, serve_precision=serve_precision,
        )  # fmt: skip

    # Answers

    @overload  # a str is a sequence of str, but never meant as one here
    def generate(  # type: ignore[overload-overlap]
        self, texts: Text, adapter: Choice, *, task: str | None = ..., task_of: PerText[str | None] = ...,
        abstain: Abstain = ..., params: PerText[Params] = ..., label_probabilities: bool = ...,
        **older: Unpack[OlderParams],
    ) -> Completion: ...  # fmt: skip

    @overload
    def generate(
        self, texts: Sequence[Text], adapter: PerText[Choice], *, task: str | None = ...,
        task_of: PerText[str | None] = ..., abstain: Abstain = ..., params: PerText[Params] = ...,
        label_probabilities: bool = ..., **older: Unpack[OlderParams],
    ) -> list[Completion]: ...  # fmt: skip

    def generate(
        self,
        texts: Text | Sequence[Text],
        adapter: PerText[Choice],
        *,
        task: str | None = None,
        task_of: PerText[str | None] = None,
        abstain: Abstain = "error",
        params: PerText[Params] = None,
        label_probabilities: bool = False,
        **older: Unpack[OlderParams],
    ) -> Completion | list[Completion]:
        """Answer one text, or several in mixed batches; each answer is the one that its text gets alone.

        A text that does not fit is cut, or read in windows if its task says so (`flan_lora.base.sliding_window`).

        Args:
            adapter: one for all texts, or one per text: a name, ``"auto"``, ``{name: weight, ...}`` or None for
                the bare base. A mix is asked in the prompt of its heaviest adapter, or as ``task`` is.
            task: whose prompt and parser to use, in place of the adapter's own; the bare base and plain folders
                have none, and read a text as it is without it. The bare base takes limits and beams of the task's
                published adapter (`Completion.asked_as` says which), so that the two can be compared.
            task_of: the adapter as which the bare base is asked, of a text whose ``adapter`` is None; one for all
                texts, or one per text.
            abstain: what ``"auto"`` does with a text that is like those of no adapter.
            params: how answers are generated: ``{"temperature": 0.7, "max_new_tokens": 40}`` over what the adapter
                was evaluated with, or a whole `GenerationParams`; one for all texts, or one per text.
            label_probabilities: also read every label of a classification; costs one more pass. They are
                divided by the temperature that publishing fitted, for the adapter alone (not in a mix) and in its
                own prompt; of a symmetric task they are the mean of both orders. Neither changes the answer.
            older: num_beams, max_new_tokens, num_return_sequences and sampling, as before there was ``params``.

        Raises:
            UnknownAdapterError: a name that is neither loaded nor published; no text is answered.
            RequestError: ``"auto"`` abstains, or parameters make no sense.
            DataError: a text does not fit the task, or not into the prompt.
            AdapterError: an adapter cannot be loaded.
        """
        is_single = isinstance(texts, (str, Mapping))
        many: Sequence[Text] = [texts] if isinstance(texts, (str, Mapping)) else texts
        pending = self.submit_many(
            many,
            adapter,
            task=task,
            task_of=task_of,
            abstain=abstain,
            params=[over(each, older) for each in per_text(params, len(many), "params")],
            label_probabilities=label_probabilities,
        )
        completions = wait(pending)
        return completions[0] if is_single else completions

    def submit(
        self,
        text: Text,
        adapter: Choice,
        *,
        task: str | None = None,
        task_of: str | None = None,
        abstain: Abstain = "error",
        params: Params = None,
        label_probabilities: bool = False,
    ) -> PendingCompletion:
        """`generate` for one text without waiting: a handle on the answer that can be streamed and cancelled.

        Raises:
            QueueFullError: too many texts wait already (``max_waiting``).
            What ``generate`` raises before it asks.
        """
        (pending,) = self.submit_many(
            [text],
            [adapter],
            task=task,
            task_of=task_of,
            abstain=abstain,
            params=params,
            label_probabilities=label_probabilities,
        )
        return pending

    def submit_many(
        self,
        texts: Sequence[Text],
        adapter: PerText[Choice],
        *,
        task: str | None = None,
        task_of: PerText[str | None] = None,
        abstain: Abstain = "error",
        params: PerText[Params] = None,
        label_probabilities: bool = False,
    ) -> list[PendingCompletion]:
        """`submit` for several texts: all of them enter the queue, or none."""
        start, number = time.perf_counter(), len(texts)
        asked = [
            Asked(*parts)
            for parts in zip(
                texts,
                per_text(adapter, number, "adapters"),
                per_text(task_of, number, "task_of"),
                per_text(params, number, "params"),
                strict=True,
            )
        ]
        return self.pipeline.submit_texts(
            lambda: self._preprocess(asked, task, abstain), start=start, label_probabilities=label_probabilities
        )

    def stream(
        self,
        text: Text,
        adapter: Choice,
        *,
        task: str | None = None,
        params: Params = None,
        **older: Unpack[OlderParams],
    ) -> Iterator[str]:
        """The answer to one text in pieces, as they are generated (greedy or sampled); not parsed by the task.

        The pieces joined are what the base writes. A reader that stops early (closes the iterator) gives the
        generation up.

        Raises:
            What ``generate`` raises, before the first piece.
        """
        one = over(over(params, older), {"num_beams": 1})
        return self.submit(text, adapter, task=task, params=one).pieces()

    def propose(self, text: str, adapter: str, *, max_proposals: int = 5) -> list[Proposal]:
        """What can be asked of a text alone, surest first: of a passage, questions with their answers.

        Every span that the task finds is tried, in batches. A question that names its own answer, or has most of
        its words in common with a surer one, is left out.

        Raises:
            RequestError: the adapter's task proposes nothing.
            What ``generate`` raises.
        """
        config = self._registry.find(adapter).config
        return propose(text, adapter, config, lambda asked: self.generate(asked, adapter), max_proposals)

    def route(self, text: Text) -> Route:
        """The adapter whose training texts this one is most like, from the bare base's encoder states.

        Only adapters whose task takes these inputs are considered.

        Raises:
            RequestError: no such adapter has a routing profile.
        """
        return self.routes([text])[0]

    def routes(self, texts: Sequence[Text]) -> list[Route]:
        """`route` for several texts."""
        return self._auto.routes(texts)

    # Adapters

    def load(self, name: str, path: str | Path | None = None, *, task: str | None = None) -> None:
        """Bring an adapter into service: a published one by name, or any plain PEFT folder under a name of yours.

        A folder without a manifest says nothing about its base or prompt: make sure that it was trained on this
        base, and name its task if it has one.

        Raises:
            UnknownAdapterError, AdapterError, AdapterCorruptError, AdapterMismatchError: it cannot be served.
        """
        self._registry.load(name, path, task=task)

    def unload(self, name: str) -> None:
        """Free an adapter's memory once nobody uses it. A published one comes back when it is asked for again."""
        self._registry.unload(name)

    def pin(self, name: str) -> None:
        """Keep an adapter ready whatever else is asked for."""
        self._registry.pin(name)

    def unpin(self, name: str) -> None:
        """Let an adapter leave its slot again."""
        self._registry.unpin(name)

    def inputs(self, name: str) -> tuple[str, ...]:
        """What an adapter's task asks for; one text for an adapter without a task."""
        return self._registry.find(name).config.inputs

    def optional_inputs(self, name: str) -> tuple[str, ...]:
        """What may come along with an adapter's inputs, such as where an answer stands."""
        return self._registry.find(name).config.optional_inputs

    def manifest(self, name: str) -> Manifest:
        """Of a published adapter. Raises what ``load`` raises."""
        return self._registry.manifest(name)

    def identity(self, name: str) -> str:
        """All that decides an adapter's answers, as one text: the base, its weights, prompt and limits."""
        return identity_of(self.base.fingerprint, self.manifest(name))

    def published(self) -> list[str]:
        """Names of the store's sound adapters, loaded or not."""
        return [item.name for item in self._registry.published()]

    def status(self) -> list[AdapterStatus]:
        """Every adapter that has been asked for, and where it is."""
        return self._registry.status()

    @property
    def traffic(self) -> EngineStats:
        """Requests, joins and steps since the router was opened."""
        return self.pipeline.engine.stats

    # Automatic routing

    def routable(self) -> list[str]:
        """Adapters that ``"auto"`` may choose."""
        return self._auto.routable()

    def fit_routing(
        self,
        name: str,
        bodies: Sequence[str],
        validation: Sequence[str] = (),
        *,
        background: Sequence[str] | None = None,
        reject_share: float | None = None,
    ) -> RoutingProfile:
        """Fit and save what ``"auto"`` needs of a published adapter, from ``Prompt.body`` of training examples.

        Args:
            validation: bodies of validation examples, to calibrate the threshold; a fifth of ``bodies`` without.
            background: texts that belong to no adapter, the more kinds the better; None: those that ship
                (`flan_lora.serving.background`).
            reject_share: of the validation texts, that the threshold gives up; None: 0.07, and 0.02 of an adapter
                that takes several inputs.

        Raises:
            UnknownAdapterError: nothing of that name is published.
            DataError: too few texts.
        """
        if background is None:
            background = [item.text for item in read_background()]
        return self._auto.fit(name, bodies, validation, background, reject_share=reject_share)

    fit_signature = fit_routing
    """The older name."""

    # From a text to a request

    def prepare(
        self,
        text: Text,
        adapter: Choice,
        *,
        task: str | None = None,
        task_of: str | None = None,
        abstain: Abstain = "error",
        params: Params = None,
    ) -> PreparedRequest:
        """What ``submit`` hands to the engine for one text. Raises what ``generate`` raises before it asks."""
        return self._preprocess([Asked(text, adapter, task_of, params)], task, abstain)[0]


def identity_of(base_fingerprint: str, manifest: Manifest) -> str:
    """`Router.identity` of a published adapter on a base."""
    return f"{base_fingerprint} {manifest.model_dump_json()}"
