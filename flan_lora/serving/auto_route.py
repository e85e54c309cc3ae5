"""Which adapter a text belongs to, from the bare base's encoder states and the adapters' routing profiles."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from flan_lora.base.encode import encode_sources
from flan_lora.base.load import Base
from flan_lora.engine.engine import Engine
from flan_lora.errors import RequestError
from flan_lora.serving.completion import Route, Text
from flan_lora.serving.prompts import ServingConfig, inputs_of, takes
from flan_lora.serving.registry import AdapterRegistry, Stamp
from flan_lora.serving.routing_profile import AnyProfile, RoutingProfile, fit, read_profile, write_profile
from flan_lora.serving.text_features import TextFeatures, form
from flan_lora.tasks import Example, Prompt, Task

_MAX_BODY_TOKENS = 256
"""Of a text whose adapter is looked for: its beginning says what it is about."""
_CHUNK = 256
"""Texts that are handed to the engine at once: its queue is bounded, and others ask meanwhile."""
_REJECT_SHARE = 0.07
"""Of an adapter's own texts; a text alone may belong to any adapter or none."""
_REJECT_SHARE_OF_SEVERAL_INPUTS = 0.02
"""Named inputs already say which task is meant."""


class AutoRouter:
    """Texts to adapters, for one base. Any number of threads may use it."""

    def __init__(self, base: Base, registry: AdapterRegistry, engine: Engine) -> None:
        self._base, self._registry, self._engine = base, registry, engine
        self._lock = threading.Lock()
        self._profiles: Mapping[str, AnyProfile] | None = None
        self._listing: Stamp = None

    def routes(self, texts: Sequence[Text]) -> list[Route]:
        """`Router.routes`: bodies that tasks read alike pass the base once, in batches."""
        if not texts:
            return []  # every text names its adapter: no published adapter is read for its profile
        candidates = [self._candidates(text) for text in texts]
        bodies = [
            {
                name: config.windowed_prompt().render(inputs_of(config, text)).body
                for name, config in configs.items()
            }
            for text, configs in zip(texts, candidates, strict=True)
        ]
        features = self._features([body for row in bodies for body in row.values()])
        profiles = self._known_profiles()
        scores = [
            {name: profiles[name].score(features[body]).item() for name, body in row.items()} for row in bodies
        ]
        return [_best_route(row, profiles) for row in scores]

    def routable(self) -> list[str]:
        """Adapters that ``"auto"`` may choose."""
        return sorted(self._known_profiles())

    def fit(
        self,
        name: str,
        bodies: Sequence[str],
        validation: Sequence[str],
        background: Sequence[str],
        *,
        reject_share: float | None,
    ) -> RoutingProfile:
        """`Router.fit_routing`."""
        stored = self._registry.open(name)
        config = ServingConfig.of(stored)
        if reject_share is None:
            reject_share = _REJECT_SHARE if len(config.inputs) == 1 else _REJECT_SHARE_OF_SEVERAL_INPUTS
        profile = fit(
            self._stacked(bodies),
            self._stacked(_bodies(config, background)),
            self._base.fingerprint,
            self._stacked(validation) if validation else None,
            reject_share=reject_share,
        )
        write_profile(stored.path, profile)
        with self._lock:
            self._profiles = None
        return profile

    def _candidates(self, text: Text) -> dict[str, ServingConfig]:
        """Adapters with a profile whose task takes these inputs."""
        configs = {name: self._registry.find(name).config for name in self._known_profiles()}
        candidates = {
            name: config
            for name, config in configs.items()
            if config.task is not None and takes(config.task, text)
        }
        if not candidates:
            raise RequestError(
                f"no adapter in {self._registry.store.root} can be chosen for this text: none has a routing "
                "profile for its inputs.\n"
                "Name the adapter, or fit profiles with training texts (flan-lora adapter fit-routing)."
            )
        return candidates

    def _known_profiles(self) -> Mapping[str, AnyProfile]:
        """Of every published adapter that fits this base and has one."""
        with self._lock:
            profiles = self._profiles if self._listing == (listing := self._registry.listing()) else None
        if profiles is None:
            read = {item.name: read_profile(item.path) for item in self._registry.published()}
            fingerprint = self._base.fingerprint
            profiles = {n: p for n, p in read.items() if p is not None and p.fingerprint == fingerprint}
            with self._lock:
                self._profiles, self._listing = profiles, listing
        return profiles

    def _features(self, bodies: Sequence[str]) -> dict[str, TextFeatures]:
        """Body -> its features, one row; texts of like length share a pass."""
        distinct = [Prompt("", body) for body in dict.fromkeys(bodies)]
        encoded = encode_sources(self._base.tokenizer, distinct, _MAX_BODY_TOKENS)
        order = sorted(range(len(distinct)), key=lambda place: len(encoded[place].input_ids))
        if not order:
            return {}
        sources = [encoded[place].input_ids for place in order]
        chunks = [sources[start : start + _CHUNK] for start in range(0, len(sources), _CHUNK)]
        states = torch.cat([self._engine.encode(chunk) for chunk in chunks])
        return {
            distinct[place].body: TextFeatures(
                self._words(source), row[None], torch.tensor([form(distinct[place].body)], dtype=torch.float32)
            )
            for place, source, row in zip(order, sources, states, strict=True)
        }

    def _words(self, source: Sequence[int]) -> Tensor:
        """Mean embedding of a source's tokens, (1, d_model) fp32."""
        table: Tensor = self._base.model.get_input_embeddings().weight
        with torch.inference_mode():
            return table[torch.tensor(source, device=table.device)].float().mean(dim=0, keepdim=True).cpu()

    def _stacked(self, bodies: Sequence[str]) -> TextFeatures:
        """A row a body, equal bodies as often as they come."""
        features = self._features(bodies)
        return TextFeatures.cat([features[body] for body in bodies])


