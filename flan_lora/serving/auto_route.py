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
from flan_lora.serving.routing_profile import RoutingProfile, fit, read_profile, write_profile
from flan_lora.tasks import Prompt

_MAX_BODY_TOKENS = 256
"""Of a text whose adapter is looked for: its beginning says what it is about."""


class AutoRouter:
    """Texts to adapters, for one base. Any number of threads may use it."""

    def __init__(self, base: Base, registry: AdapterRegistry, engine: Engine) -> None:
        self._base, self._registry, self._engine = base, registry, engine
        self._lock = threading.Lock()
        self._profiles: Mapping[str, RoutingProfile] | None = None
        self._listing: Stamp = None

    def routes(self, texts: Sequence[Text]) -> list[Route]:
        """`Router.routes`: bodies that tasks read alike pass the base once, in batches."""
        candidates = [self._candidates(text) for text in texts]
        bodies = [
            {
                name: config.windowed_prompt().render(inputs_of(config, text)).body
                for name, config in configs.items()
            }
            for text, configs in zip(texts, candidates, strict=True)
        ]
        states = self._pooled([body for row in bodies for body in row.values()])
        profiles = self._known_profiles()
        return [
            _best_route({name: profiles[name].score(states[body]).item() for name, body in row.items()}, profiles)
            for row in bodies
        ]

    def routable(self) -> list[str]:
        """Adapters that ``"auto"`` may choose."""
        return sorted(self._known_profiles())

    def fit(
        self, name: str, bodies: Sequence[str], validation: Sequence[str], *, reject_share: float
    ) -> RoutingProfile:
        """`Router.fit_routing`."""
        stored = self._registry.open(name)
        profile = fit(
            self._stacked(bodies), self._base.fingerprint, self._stacked(validation), reject_share=reject_share
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

    def _known_profiles(self) -> Mapping[str, RoutingProfile]:
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

    def _pooled(self, bodies: Sequence[str]) -> dict[str, Tensor]:
        """Body -> its pooled states (1, d_model); texts of like length share a pass."""
        distinct = [Prompt("", body) for body in dict.fromkeys(bodies)]
        encoded = encode_sources(self._base.tokenizer, distinct, _MAX_BODY_TOKENS)
        order = sorted(range(len(distinct)), key=lambda place: len(encoded[place].input_ids))
        if not order:
            return {}
        rows = self._engine.encode([encoded[place].input_ids for place in order])
        return {distinct[place].body: row[None] for place, row in zip(order, rows, strict=True)}

    def _stacked(self, bodies: Sequence[str]) -> Tensor:
        """(N, d_model), equal bodies as often as they come."""
        states = self._pooled(bodies)
        return torch.cat([states[body] for body in bodies]) if bodies else torch.empty(0, 1)


def _best_route(scores: Mapping[str, float], profiles: Mapping[str, RoutingProfile]) -> Route:
    best, *others = sorted(scores, key=lambda name: (-scores[name], name))
    threshold = profiles[best].threshold
    return Route(
        adapter=best if scores[best] >= threshold else None,
        score=scores[best],
        threshold=threshold,
        best=best,
        runner_up=others[0] if others else None,
        runner_up_score=scores[others[0]] if others else None,
    )
