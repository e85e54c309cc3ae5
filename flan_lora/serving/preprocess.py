"""Texts and who answers them -> requests: adapters chosen where none is named, made ready, asked their own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flan_lora.engine.request import Mix
from flan_lora.errors import RequestError
from flan_lora.serving.auto_route import AutoRouter
from flan_lora.serving.completion import AUTO, Abstain, Choice, Route, Text, heaviest, mix_of, one_line
from flan_lora.serving.params import Params
from flan_lora.serving.prompts import PreparedRequest, PromptEncoder, ServingConfig
from flan_lora.serving.registry import AdapterRegistry, KnownAdapter


class Asked(NamedTuple):
    """One text and who shall answer it."""

    text: Text
    adapter: Choice
    task_of: str | None
    params: Params


class Preprocessor:
    """For the adapters of one base. Any number of threads may use it."""

    def __init__(self, registry: AdapterRegistry, auto: AutoRouter, prompts: PromptEncoder) -> None:
        self._registry, self._auto, self._prompts = registry, auto, prompts

    def __call__(self, asked: Sequence[Asked], task: str | None, abstain: Abstain) -> list[PreparedRequest]:
        """One request each, in order; `Router.generate` has the meaning of all parts. Raises what it raises."""
        places = [place for place, each in enumerate(asked) if each.adapter == AUTO]
        routes = dict(zip(places, self._auto.routes([asked[place].text for place in places]), strict=True))
        known: dict[str, KnownAdapter] = {}
        prepared = []
        for place, each in enumerate(asked):
            route = routes.get(place)
            mix = mix_of(each.adapter) if route is None else _routed(each.text, route, abstain)
            for name in mix.keys() - known.keys():
                known[name] = self._registry.ready(name)
            asked_as, config = self._config(mix, known, task, each.task_of)
            sources = {name: known[name].source for name in mix}
            prepared.append(self._prompts.prepare(each.text, mix, config, each.params, route, asked_as, sources))
        return prepared

    def _config(
        self, mix: Mix, known: Mapping[str, KnownAdapter], task: str | None, task_of: str | None
    ) -> tuple[str | None, ServingConfig]:
        """In whose way a text is asked, and what that is."""
        if len(mix) > 1 and task is not None and self._is_of_none(mix, known, task):
            return self._registry.of_task(task)
        if mix:
            return (name := heaviest(mix)), known[name].config.under(task)
        if task_of is not None:
            return task_of, self._registry.find(task_of).config.under(task)
        return (None, ServingConfig()) if task is None else self._registry.of_task(task)

    @staticmethod
    def _is_of_none(mix: Mix, known: Mapping[str, KnownAdapter], task: str) -> bool:
        """Whether the heaviest adapter of a mix has another task than the one that is asked for.

        Its limits then say nothing: the mix is asked as the bare base is, as it was composed
        (`composition.rows.task_recipe`).
        """
        own = known[heaviest(mix)].config.task
        return own is not None and own.name != task


def _routed(text: Text, route: Route, abstain: Abstain) -> Mix:
    if route.adapter is not None:
        return {route.adapter: 1.0}
    if abstain == "base":
        return {}
    raise RequestError(
        f"no adapter is made for this text: {one_line(text)}\n  {route.reason}\n"
        "Name the adapter, or take the bare base (abstain='base')."
    )