def own_bodies(examples: Sequence[Example], task: Task) -> list[str]:
    """What a profile learns of an adapter's examples: their bodies, and of a task with several inputs also half as
    many of inputs that come from two examples.

    A profile tells kinds of text. Whether two texts belong together is for the adapter to say: without these,
    pairs of sentences that differ, and questions that a passage does not answer, would be nobody's.
    """
    bodies = [example.prompt.body for example in examples]
    if len(task.inputs) == 1:
        return bodies
    first, *rest = task.inputs
    far = len(examples) // 2  # neighbours are often about one passage
    mixed: list[str] = []
    for place in range(0, 2 * far, 2):
        other = examples[(place + far) % len(examples)].inputs
        inputs = {first: examples[place].inputs[first], **{name: other[name] for name in rest}}
        mixed.append(task.prompt(inputs).body)
    own = set(bodies)
    return bodies + [body for body in mixed if body not in own]  # qa's body is its passage alone


def _bodies(config: ServingConfig, texts: Sequence[str]) -> list[str]:
    """Texts as the adapter's task would read them; of several inputs each gets another text, in turn."""
    reader = config.windowed_prompt()
    rows = [
        {name: texts[(place + offset) % len(texts)] for offset, name in enumerate(config.inputs)}
        for place in range(len(texts))
    ]
    return [reader.render(row).body for row in rows]


def _best_route(scores: Mapping[str, float], profiles: Mapping[str, AnyProfile]) -> Route:
    def rank(name: str) -> tuple[int, float, str]:
        # scores of the first format do not compare with the others': it answers where no other accepts
        is_accepted, version = scores[name] >= profiles[name].threshold, profiles[name].format_version
        return 1 if version == 1 else 0 if is_accepted else 2, -scores[name], name

    best, *others = sorted(scores, key=rank)
    threshold = profiles[best].threshold
    return Route(
        adapter=best if scores[best] >= threshold else None,
        score=scores[best],
        threshold=threshold,
        best=best,
        runner_up=others[0] if others else None,
        runner_up_score=scores[others[0]] if others else None,
    )
