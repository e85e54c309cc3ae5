"""``flan-lora mini``: the embedded base, and making it again."""

from __future__ import annotations

import click

from flan_lora.mini.build import main as build


@click.group()
def mini() -> None:
    """The embedded base: where it lies, and how to make it again."""


@mini.command()
def path() -> None:
    """Print the folder of the checkpoint: what `from_pretrained` takes."""
    from flan_lora.mini import MINI_PATH

    click.echo(MINI_PATH)


mini.add_command(build, "build")
