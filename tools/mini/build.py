"""Make ``mini`` again from public text: tokenizer, denoising, instructions, annealing, checkpoint folder.

    python -m tools.mini --data DIR --out DIR [--steps 640 --instruct-steps 2400 --resume]

Everything a run needs to continue lies under ``OUT/work``; the artefact itself is ``OUT/checkpoint``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flan_lora.errors import FlanLoraError
from flan_lora.system.malloc import keep_freed_memory

if TYPE_CHECKING:
    from tools.mini.instruct import Mix
    from tools.mini.network import Shape
    from tools.mini.pretrain import BatchOf, Trainer

DENOISE, INSTRUCT, ANNEAL = "denoising", "instruction", "annealing"


@dataclass(frozen=True)
class Plan:
    """What fixes the weights: same plan, data, machine and thread count give the same bits."""

    steps: int = 640
    """Optimizer steps of denoising (stage one)."""
    instruct_steps: int = 2400
    """Optimizer steps of the instruction mixtures, about one pass."""
    decay_steps: int = 1600
    """The last of them are the annealing: another mixture, and the learning rate falls to zero."""
    batch_rows: int = 16
    """Windows per micro-batch of stage one, at most 256 source tokens each (`denoise.PATTERN`)."""
    micro_batches: int = 1
    """Micro-batches per step of stage one, the next kinds of the pattern."""
    span_rows: int = 2
    """Windows beside every instruction batch, so that stage one is not forgotten."""
    seed: int = 0
    num_threads: int = 2

    @property
    def num_steps(self) -> int:
        """Steps of all stages."""
        return self.steps + self.instruct_steps

    @property
    def anneal_from(self) -> int:
        """First step of the annealing."""
        return max(self.steps, self.num_steps - self.decay_steps)


def build(
    data: Path,
    out: Path,
    *,
    plan: Plan | None = None,
    shape: Shape | None = None,
    resume: bool = False,
    compiled: bool = False,
    checkpoint_every_s: float = 180.0,
    echo: Callable[[str], None] = lambda line: None,
) -> Path:
    """Train ``mini`` on the data root `data` and return the folder of the finished checkpoint.

    Args:
        data: Local data root, ``<owner>__<name>/<config>/<split>.jsonl`` and ``text/*.txt.xz``.
        out: Gets ``work/`` (tokens, state, log) and ``checkpoint/`` (what ``from_pretrained`` takes).
        plan: Steps, batch and seed; None for the shipped artefact's.
        shape: Model shape; None for the shipped one.
        resume: Continue from ``out/work`` if it holds a run of the same plan.
        compiled: ``torch.compile`` for stage one: about a minute to start, then some 15 % faster. The weights
            of a compiled run differ in the last bits from those of one that is not.
        checkpoint_every_s: Seconds between two saves of the training state.
        echo: Takes one line of progress at a time.

    Raises:
        FlanLoraError: the data root lacks a source, `out` holds another run, or there is none to resume.
    """
    import torch

    from tools.mini import corpus
    from tools.mini.export import export
    from tools.mini.network import Shape, new_model
    from tools.mini.pretrain import Schedule, Trainer

    plan, shape = plan or Plan(), shape or Shape()
    corpus.check_root(data)
    work = _open_work(out / "work", plan, shape, resume)
    torch.set_num_threads(plan.num_threads)
    tokenizer = _tokenizer(data, work, shape.vocab_size, plan.seed, echo)
    schedule = Schedule(plan.num_steps, plan.anneal_from)
    trainer = Trainer(new_model(shape, plan.seed), schedule, work, checkpoint_every_s, compiled=compiled)
    if resume and trainer.resume():
        echo(f"resumed at step {trainer.step} of {plan.num_steps}")
    _train(trainer, data, tokenizer, plan, shape, echo)
    checkpoint = export(trainer.model, tokenizer, work, out / "checkpoint", plan=asdict(plan), data=data)
    echo(f"wrote {checkpoint}")
    return checkpoint


def _train(trainer: Trainer, data: Path, tokenizer: Any, plan: Plan, shape: Shape, echo: Any) -> None:
    """Run the stages from wherever the trainer stands."""
    from tools.mini.instruct import ANNEALING, MIXTURE
    from tools.mini.network import token_losses
    from tools.mini.tokens import token_stream

    tokens = token_stream(tokenizer, data, trainer.work / "tokens.npy")
    echo(f"text: {len(tokens):,} tokens; {sum(p.numel() for p in trainer.model.parameters()):,} parameters")
    if trainer.step < plan.steps:
        batches = _windows(tokens, shape, plan.batch_rows, plan.seed, plan.micro_batches)
        trainer.run(batches, plan.steps, DENOISE, echo)
    trainer.losses = token_losses  # batches of many shapes from here on: nothing to compile for
    stages = (
        (INSTRUCT, plan.steps, plan.anneal_from, MIXTURE),
        (ANNEAL, plan.anneal_from, plan.num_steps, ANNEALING),
    )
    for seed, (stage, first, end, mixture) in enumerate(stages, start=plan.seed):
        if trainer.step < end:
            cache = _pairs(data, tokenizer, seed, mixture, trainer.work / f"{stage}.npz")
            spans = _windows(tokens, shape, plan.span_rows, seed + 1) if plan.span_rows else None
            trainer.run(_instructions(cache, seed, spans, first), end, stage, echo)


def _windows(tokens: Any, shape: Shape, rows: int, seed: int, micro_batches: int = 1) -> BatchOf:
    from tools.mini.denoise import PATTERN
    from tools.mini.pretrain import denoising_batches

    return denoising_batches(tokens, PATTERN, shape.vocab_size, rows, seed, micro_batches)


def _pairs(data: Path, tokenizer: Any, seed: int, mixture: Sequence[Mix], cache: Path) -> Path:
    """The mixture's pairs, encoded once and kept for a resumed run."""
    from tools.mini.instruct import build_pairs
    from tools.mini.mixture import Packing, encode_pairs, save_pairs

    if not cache.exists():
        save_pairs(encode_pairs(tokenizer, build_pairs(data, seed, mixture), Packing()), cache)
    return cache


def _instructions(cache: Path, seed: int, spans: BatchOf | None, first_step: int) -> BatchOf:
    from tools.mini.mixture import Packing, load_pairs, mixture_batches

    batches = mixture_batches(load_pairs(cache), Packing(), seed, spans)
    return lambda step: batches(step - first_step)


def _tokenizer(data: Path, work: Path, vocab_size: int, seed: int, echo: Callable[[str], None]) -> Any:
    """The run's tokenizer: trained once, then read back, so that a resumed run has the same one."""
    from transformers import AutoTokenizer

    from tools.mini.tokenizer import NUM_SENTINELS, build_tokenizer

    folder = work / "tokenizer"
    if not (folder / "tokenizer_config.json").exists():
        echo("training the tokenizer")
        build_tokenizer(data, folder, num_pieces=vocab_size - NUM_SENTINELS, seed=seed)
    return AutoTokenizer.from_pretrained(str(folder))


def _open_work(work: Path, plan: Plan, shape: Shape, resume: bool) -> Path:
    """Create the work folder, or check that it holds this very plan before its state is used."""
    record = work / "plan.json"
    wanted = {"plan": asdict(plan), "shape": asdict(shape)}
    if record.exists() and not resume:
        raise FlanLoraError(f"{work} holds a run already.\nContinue it (--resume) or choose another --out.")
    if resume and not record.exists():
        raise FlanLoraError(f"{work} holds no run to resume.\nStart one without --resume.")
    if resume and json.loads(record.read_text()) != wanted:
        raise FlanLoraError(
            f"{work} holds a run of another plan.\n"
            f"  there  {json.dumps(json.loads(record.read_text()))}\n"
            f"  asked  {json.dumps(wanted)}\n"
            "Resume it with the options it was started with, or choose another --out."
        )
    work.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(wanted, indent=1) + "\n")
    return work


def weights_digest(checkpoint: Path) -> str:
    """sha256 of the weights file: what two builds are compared by."""
    return hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Local data root.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run and result.")
@click.option("--steps", default=Plan.steps, show_default=True, help="Steps of denoising.")
@click.option(
    "--instruct-steps", default=Plan.instruct_steps, show_default=True, help="Steps of instruction and annealing."
)
@click.option(
    "--decay-steps", default=Plan.decay_steps, show_default=True, help="Of these, annealing: rate to zero."
)
@click.option("--seed", default=Plan.seed, show_default=True)
@click.option("--threads", default=Plan.num_threads, show_default=True, help="Part of the result.")
@click.option("--compile/--no-compile", "compiled", default=False, help="torch.compile for the first stage.")
@click.option("--resume", is_flag=True, help="Continue the run under --out.")
def main(
    data: Path,
    out: Path,
    steps: int,
    instruct_steps: int,
    decay_steps: int,
    seed: int,
    threads: int,
    compiled: bool,
    resume: bool,
) -> None:
    """Build the embedded base `mini` from public text and train splits."""
    keep_freed_memory()  # a fifth faster, docs/log.md
    plan = Plan(steps, instruct_steps, decay_steps, seed=seed, num_threads=threads)
    try:
        build(data, out, plan=plan, resume=resume, compiled=compiled, echo=click.echo)
    except FlanLoraError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
