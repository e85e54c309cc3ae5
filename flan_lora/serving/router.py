"""One frozen base, any adapter for any text: which adapter serves a request, in which prompt, and why.

Texts in, texts out, through the prompt, limits and parser that the adapter was trained with. Any number of threads
may use one router; their texts share batches. Knows adapters and tasks; never a tensor of a model.
"""

from __future__ import annotations

import difflib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar, overload

import torch
from torch import Tensor

from flan_lora.adapters.manifest import Manifest
from flan_lora.adapters.store import Store
from flan_lora.adapters.validation import StoredAdapter
from flan_lora.adapters.weights import PlainFolder, Source, base_linears, open_folder
from flan_lora.base.decode import LabelConstraint, decode, label_constraint
from flan_lora.base.encode import encode_sources
from flan_lora.base.load import MINI, Base, open_base
from flan_lora.base.sliding_window import Reader, best, encode_windows
from flan_lora.engine.adapter_cache import AdapterStatus, Bank, Lease, Mix
from flan_lora.engine.request import Answer, Request, Sampling
from flan_lora.engine.runner import Engine
from flan_lora.engine.scheduler import Scheduler, Traffic
from flan_lora.errors import RequestError, UnknownAdapterError
from flan_lora.evaluation.calibration import averaged, tempered
from flan_lora.recipe import BaseSection, Recipe
from flan_lora.serving.routing_profile import Signature, fit, read_signature, write_signature
from flan_lora.system.openmp import release_threads
from flan_lora.tasks import Prompt, Task, get_task
from flan_lora.tasks.task import Inputs

Found = TypeVar("Found")
Text: TypeAlias = "str | Inputs"
"""A text, or the inputs of a task that takes several (``{"question": ..., "context": ...}``)."""
Choice: TypeAlias = "str | Mapping[str, float] | None"
"""An adapter's name, ``"auto"``, a weighted mix, or None: the bare base."""

AUTO = "auto"
_MAX_BODY_TOKENS = 256
"""Of a text whose adapter is looked for: its beginning says what it is about."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a text without a named adapter belongs."""

    adapter: str | None
    """None: unlike the texts of every adapter."""
    score: float
    """Of the best adapter; log-density per dimension, comparable between adapters of one base."""
    threshold: float
    """What the best adapter asks for."""
    best: str
    runner_up: str | None
    runner_up_score: float | None

    @property
    def reason(self) -> str:
        """One line for the user."""
        against = "" if self.runner_up is None else f", ahead of {self.runner_up} ({self.runner_up_score:.2f})"
        verdict = "at least" if self.adapter else "less than"
        return f"most like {self.best} ({self.score:.2f}, {verdict} its {self.threshold:.2f}){against}"


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to one text."""

    text: str
    """Parsed by the task."""
    adapter: str | None
    """The adapter that answered (of a mix, the heaviest); None = the bare base."""
    latency_s: float
    """From the call to this text's last token."""
    num_tokens: int
    """Generated, eos included."""
    log_prob: float
    """Of the answer under the model, natural logarithm, summed over tokens."""
    mix: Mix = field(default_factory=dict)
    """Adapter -> weight, as it was run."""
    label_probabilities: Mapping[str, float] | None = None
    """Of a classification's labels, when asked for; calibrated if the adapter says how (`generate`)."""
    alternatives: tuple[str, ...] = ()
    """Further answers (num_return_sequences), best or first drawn first."""
    route: Route | None = None
    """How ``"auto"`` chose."""

    @property
    def mean_log_prob(self) -> float:
        """Per token, eos included: comparable between answers of unlike length."""
        return self.log_prob / max(self.num_tokens, 1)


@dataclass(frozen=True, slots=True)
class Proposal:
    """Something that can be asked of a text, found by the task, and the adapter's answer to it."""

    inputs: Inputs
    completion: Completion

    @property
    def found(self) -> str:
        """What the task found in the text: the last of the inputs."""
        return [*self.inputs.values()][-1]

    @property
    def sureness(self) -> float:
        """Log-probability per token of the answer."""
        return self.completion.mean_log_prob


