"""Generation parameters as options: transformers' names, in place of what the adapter was evaluated with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import click

_COUNT, _SHARE = click.IntRange(min=1), click.FloatRange(0, 1, min_open=True)
_OPTIONS: tuple[tuple[str, Any, str], ...] = (
    ("max_new_tokens", _COUNT, "Tokens of an answer, at most."),
    ("min_new_tokens", click.IntRange(min=0), "Tokens of an answer, at least."),
    ("num_beams", _COUNT, "Beams; 1 is greedy."),
    ("length_penalty", float, "Above 0, beams favour long answers."),
    ("temperature", click.FloatRange(min=0), "Draw tokens, the higher the wilder; 0 is greedy."),
    ("top_p", _SHARE, "Draw from the likeliest tokens of this probability."),
    ("top_k", click.IntRange(min=0), "Draw from so many of the likeliest tokens; 0 is all."),
    ("seed", click.IntRange(0, 2**32 - 1), "Of the draws."),
    ("num_return_sequences", _COUNT, "Answers to each text, with beams or draws; --json shows all."),
    ("repetition_penalty", click.FloatRange(min=0, min_open=True), "Above 1, words are not repeated so easily."),
    ("no_repeat_ngram_size", click.IntRange(min=0), "No sequence of so many tokens comes twice; 0 is off."),
)


def generation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets ``params``, those that were given."""

    @wraps(command)
    def with_params(**arguments: Any) -> Any:
        given = {name: arguments.pop(name) for name, _, _ in _OPTIONS}
        given["stop"] = arguments.pop("stop") or None
        params = {name: value for name, value in given.items() if value is not None}
        return command(params=params, **arguments)

    wrapped: Callable[..., Any] = click.option(
        "--stop", multiple=True, metavar="TEXT", help="End an answer before this text. Repeatable."
    )(with_params)
    for name, kind, text in reversed(_OPTIONS):
        wrapped = click.option(f"--{name.replace('_', '-')}", name, type=kind, metavar="N", help=text)(wrapped)
    return wrapped


def params_line(params: Mapping[str, Any]) -> str:
    """``temperature=0.7 top_k=5``; what is used when nothing is set."""
    return " ".join(f"{name}={value}" for name, value in params.items()) or "the adapter's own"
