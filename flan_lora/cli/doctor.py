"""``flan-lora doctor``: what this machine can do."""

from __future__ import annotations

import click

from flan_lora.cli.options import json_option
from flan_lora.cli.output import print_json, print_table


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say what this machine can do.

    Versions, the device, whether 8-bit works (one small matmul is run), and memory and time per recipe.
    """
    from flan_lora.training.doctor import examine

    findings = examine()
    if as_json:
        print_json(findings)
        return
    print_table(("", "", ""), [("ok" if item.ok else "--", item.name, item.value) for item in findings])
    for item in findings:
        if not item.ok and item.advice:
            click.echo(f"\n{item.name}: {item.advice}")