@dataclass(frozen=True)
class Profile:
    """How an adapter wants to be asked."""

    task: Task | None
    """None: the text goes to the base as it is."""
    max_source_tokens: int = 512
    num_beams: int = 1
    is_constrained: bool = True
    temperature: float = 1.0
    """Of label probabilities, for the adapter alone under its own prompt."""

    @staticmethod
    def of(source: Source, task: str | None) -> Profile:
        """From the manifest; a plain folder has none, so its owner names the task."""
        if isinstance(source, PlainFolder):
            return Profile(None if task is None else get_task(task))
        recipe = Recipe.model_validate(source.manifest.recipe)
        evaluation = recipe.evaluation
        limit = recipe.data.max_source_tokens
        temperature = source.manifest.label_temperature
        return Profile(get_task(recipe.task), limit, evaluation.num_beams, evaluation.constrained, temperature)


@dataclass(frozen=True)
class _Row:
    """One text on its way."""

    request: Request
    task: Task | None
    route: Route | None
    other_way: Request | None = None
    """The same question turned round, of a symmetric task with labels."""
    temperature: float = 1.0


class Router:
    """The adapters of one base, served. Open it with `Router.open`."""

    def __init__(self, base: Base, store: Store, *, num_slots: int = 9, batch_size: int = 32) -> None:
        """
        Args:
            num_slots: adapters that stay ready at once, plus one for the bare base.
            batch_size: texts in one pass of the base, of all threads together.
        """
        self._base, self._store, self._batch_size = base, store, batch_size
        self._engine = Engine(base.model)
        self._scheduler = Scheduler(self._engine, max_rows=batch_size)
        self._bank = Bank(
            base_linears(base.model), fingerprint=base.fingerprint, num_slots=num_slots, device=base.device
        )
        self._lock = threading.Lock()
        self._profiles: dict[str, Profile] = {}
        self._folders: dict[str, Source] = {}  # loaded by path: known as long as they are loaded
        self._constraints: dict[str, LabelConstraint] = {}
        self._signatures: dict[str, Signature] | None = None

    @staticmethod
    def open(
        adapters_dir: str | Path,
        base: str | Base = MINI,
        *,
        quantization: Literal["int8", "bf16", "fp32"] = "int8",
        device: str | None = None,
        num_slots: int = 9,
        batch_size: int = 32,
    ) -> Router:
        """A router over adapters/<base>; loads nothing but the base.

        Raises:
            BaseModelError: the base cannot be found or loaded.
        """
        if isinstance(base, str):
            base = open_base(BaseSection(model=base, quantization=quantization), device=device)
        return Router(base, Store(adapters_dir), num_slots=num_slots, batch_size=batch_size)

    # Answers

    @overload  # a str is a sequence of str, but never meant as one here
    def generate(  # type: ignore[overload-overlap]
        self, texts: Text, adapter: Choice, *, task: str | None = ..., abstain: Literal["error", "base"] = ...,
        num_beams: int | None = ..., max_new_tokens: int | None = ..., num_return_sequences: int = ...,
        sampling: Sampling | None = ..., label_probabilities: bool = ...,
    ) -> Completion: ...  # fmt: skip

    @overload
    def generate(
        self, texts: Sequence[Text], adapter: Choice | Sequence[Choice], *, task: str | None = ...,
        abstain: Literal["error", "base"] = ..., num_beams: int | None = ..., max_new_tokens: int | None = ...,
        num_return_sequences: int = ..., sampling: Sampling | None = ..., label_probabilities: bool = ...,
    ) -> list[Completion]: ...  # fmt: skip

    def generate(
        self,
        texts: Text | Sequence[Text],
        adapter: Choice | Sequence[Choice],
        *,
        task: str | None = None,
        abstain: Literal["error", "base"] = "error",
        num_beams: int | None = None,
        max_new_tokens: int | None = None,
        num_return_sequences: int = 1,
        sampling: Sampling | None = None,
        label_probabilities: bool = False,
    ) -> Completion | list[Completion]:
        """Answer one text, or several in mixed batches; each answer is the one that its text gets alone.

        A text that does not fit is cut, or read in windows if its task says so (`flan_lora.base.sliding_window`).

        Args:
            adapter: one for all texts, or one per text: a name, ``"auto"``, ``{name: weight, ...}`` or None for
                the bare base. A mix is asked in the prompt of its heaviest adapter.
            task: whose prompt, limits and parser to use, in place of the adapter's own; the bare base and plain
                folders have none, and read a text as it is without it.
            abstain: what ``"auto"`` does with a text that is like those of no adapter.
            num_beams, max_new_tokens: in place of what the adapter was evaluated with.
            label_probabilities: also read every label of a classification; costs one more pass. They are
                divided by the temperature that publishing fitted, for the adapter alone (not in a mix) and in its
                own prompt; of a symmetric task they are the mean of both orders. Neither changes the answer.

        Raises:
            UnknownAdapterError: a name that is neither loaded nor published; no text is answered.
            RequestError: ``"auto"`` abstains, or limits make no sense.
            DataError: a text does not fit the task, or not into the prompt.
            AdapterError: an adapter cannot be loaded.
        """
        start = time.perf_counter()
        is_single = isinstance(texts, (str, Mapping))
        many: Sequence[Text] = [texts] if isinstance(texts, (str, Mapping)) else texts
        choices = _one_per_text(adapter, len(many))
        limits = {"num_beams": num_beams, "max_new_tokens": max_new_tokens}
        is_auto = [choice == AUTO for choice in choices]
        routes = iter(self.routes([text for text, is_routed in zip(many, is_auto, strict=True) if is_routed]))
        groups = []
        for text, choice, is_routed in zip(many, choices, is_auto, strict=True):
            route = next(routes) if is_routed else None
            mix = _routed(text, route, abstain) if route is not None else _mix(choice)
            groups.append(self._windows(text, mix, task, route, limits, num_return_sequences, sampling))
        answered = iter(self._answer([row for group in groups for row in group], start, label_probabilities))
        completions = [_surest([next(answered) for _ in group]) for group in groups]
        return completions[0] if is_single else completions

    def propose(self, text: str, adapter: str, *, max_proposals: int = 5) -> list[Proposal]:
        """What can be asked of a text alone, surest first: of a passage, questions with their answers.

        Every span that the task finds is tried, in batches. A question that names its own answer, or has most of
        its words in common with a surer one, is left out.

        Raises:
            RequestError: the adapter's task proposes nothing.
            What ``generate`` raises.
        """
        task = self._profile(adapter).task
        if task is None or task.propose is None:
            raise RequestError(
                f"adapter {adapter!r} proposes nothing: its task takes {', '.join(self.inputs(adapter))}, and has "
                "no way to find them in a text.\nAsk it with `generate`."
            )
        asked = task.propose(text)
        answered = map(Proposal, asked, self.generate(asked, adapter))
        kept: list[Proposal] = []
        for proposal in sorted(answered, key=lambda item: -item.sureness):
            if len(kept) < max_proposals and _is_new(proposal, kept):
                kept.append(proposal)
        return kept

    def stream(
        self, text: Text, adapter: Choice, *, task: str | None = None, max_new_tokens: int | None = None,
        sampling: Sampling | None = None,
    ) -> Iterator[str]:  # fmt: skip
        """The answer to one text in pieces, as they are generated (greedy or sampled); not parsed by the task.

        The pieces joined are what the base writes. A reader that stops early does not stop the generation: it
        ends by itself, and gives its lease back.

        Raises:
            What ``generate`` raises, before the first piece.
        """
        route = self.route(text) if adapter == AUTO else None
        mix = _routed(text, route, "error") if route is not None else _mix(adapter)
        limits = {"num_beams": 1, "max_new_tokens": max_new_tokens}
        rows = self._windows(text, mix, task, route, limits, 1, sampling)
        for name in mix:
            self._make_known(name)
        return self._pieces(rows[0].request) if len(rows) == 1 else self._piece_of_surest(rows)

    def _piece_of_surest(self, rows: Sequence[_Row]) -> Iterator[str]:
        """Of windows the answer in one piece: which one counts is known when all have ended."""
        with self._lease(list(rows[0].request.mix)) as lease:
            answers = [served.answers[0] for served in self._scheduler.run([row.request for row in rows], lease)]
        yield decode(self._base.tokenizer, answers[best([answer.mean_log_prob for answer in answers])].ids)

    def _pieces(self, request: Request) -> Iterator[str]:
        """Decode in a thread of its own, so that no lease waits for a slow reader."""
        heard: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()

        def run() -> None:
            try:
                with self._lease(list(request.mix)) as lease:
                    self._scheduler.run([request], lease, on_token=lambda _, token: heard.put(token))
                heard.put(None)
            except BaseException as error:  # the reader's to see, whatever it is
                heard.put(error)

        release_threads()
        threading.Thread(target=run, daemon=True).start()
        ids: list[int] = []
        told = ""
        while (item := heard.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            ids.append(item)
            text = decode(self._base.tokenizer, ids)
            yield text[len(told) :]
            told = text

    def route(self, text: Text) -> Route:
        """The adapter whose training texts this one is most like, from the bare base's encoder states.

        Only adapters whose task takes these inputs are considered.

        Raises:
            RequestError: no such adapter has a signature.
        """
        return self.routes([text])[0]

    def routes(self, texts: Sequence[Text]) -> list[Route]:
        """`route` for several texts; bodies that tasks read alike pass the base once, in batches."""
        candidates = [self._candidates(text) for text in texts]
        bodies = [
            {name: task.prompt(_inputs(task, text)).body for name, task in tasks.items()}
            for text, tasks in zip(texts, candidates, strict=True)
        ]
        states = self._pooled([body for row in bodies for body in row.values()])
        signatures = self._known_signatures()
        return [
            _best_route(
                {name: signatures[name].score(states[body]).item() for name, body in row.items()}, signatures
            )
            for row in bodies
        ]

    def _candidates(self, text: Text) -> dict[str, Task]:
        """Adapters with a signature whose task takes these inputs."""
        tasks = {name: self._profile(name).task for name in self._known_signatures()}
        candidates = {name: task for name, task in tasks.items() if task is not None and _takes(task, text)}
        if not candidates:
            raise RequestError(
                f"no adapter in {self._store.root} can be chosen for this text: none has a signature for its "
                "inputs.\nName the adapter, or fit signatures with training texts (flan-lora adapter sign)."
            )
        return candidates

    def _pooled(self, bodies: Sequence[str]) -> dict[str, Tensor]:
        """Body -> its pooled states (1, d_model); texts of like length share a pass."""
        distinct = [Prompt("", body) for body in dict.fromkeys(bodies)]
        encoded = encode_sources(self._base.tokenizer, distinct, _MAX_BODY_TOKENS)
        order = sorted(range(len(distinct)), key=lambda place: len(encoded[place].input_ids))
        states = {}
        for start in range(0, len(order), self._batch_size):
            places = order[start : start + self._batch_size]
            rows = self._engine.pooled_states([encoded[place].input_ids for place in places])
            states.update({distinct[place].body: row[None] for place, row in zip(places, rows, strict=True)})
        return states

    # Adapters

    def load(self, name: str, path: str | Path | None = None, *, task: str | None = None) -> None:
        """Bring an adapter into service: a published one by name, or any plain PEFT folder under a name of yours.

        A folder without a manifest says nothing about its base or prompt: make sure that it was trained on this
        base, and name its task if it has one.

        Raises:
            UnknownAdapterError, AdapterError, AdapterCorruptError, AdapterMismatchError: it cannot be served.
        """
        if path is not None:
            folder = Path(path)
            if (folder / "manifest.json").is_file():
                stored, files = self._published(Store(folder.resolve().parent).read, folder.resolve().name)
                renamed = stored.manifest.model_copy(update={"name": name})
                source: Source = replace(stored, manifest=renamed)
            else:
                source, files = open_folder(name, folder)
            self._bank.add(source, files)
            with self._lock:
                self._folders[name] = source
                self._profiles[name] = Profile.of(source, task)
        with self._lease([name]):
            pass

    def unload(self, name: str) -> None:
        """Free an adapter's memory once nobody uses it. A published one comes back when it is asked for again."""
        with self._lock:
            self._folders.pop(name, None)
            self._profiles.pop(name, None)
        self._bank.unload(name)

    def pin(self, name: str) -> None:
        """Keep an adapter ready whatever else is asked for."""
        self._make_known(name)
        self._bank.pin(name)

    def unpin(self, name: str) -> None:
        """Let an adapter leave its slot again."""
        self._bank.unpin(name)

    def inputs(self, name: str) -> tuple[str, ...]:
        """What an adapter's task asks for; one text for an adapter without a task."""
        task = self._profile(name).task
        return task.inputs if task is not None else ("text",)

    def manifest(self, name: str) -> Manifest:
        """Of a published adapter. Raises what ``load`` raises."""
        return self._published(self._store.open, name).manifest

    def identity(self, name: str) -> str:
        """All that decides an adapter's answers, as one text: the base, its weights, prompt and limits."""
        return f"{self._base.fingerprint} {self.manifest(name).model_dump_json()}"

    def published(self) -> list[str]:
        """Names of the store's sound adapters, loaded or not."""
        return [item.name for item in self._store.list() if isinstance(item, StoredAdapter)]

    @property
    def traffic(self) -> Traffic:
        """Rows, joins and steps since the router was opened."""
        return self._scheduler.traffic

    def status(self) -> list[AdapterStatus]:
        """Every adapter that has been asked for, and where it is."""
        return self._bank.status()

    def fit_signature(
        self, name: str, bodies: Sequence[str], validation: Sequence[str] = (), *, reject_share: float = 0.02
    ) -> Signature:
        """Fit and save what ``"auto"`` needs of a published adapter, from ``Prompt.body`` of training examples.

        Args:
            validation: bodies of validation examples, to calibrate the threshold; a fifth of ``bodies`` without.
            reject_share: of them, that the threshold gives up.

        Raises:
            UnknownAdapterError: nothing of that name is published.
            DataError: too few texts.
        """
        stored = self._published(self._store.open, name)
        signature = fit(
            self._stacked(bodies), self._base.fingerprint, self._stacked(validation), reject_share=reject_share
        )
        write_signature(stored.path, signature)
        with self._lock:
            self._signatures = None
        return signature

    def _stacked(self, bodies: Sequence[str]) -> Tensor:
        """(N, d_model), equal bodies as often as they come."""
        states = self._pooled(bodies)
        return torch.cat([states[body] for body in bodies]) if bodies else torch.empty(0, 1)

    def signed(self) -> list[str]:
        """Adapters that ``"auto"`` may choose."""
        return sorted(self._known_signatures())

    # Names

    def _make_known(self, name: str) -> None:
        """Hand a published adapter to the bank when it is first asked for; UnknownAdapterError for any other."""
        if name in self._bank.names():
            return
        with self._lock:
            source = self._folders.get(name)
        if source is not None:
            self._bank.add(source)
        else:
            self._bank.add(*self._published(self._store.read, name))

    def _published(self, find: Callable[..., Found], name: str) -> Found:
        """What ``Store.open`` or ``Store.read`` finds for this base; errors for a name know the loaded ones."""
        try:
            return find(name, fingerprint=self._base.fingerprint, base_name=self._base.spec.model)
        except UnknownAdapterError as error:
            loaded = self._bank.names()
            if close := difflib.get_close_matches(name, loaded, n=1, cutoff=0.8):
                raise UnknownAdapterError(f"{error}\nOf the loaded ones, {close[0]!r} is close.") from error
            raise

    @contextmanager
    def _lease(self, names: Sequence[str]) -> Iterator[Lease]:
        """A lease on adapters, known or published; one that is just being unloaded is awaited and opened anew."""
        with ExitStack() as stack:
            while True:
                for name in names:
                    self._make_known(name)
                try:
                    lease = stack.enter_context(self._bank.lease(names))
                    break
                except UnknownAdapterError:
                    continue  # unloaded between the two lines above
            yield lease

    def _profile(self, name: str) -> Profile:
        with self._lock:
            profile = self._profiles.get(name)
        if profile is None:
            profile = Profile.of(self._published(self._store.open, name), None)
            with self._lock:
                self._profiles[name] = profile
        return profile

    def _known_signatures(self) -> Mapping[str, Signature]:
        """Of every published adapter that fits this base and has one."""
        with self._lock:
            signatures = self._signatures
        if signatures is None:
            stored = [item for item in self._store.list() if isinstance(item, StoredAdapter)]
            read = {item.name: read_signature(item.path) for item in stored}
            fingerprint = self._base.fingerprint
            signatures = {n: s for n, s in read.items() if s is not None and s.fingerprint == fingerprint}
            with self._lock:
                self._signatures = signatures
        return signatures

    # Texts

    def _windows(
        self,
        text: Text,
        mix: Mix,
        task_name: str | None,
        route: Route | None,
        limits: Mapping[str, int | None],
        num_return_sequences: int,
        sampling: Sampling | None,
    ) -> list[_Row]:
        """A text in the prompt and within the limits of its adapter: one row, or one per window."""
        profile = self._profile(_heaviest(mix)) if mix else Profile(None)
        task = get_task(task_name) if task_name is not None else profile.task
        inputs = _inputs(task, text) if task is not None else {"text": _plain(text)}
        reader = Reader.of(task) if task is not None else Reader(lambda given: Prompt("", given["text"]))
        constraint = (
            self._constraint(task) if task is not None and task.labels and profile.is_constrained else None
        )
        longest = constraint.max_new_tokens if constraint else task.max_new_tokens if task else 64
        ways = [inputs]
        if task is not None and task.swap is not None and constraint is not None:
            ways.append(task.swap(inputs))
        windows, *turned = encode_windows(
            self._base.tokenizer, reader, [reader.render(way) for way in ways], ways, profile.max_source_tokens
        )
        requests = [
            Request(
                input_ids=source.input_ids,
                mix=mix,
                max_new_tokens=limits["max_new_tokens"] or longest,
                num_beams=limits["num_beams"] or (profile.num_beams if sampling is None else 1),
                num_return_sequences=num_return_sequences,
                sampling=sampling,
                constraint=constraint,
            )
            for source in windows
        ]
        is_pure = task is profile.task and list(mix.values()) == [1.0]
        temperature = profile.temperature if is_pure else 1.0
        other_way = replace(requests[0], input_ids=turned[0][0].input_ids) if turned else None
        return [_Row(request, task, route, other_way, temperature) for request in requests]

    def _constraint(self, task: Task) -> LabelConstraint:
        with self._lock:
            if task.name not in self._constraints:
                self._constraints[task.name] = label_constraint(self._base.tokenizer, task.labels)
            return self._constraints[task.name]

    # Batches

    def _answer(self, rows: Sequence[_Row], start: float, label_probabilities: bool) -> list[Completion]:
        completions: list[Completion | None] = [None] * len(rows)
        for places in self._portions([row.request for row in rows]):
            requests = [rows[place].request for place in places]
            with self._lease([name for request in requests for name in request.mix]) as lease:
                served = self._scheduler.run(requests, lease)
                labels = (
                    self._labels([rows[place] for place in places], lease)
                    if label_probabilities
                    else [None] * len(places)
                )
            for place, found, row_labels in zip(places, served, labels, strict=True):
                latency_s = found.finished_s - start
                completions[place] = self._completion(rows[place], found.answers, latency_s, row_labels)
        return [completion for completion in completions if completion is not None]

    def _portions(self, requests: Sequence[Request]) -> list[list[int]]:
        """Places of requests that may be leased together: one portion, unless they ask for more than the slots.

        Long sources first: rows that join a batch together are alike in length.
        """
        order = sorted(range(len(requests)), key=lambda place: -len(requests[place].input_ids))
        names = {name for request in requests for name in request.mix}
        if self._bank.has_room(names):
            return [order] if order else []
        order.sort(key=lambda place: sorted(requests[place].mix))
        portions: list[list[int]] = []
        for place in order:
            wanted = names | requests[place].mix.keys()
            if not portions or not self._bank.has_room(wanted):
                portions.append([])
                wanted = set(requests[place].mix)
            portions[-1].append(place)
            names = wanted
        return portions

    def _labels(self, rows: Sequence[_Row], lease: Lease) -> list[Mapping[str, float] | None]:
        """Both orders of a symmetric question are rows of the same batches."""
        asked = [
            (place, request)
            for place, row in enumerate(rows)
            for request in (row.request, row.other_way)
            if request is not None and request.constraint is not None
        ]
        found: list[Mapping[str, float] | None] = [None] * len(rows)
        for start in range(0, len(asked), self._batch_size):
            part = asked[start : start + self._batch_size]
            read = self._engine.label_probabilities([request for _, request in part], lease)
            for (place, _), labels in zip(part, read, strict=True):
                first = found[place]
                found[place] = labels if first is None else averaged(first, labels)
        return [labels and tempered(labels, row.temperature) for row, labels in zip(rows, found, strict=True)]

    def _completion(
        self, row: _Row, answers: Sequence[Answer], latency_s: float, labels: Mapping[str, float] | None
    ) -> Completion:
        texts = []
        for answer in answers:
            text = decode(self._base.tokenizer, answer.ids, row.request.constraint)
            texts.append(row.task.parse(text) if row.task is not None else text.strip())
        mix = row.request.mix
        return Completion(
            text=texts[0],
            adapter=_heaviest(mix) if mix else None,
            latency_s=latency_s,
            num_tokens=len(answers[0].ids),
            log_prob=answers[0].log_prob,
            mix=mix,
            label_probabilities=labels,
            alternatives=tuple(texts[1:]),
            route=row.route,
        )


def _surest(windows: Sequence[Completion]) -> Completion:
    """Of one text's windows, in the order of the text; it took as long as the slowest."""
    if len(windows) == 1:
        return windows[0]
    chosen = windows[best([item.mean_log_prob for item in windows])]
    return replace(chosen, latency_s=max(item.latency_s for item in windows))


def _best_route(scores: Mapping[str, float], signatures: Mapping[str, Signature]) -> Route:
    best, *others = sorted(scores, key=lambda name: (-scores[name], name))
    threshold = signatures[best].threshold
    return Route(
        adapter=best if scores[best] >= threshold else None,
        score=scores[best],
        threshold=threshold,
        best=best,
        runner_up=others[0] if others else None,
        runner_up_score=scores[others[0]] if others else None,
    )


def _is_new(proposal: Proposal, kept: Sequence[Proposal]) -> bool:
    """Whether a question keeps its answer to itself, and does not ask what a surer one asks."""
    question = proposal.completion.text.casefold()
    words = set(question.split())
    gives_away = proposal.found.casefold() in question
    others = (set(other.completion.text.casefold().split()) for other in kept)
    return bool(words) and not gives_away and all(len(words & seen) <= 0.6 * len(words | seen) for seen in others)


def _one_per_text(adapter: Choice | Sequence[Choice], num_texts: int) -> list[Choice]:
    if adapter is None or isinstance(adapter, (str, Mapping)):
        return [adapter] * num_texts
    if len(adapter) != num_texts:
        raise RequestError(
            f"{len(adapter)} adapters for {num_texts} texts: give one adapter for all texts, or one per text."
        )
    return list(adapter)


def _mix(choice: Choice) -> Mix:
    """A choice as weights. An empty mix would be the bare base, which has a name of its own: None."""
    if choice is None:
        return {}
    if isinstance(choice, str):
        return {choice: 1.0}
    weights = {name: float(weight) for name, weight in choice.items()}
    if not weights or not all(abs(weight) < float("inf") for weight in weights.values()):
        raise RequestError(f"a mix takes one adapter or more, each with a finite weight (got {dict(choice)}).")
    return weights


def _routed(text: Text, route: Route, abstain: Literal["error", "base"]) -> Mix:
    if route.adapter is not None:
        return {route.adapter: 1.0}
    if abstain == "base":
        return {}
    raise RequestError(
        f"no adapter is made for this text: {_shorten(text)}\n  {route.reason}\n"
        "Name the adapter, or take the bare base (abstain='base')."
    )


def _heaviest(mix: Mix) -> str:
    return max(mix, key=lambda name: abs(mix[name]))


def _takes(task: Task, text: Text) -> bool:
    """Whether a task's inputs are these: one for a text, else the same names."""
    return len(task.inputs) == 1 if isinstance(text, str) else set(task.inputs) == text.keys()


def _inputs(task: Task, text: Text) -> Inputs:
    if _takes(task, text):
        return {task.inputs[0]: text} if isinstance(text, str) else text
    got = "one text" if isinstance(text, str) else f"{', '.join(text) or 'nothing'}"
    raise RequestError(
        f"task {task.name} takes {', '.join(task.inputs)} (got {got}): give a mapping of its inputs."
    )


def _plain(text: Text) -> str:
    if isinstance(text, str):
        return text
    raise RequestError(
        f"without a task there is one text, and no {', '.join(text)}.\n"
        "Name the task (task=...), or give the whole prompt as a text."
    )


def _shorten(text: Text, max_chars: int = 60) -> str:
    line = " ".join((text if isinstance(text, str) else " / ".join(text.values())).split())
    return line if len(line) <= max_chars else f"{line[:max_chars]}..."
