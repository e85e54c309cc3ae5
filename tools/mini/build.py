"""Make ``mini`` again from public text: tokenizer, denoising, instructions, annealing, checkpoint folder.

    python -m tools.mini build --data DIR --out DIR [--steps 640 --instruct-steps 2400 --resume]

Everything a run needs to continue lies under ``OUT/work``; the artefact itself is ``OUT/checkpoint``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flan_lora.errors import FlanLoraError

if TYPE_CHECKING:
    from tools.mini.mixes import Mix
    from tools.mini.network import Shape
    from tools.mini.pretrain import BatchOf, Trainer

DENOISE, INSTRUCT, ANNEAL = "denoising", "instruction", "annealing"
BRANCH_FILE = "branched-from.safetensors"
"""The trunk's state that a branch began with."""


@dataclass(frozen=True)
class Plan:
    """What fixes the weights: same plan, data, machine and thread count give the same bits."""

    steps: int = 640
    """Optimizer steps of denoising (stage one)."""
    instruct_steps: int = 2400
    """Optimizer steps of the instruction mixtures, about one pass."""
    decay_steps: int = 1600
    """The last of them are the annealing: another mixture, and the learning rate falls to zero."""
    batch_tokens: int = 4096
    """Source tokens of a micro-batch of stage one, at most; one window at least (`denoise.PATTERN`)."""
    micro_batches: int = 1
    """Micro-batches per step of stage one, the next kinds of the pattern."""
    span_tokens: int = 512
    """Source tokens of stage one beside every instruction batch, so that stage one is not forgotten."""
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
        checkpoint_every_s: Seconds between two saves of the training state.
        echo: Takes one line of progress at a time.

    Raises:
        FlanLoraError: the data root lacks a source, `out` holds another run, or there is none to resume.
    """
    import torch

    from tools.mini import corpus
    from tools.mini.export import export
    from tools.mini.network import Shape, new_model
    from tools.mini.passes import new_passes
    from tools.mini.pretrain import Schedule, Trainer
    from tools.mini.tokenizer import NUM_SENTINELS, load_or_build

    plan, shape = plan or Plan(), shape or Shape()
    corpus.check_root(data)
    work = _open_work(out / "work", plan, shape, resume)
    torch.set_num_threads(plan.num_threads)
    num_pieces = shape.vocab_size - NUM_SENTINELS
    tokenizer = load_or_build(data, work / "tokenizer", num_pieces=num_pieces, seed=plan.seed, echo=echo)
    schedule = Schedule(plan.num_steps, plan.anneal_from)
    model = new_model(shape, plan.seed)
    trainer = Trainer(model, schedule, work, checkpoint_every_s, passes=new_passes(model))
    if resume and trainer.resume():
        echo(f"resumed at step {trainer.step} of {plan.num_steps}")
    _train(trainer, data, tokenizer, plan, shape, echo)
    made = {**asdict(plan), "products": str(trainer.passes)}
    checkpoint = export(trainer.model, tokenizer, work, out / "checkpoint", plan=made, data=data)
    echo(f"wrote {checkpoint}")
    return checkpoint


def branch(
    run: Path,
    packed: Path,
    data: Path,
    out: Path,
    *,
    instruct_steps: int,
    decay_steps: int,
    state_file: str = "state.safetensors",
    num_threads: int = 1,
    resume: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> Path:
    """Instructions and annealing on a copy of a trunk, and the folder of the finished checkpoint.

    Args:
        run: Folder of the trunk; it stays as it is, and may read on meanwhile.
        packed: What the trunk reads.
        data: Local data root.
        out: Gets ``work/`` and ``checkpoint/``, as in `build`.
        instruct_steps: Steps of the instruction mixtures, `decay_steps` of them with a falling rate.
        decay_steps: See there.
        state_file: Of `run`: the latest state, or one of those that `read` keeps.
        num_threads: Part of the result.
        resume: Continue the branch in `out`.
        echo: Takes one line of progress at a time.

    Raises:
        FlanLoraError: there is no such state, or what `build` raises.
    """
    from safetensors import safe_open

    from tools.mini.panel_file import PANEL_FILE
    from tools.mini.read import PLAN_FILE, TrunkPlan

    source = run / state_file
    if not source.exists():
        raise FlanLoraError(
            f"{source} does not exist.\nPoint --run at a trunk, and --state-file at a state of it."
        )
    trunk = TrunkPlan.parse(json.loads((run / PLAN_FILE).read_text()))
    work = out / "work"
    kept = work / "state.safetensors"
    with safe_open(work / BRANCH_FILE if resume and (work / BRANCH_FILE).exists() else source, "pt") as state:
        step = int(state.metadata()["step"])
    plan = Plan(
        step,
        instruct_steps,
        decay_steps,
        batch_tokens=trunk.batch_tokens,
        micro_batches=trunk.micro_batches,
        seed=trunk.seed,
        num_threads=num_threads,
    )
    if not resume:
        _open_work(work, plan, trunk.shape, resume=False)
        shutil.copy(source, work / BRANCH_FILE)
        shutil.copy(source, kept)
        for name in ("log.jsonl", PANEL_FILE):
            if (run / name).exists():
                shutil.copy(run / name, work / name)
        shutil.copytree(packed / "tokenizer", work / "tokenizer")
        shutil.copy(packed / "tokens.npy", work / "tokens.npy")
    return build(data, out, plan=plan, shape=trunk.shape, resume=True, echo=echo)


def _train(trainer: Trainer, data: Path, tokenizer: Any, plan: Plan, shape: Shape, echo: Any) -> None:
    """Run the stages from wherever the trainer stands."""
    from tools.mini.instruct import ANNEALING, MIXTURE
    from tools.mini.tokens import token_stream

    tokens = token_stream(tokenizer, data, trainer.work / "tokens.npy")
    echo(f"text: {len(tokens):,} tokens; {sum(p.numel() for p in trainer.model.parameters()):,} parameters")
    if trainer.step < plan.steps:
        batches = _windows(tokens, shape, plan.batch_tokens, plan.seed, plan.micro_batches)
        trainer.run(batches, plan.steps, DENOISE, echo)
    stages = (
        (INSTRUCT, plan.steps, plan.anneal_from, MIXTURE),
        (ANNEAL, plan.anneal_from, plan.num_steps, ANNEALING),
    )
    for seed, (stage, first, end, mixture) in enumerate(stages, start=plan.seed):
        if trainer.step < end:
            cache = trainer.work / f"{stage}.npz"
            if not cache.exists():
                echo(f"{stage}: encoding the pairs of {len(mixture)} sets, some minutes without a word")
            _pairs(data, tokenizer, seed, mixture, cache)
            spans = _windows(tokens, shape, plan.span_tokens, seed + 1) if plan.span_tokens else None
            trainer.run(_instructions(cache, seed, spans, first), end, stage, echo)


def _windows(tokens: Any, shape: Shape, batch_tokens: int, seed: int, micro_batches: int = 1) -> BatchOf:
    from tools.mini.denoise import PATTERN
    from tools.mini.pretrain import denoising_batches

    return denoising_batches(tokens, PATTERN, shape.vocab_size, batch_tokens, seed, micro_batches)


def _pairs(data: Path, tokenizer: Any, seed: int, mixture: Sequence[Mix], cache: Path) -> None:
    """The mixture's pairs, encoded once and kept for a resumed run."""
    from tools.mini.instruct import build_pairs
    from tools.mini.mixture import Packing, encode_pairs, save_pairs

    if not cache.exists():
        save_pairs(encode_pairs(tokenizer, build_pairs(data, seed, mixture), Packing()), cache)


def _instructions(cache: Path, seed: int, spans: BatchOf | None, first_step: int) -> BatchOf:
    from tools.mini.mixture import Packing, load_pairs, mixture_batches

    batches = mixture_batches(load_pairs(cache), Packing(), seed, spans)
    return lambda step: batches(step - first_step)


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
