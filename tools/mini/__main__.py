"""``python -m tools.mini``: make the embedded base again, or go on with its long reading."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from flan_lora.errors import FlanLoraError
from flan_lora.system.malloc import keep_freed_memory
from tools.mini.build import Plan

STATE = Path("tools/mini/state")
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
@click.option("--workers", default=0, show_default=True, help="Processes that make batches ahead, for a GPU.")
@click.option("--threads", default=1, show_default=True)
@click.option("--shape", help="Of a new trunk: vocabulary,d_model,d_ff,d_kv,heads,encoder,decoder layers.")
@click.option("--batch-tokens", type=int, help="Of a new trunk: source tokens of a micro-batch.")
def read_command(
    packed: Path,
    run: Path,
    until_step: int | None,
    stop_after_s: float | None,
    checkpoint_every_s: float,
    device: str,
    workers: int,
    threads: int,
    shape: str | None,
    batch_tokens: int | None,
) -> None:
    """Denoising over plain text, from wherever the trunk stands."""
    import torch

    from tools.mini.network import Shape
    from tools.mini.read import NEVER, TrunkPlan, read

    torch.set_num_threads(threads)
    plan = TrunkPlan()
    if shape is not None:
        plan = replace(plan, shape=Shape(*map(int, shape.split(","))))
    if batch_tokens is not None:
        plan = replace(plan, batch_tokens=batch_tokens)
    read(
        packed,
        run,
        plan=None if shape is None and batch_tokens is None else plan,
        num_workers=workers,
        until_step=NEVER if until_step is None else until_step,
        stop_after_s=float("inf") if stop_after_s is None else stop_after_s,
        checkpoint_every_s=checkpoint_every_s,
        device=device,
        echo=lambda line: click.echo(line),
    )


@main.command("branch")
@click.option("--run", type=FOLDER, required=True, help="Folder of the trunk; it stays as it is.")
@click.option("--packed", type=FOLDER, required=True, help="What the trunk reads.")
@click.option("--data", type=FOLDER, required=True, help="Local data root.")
@click.option("--out", type=FOLDER, required=True, help="Gets work/ and checkpoint/.")
@click.option("--instruct-steps", default=Plan.instruct_steps, show_default=True)
@click.option("--decay-steps", default=Plan.decay_steps, show_default=True, help="Of these: rate to zero.")
@click.option("--state-file", default="state.safetensors", show_default=True, help="Of the trunk.")
@click.option("--threads", default=1, show_default=True, help="Part of the result.")
@click.option("--resume", is_flag=True, help="Continue the branch under --out.")
def branch_command(
    run: Path,
    packed: Path,
    data: Path,
    out: Path,
    instruct_steps: int,
    decay_steps: int,
    state_file: str,
    threads: int,
    resume: bool,
) -> None:
    """Instructions and annealing on a copy of the trunk, down to a checkpoint folder."""
    from tools.mini.build import branch

    branch(
        run,
        packed,
        data,
        out,
        instruct_steps=instruct_steps,
        decay_steps=decay_steps,
        state_file=state_file,
        num_threads=threads,
        resume=resume,
        echo=click.echo,
    )


@main.command("compress")
@click.option("--packed", type=FOLDER, required=True, help="What `pack` wrote.")
@click.option("--out", type=FOLDER, required=True, help="Gets the tokens and the tokenizer, about 50 MB.")
def compress_command(packed: Path, out: Path) -> None:
    """The packed tokens small enough to carry to a GPU."""
    from tools.mini.tokens import CARRIED_FILE, compress

    compress(packed, out)
    click.echo(f"wrote {out / CARRIED_FILE}: {(out / CARRIED_FILE).stat().st_size / 1e6:.1f} MB")


@main.command("expand")
@click.option("--carried", type=FOLDER, required=True, help="What `compress` wrote.")
@click.option("--packed", type=FOLDER, required=True, help="Gets the tokens again.")
def expand_command(carried: Path, packed: Path) -> None:
    """The inverse of `compress`, on the other machine."""
    from tools.mini.tokens import expand

    click.echo(f"wrote {expand(carried, packed)}")


@main.command("save-state")
@click.option("--run", type=FOLDER, required=True, help="Folder of the trunk.")
@click.option("--packed", type=FOLDER, required=True, help="What the trunk has read.")
@click.option("--state", type=FOLDER, default=STATE, show_default=True, help="Replaced.")
def save_state_command(run: Path, packed: Path, state: Path) -> None:
    """The trunk as files under 5 MB, for the repository."""
    from tools.mini.state import save_state

    save_state(run, packed, state)
    size = sum(path.stat().st_size for path in state.iterdir())
    click.echo(f"wrote {state}: {len(list(state.iterdir()))} files, {size / 1e6:.1f} MB")


@main.command("load-state")
@click.option("--state", type=FOLDER, default=STATE, show_default=True)
@click.option("--run", type=FOLDER, required=True, help="Gets the trunk.")
@click.option("--packed", type=FOLDER, required=True, help="Gets the trunk's tokenizer; `pack` does the rest.")
@click.option("--batch-tokens", type=int, help="Source tokens of a micro-batch from here on; for a GPU.")
def load_state_command(state: Path, run: Path, packed: Path, batch_tokens: int | None) -> None:
    """A trunk to read on from, out of what `save-state` wrote."""
    from tools.mini.state import load_state

    if load_state(state, run, packed, batch_tokens=batch_tokens):
        click.echo(f"{packed} holds the tokens that the trunk has read: the batches go on where they stopped")
    else:
        click.echo(f"{packed} holds no or other tokens: run `pack` into it; other data give other batches")


@main.command("panel")
@click.option("--run", type=FOLDER, help="Folder of a trunk, or a branch's work/: measured, and noted there.")
@click.option("--model", "folder", type=FOLDER, help="Or a checkpoint folder of transformers.")
@click.option("--state-file", default="state.safetensors", show_default=True, help="Of the trunk.")
@click.option("--kept", is_flag=True, help="Instead every state kept for branches that the panel lacks.")
@click.option("--packed", type=FOLDER, required=True, help="What `pack` wrote: the held-out passages.")
@click.option("--data", type=FOLDER, required=True, help="Local data root: the tasks' validation rows.")
@click.option("--tasks/--no-tasks", default=True, show_default=True, help="Also let the base write answers.")
@click.option("--threads", default=1, show_default=True)
def panel_command(
    run: Path | None,
    folder: Path | None,
    state_file: str,
    kept: bool,
    packed: Path,
    data: Path,
    tasks: bool,
    threads: int,
) -> None:
    """What a base can do: losses on unread text, last words, gaps, copying, our tasks; as JSON and as curves."""
    import torch

    from tools.mini.panel import measure_checkpoint, measure_run, unmeasured

    if (run is None) == (folder is None):
        raise click.UsageError("Give one of --run and --model.")
    torch.set_num_threads(threads)
    if run is not None:
        for name in unmeasured(run) if kept else [state_file]:
            click.echo(name)
            _echo_figures(measure_run(run, packed, data, state_file=name, tasks=tasks))
    elif folder is not None:
        _echo_figures(measure_checkpoint(folder, packed, data, tasks=tasks))


def _echo_figures(figures: dict[str, float]) -> None:
    for name, value in figures.items():
        click.echo(f"{value:9.4f}  {name}")


@main.command("forecast")
@click.option("--run", type=FOLDER, required=True, help="Folder of the trunk, or a state with its log.")
@click.option("--tokens", "millions", type=float, multiple=True, default=(250.0, 500.0), show_default=True)
def forecast_command(run: Path, millions: tuple[float, ...]) -> None:
    """The trunk's loss after so many million source tokens, by a power law through its log."""
    import json

    from tools.mini.forecast import backtest, fit

    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    records = [record for record in map(json.loads, lines) if record["stage"] == "denoising"]
    law = fit(records)
    click.echo(f"loss = {law.floor:.2f} + {law.scale:.3f} * (million tokens) ** -{law.exponent:.3f}")
    forecast, measured = backtest(records)
    click.echo(f"fitted on the first half, asked about the end: {forecast:.3f}; measured {measured:.3f}")
    for number in (records[-1]["source_tokens"] / 1e6, *millions):
        click.echo(f"{number:8.1f} M tokens: {law.loss(number * 1e6):.3f}")


main()
