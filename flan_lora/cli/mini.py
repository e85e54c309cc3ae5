"""``flan-lora mini``: the embedded base, and how it was made."""

from __future__ import annotations

import click


@click.group()
def mini() -> None:
    """The embedded base, small enough to ship and to train on two cores."""
