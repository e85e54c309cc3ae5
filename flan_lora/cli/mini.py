"""``flan-lora mini``: where the embedded base lies."""

from __future__ import annotations

import click


@click.group()
def mini() -> None:
    """The embedded base."""


@mini.command()
def path() -> None:
    """Print the folder of the checkpoint: what `from_pretrained` takes."""
    from flan_lora.mini import MINI_PATH

    click.echo(MINI_PATH)
