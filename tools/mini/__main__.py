"""``python -m tools.mini``: make the embedded base again, or go on with its long reading."""

from __future__ import annotations

from pathlib import Path

import click

from flan_lora.errors import FlanLoraError
from flan_lora.system.malloc import keep_freed_memory
from tools.mini.build import Plan

FOLDER = click.Path(path_type=Path)


class _Group(click.Group):
    """One message and exit 1 for what a user can fix."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except FlanLoraError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group)
def main() -> None:
    """Build the embedded base `mini` from public text and train splits."""
    keep_freed_memory()  # a fifth faster, docs/log.md


@main.command("build")
@click.option("--data", type=FOLDER, required=True, help="Local data root.")
@click.option("--out", type=FOLDER, required=True, help="Run and result.")
@click.option("--steps", default=Plan.steps, show_default=True, help="Steps of denoising.")
@click.option(
    "--instruct-steps", default=Plan.instruct_steps, show_default=True, help="Steps of instruction and annealing."
)
@click.option(
    "--decay-steps", default=Plan.decay_steps, show_default=True, help="Of these, annealing: rate to zero."
)
@click.option("--seed", default=Plan.seed, show_default=True)
@click.option("--threads", default=Plan.num_threads, show_default=True, help="Part of the result.")
@click.option("--resume", is_flag=True, help="Continue the run under --out.")
def build_command(
    data: Path, out: Path, steps: int, instruct_steps: int, decay_steps: int, seed: int, threads: int, resume: bool
) -> None:
    """A whole small build: tokenizer, denoising, instructions, annealing, checkpoint."""
    from tools.mini.build import build

    plan = Plan(steps, instruct_steps, decay_steps, seed=seed, num_threads=threads)
    build(data, out, plan=plan, resume=resume, echo=click.echo)


@main.command("pack")
@click.option("--data", type=FOLDER, required=True, help="Local data root.")
@click.option("--out", type=FOLDER, required=True, help="Gets tokenizer, tokens and held-out text.")
@click.option("--vocab-size", default=8192, show_default=True, help="Rows of the embedding, sentinels included.")
def pack_command(data: Path, out: Path, vocab_size: int) -> None:
    """Tokenise all text once; a tokenizer that lies there is kept."""
    from tools.mini.read import pack
    from tools.mini.tokenizer import NUM_SENTINELS

    pack(data, out, num_pieces=vocab_size - NUM_SENTINELS, echo=click.echo)


@main.command("read")
@click.option("--packed", type=FOLDER, required=True, help="What `pack` wrote.")
@click.option("--run", type=FOLDER, required=True, help="Folder of the trunk; begun if it is empty.")
@click.option("--until-step", type=int, help="Stop after this step.")
@click.option("--stop-after-s", type=float, help="Stop after so many seconds.")
@click.option("--checkpoint-every-s", default=300.0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--threads", default=1, show_default=True)
def read_command(
    packed: Path,
    run: Path,
    until_step: int | None,
    stop_after_s: float | None,
    checkpoint_every_s: float,
    device: str,
    threads: int,
) -> None:
    """Denoising over plain text, from wherever the trunk stands."""
    import torch

    from tools.mini.read import NEVER, read

    torch.set_num_threads(threads)
    read(
        packed,
        run,
        until_step=NEVER if until_step is None else until_step,
        stop_after_s=float("inf") if stop_after_s is None else stop_after_s,
        checkpoint_every_s=checkpoint_every_s,
        device=device,
        echo=lambda line: click.echo(line),
    )


main()
