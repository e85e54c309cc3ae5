"""Generation parameters of a caller over those of an adapter, and the texts at which an answer stops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, TypeAlias, TypedDict

from flan_lora.engine.generation_params import GenerationParams, Sampling
from flan_lora.errors import RequestError
from flan_lora.recipe import MAX_BEAMS
from flan_lora.system.text import shown, suggest

Params: TypeAlias = "GenerationParams | Mapping[str, Any] | None"
"""All parameters, or those that differ from the adapter's own: transformers' names, see `GenerationParams`."""

NAMES = tuple(field.name for field in fields(GenerationParams))
_MOST = {"max_new_tokens": 16_384, "num_beams": MAX_BEAMS, "num_return_sequences": 128}
"""What one text may take; a typing error must not take the machine's memory from all others."""
_OF_BEAMS = ("num_beams", "length_penalty", "early_stopping")


def resolve(given: Params, own: Mapping[str, Any], max_new_tokens: int) -> GenerationParams:
    """What a caller asks for, over what the adapter was evaluated with.

    A temperature, top_p or top_k that changes something means sampling, temperature 0 means none: as vLLM and
    OpenAI read them. Sampling sets the adapter's own beams aside.

    Args:
        max_new_tokens: where neither says it.

    Raises:
        RequestError: a name that is no parameter, or values that make no sense.
    """
    if isinstance(given, GenerationParams):
        return given
    wanted = _checked({} if given is None else given)
    if wanted.get("do_sample") is None:
        wanted["do_sample"] = _asks_for_sampling(wanted)
    if not wanted["do_sample"] and wanted.get("temperature") == 0:
        del wanted["temperature"]
    ours = {name: value for name, value in own.items() if not (wanted["do_sample"] and name in _OF_BEAMS)}
    values = {"max_new_tokens": max_new_tokens, **ours, **wanted}
    if "min_new_tokens" not in wanted and isinstance(values["max_new_tokens"], int):
        values["min_new_tokens"] = min(values.get("min_new_tokens", 0), values["max_new_tokens"])
    return GenerationParams(**values)


class OlderParams(TypedDict, total=False):
    """Keywords of `Router.generate` from before there was ``params``."""

    num_beams: int | None
    max_new_tokens: int | None
    num_return_sequences: int
    sampling: Sampling | None


def over(params: Params, changes: Mapping[str, Any]) -> Params:
    """Parameters with some changed, ``sampling`` among them as one. Raises TypeError for other keywords."""
    if unknown := changes.keys() - OlderParams.__annotations__.keys():
        raise TypeError(f"unexpected keyword {sorted(unknown)[0]!r}: generation parameters go into params={{...}}")
    values = {name: value for name, value in changes.items() if value is not None and name != "sampling"}
    if (sampling := changes.get("sampling")) is not None:
        values |= {"do_sample": True, **asdict(sampling)}
    if isinstance(params, GenerationParams):
        return replace(params, **values)
    return {**_mapping({} if params is None else params), **values}


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """A text up to the first of the texts that end it."""
    ends = [place for each in stop if (place := text.find(each)) >= 0]
    return text[: min(ends)] if ends else text


def held_back(text: str, stop: Sequence[str]) -> int:
    """Characters at the end of a text that may be the beginning of a stop, and are not to be shown yet."""
    return max(_begun(text, stop), default=0)


def _begun(text: str, stop: Sequence[str]) -> Iterable[int]:
    for each in stop:
        for length in range(min(len(each) - 1, len(text)), 0, -1):
            if text.endswith(each[:length]):
                yield length
                break


def _mapping(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a caller gave, who may be a program. Raises RequestError for anything else."""
    if not isinstance(given, Mapping):
        raise RequestError(f"generation parameters are a mapping of names to values (got {type(given).__name__}).")
    return given


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {name: value for name, value in _mapping(given).items() if value is not None}
    if unknown := [name for name in wanted if name not in NAMES]:
        raise RequestError(f"{unknown[0]!r} is no generation parameter{suggest(str(unknown[0]), NAMES)}.")
    for name, most in _MOST.items():
        if isinstance(value := wanted.get(name), int) and value > most:
            raise RequestError(f"{name}: expected at most {most:,} (got {shown(value)}).")
    if isinstance(stop := wanted.get("stop"), str | list):
        wanted["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    return wanted


def _asks_for_sampling(wanted: Mapping[str, Any]) -> bool:
    """Whether a value is there that only sampling reads, and that changes something."""
    if wanted.get("temperature") == 0:
        return False
    off = {"temperature": None, "top_p": 1, "top_k": 0}
    return any(name in wanted and wanted[name] != value for name, value in off.items())
