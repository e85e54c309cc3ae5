"""What the serving commands share: their options."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from flan_lora.system.quick_start import quick_start

serving_base_option = click.option(
    "--base", metavar="BASE", help="`mini`, a Hub id or a folder. [default: the base that has adapters]"
)
adapter_base_option = click.option(
    "--base", metavar="BASE", help="The base to load; the adapter must fit it. [default: the adapter's]"
)
adapter_option = click.option(
    "--adapter",
    "adapter_name",
    required=True,
    metavar="ADAPTER",
    help="Name or folder of an adapter; `auto` chooses one for each text by its content.",
)
scores_option = click.option(
    "--scores",
    is_flag=True,
    help="Add the answer's log-probability, and calibrated probabilities of a task's labels.",
)
columns_option = click.option(
    "--set",
    "overrides",
    metavar="data.columns.INPUT=NAME",
    multiple=True,
    help="Your own name for an input of the task, e.g. --set data.columns.text=body. Repeatable.",
)


class ServingCommand(click.Command):
    """One whose user waits for the first answer while torch is imported."""

    answers_once = False

    def invoke(self, ctx: click.Context) -> Any:
        """As `click.Command.invoke`."""
        with quick_start(answers_once=self.answers_once):
            return super().invoke(ctx)


class AnsweringCommand(ServingCommand):
    """One that ends with the answers to the texts of its command line."""

    answers_once = True


def columns_of(overrides: Sequence[str]) -> Mapping[str, str]:
    """Task input -> the user's name for it, as ``train --set data.columns.text=body`` says it.

    Raises:
        click.UsageError: another key, or no name.
    """
    columns = {}
    for override in overrides:
        key, _, name = override.partition("=")
        column = key.strip().removeprefix("data.columns.")
        if column == key.strip() or not column or not name.strip():
            raise click.UsageError(
                f"--set {override}: only data.columns.INPUT=NAME here, e.g. --set data.columns.text=body."
            )
        columns[column] = name.strip()
    return columns


def read_text(text: str) -> str:
    """A text as given, or standard input for ``-``."""
    return sys.stdin.read().strip() if text == "-" else text
