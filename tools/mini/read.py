"""The long reading of plain text: a trunk at a constant rate, continued over many sessions and machines.

    pack    tokenizer, token stream and held-out text, once          PACKED/
    read    the trunk: denoising, from wherever it stands            RUN/

A batch is a pure function of its step, so `read` continues bit for bit on one machine; on another one (no AMX, a
GPU) it continues with that machine's products. Stages with a falling rate branch off a copy.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flan_lora.errors import FlanLoraError
from tools.mini.network import Shape

if TYPE_CHECKING:
    from tools.mini.pretrain import BatchOf, Trainer

NEVER = 10**9
"""A step that no run reaches: the trunk's rate does not fall."""
PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class TrunkPlan:
    """What fixes the trunk: same plan, packed data, machine and products give the same bits."""

    shape: Shape = field(default_factory=Shape)
    batch_tokens: int = 4096
    """Source tokens of a micro-batch, at most."""
    micro_batches: int = 2
    """Micro-batches of a step, the next kinds of `denoise.PATTERN`."""
    num_warmup_steps: int = 200
    seed: int = 0

    def dump(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)

    @classmethod
    def parse(cls, values: dict[str, Any]) -> TrunkPlan:
        """The inverse of `dump`."""
        return cls(**{**values, "shape": Shape(**values["shape"])})


def pack(
    data: Path,
    out: Path,
    *,
    num_pieces: int,
    seed: int = 0,
    echo: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write tokenizer, tokens and held-out text of the data root `data` to `out`, and return it.

    What is there stays: a second call with the same folder does nothing but check.
    """
    from tools.mini import corpus
    from tools.mini.probes import load_passages
    from tools.mini.tokenizer import load_or_build
    from tools.mini.tokens import token_stream

    corpus.check_root(data)
    tokenizer = load_or_build(data, out / "tokenizer", num_pieces=num_pieces, seed=seed, echo=echo)
    tokens = token_stream(tokenizer, data, out / "tokens.npy")
    passages = load_passages(data, out / "passages.json")
    echo(f"packed {len(tokens):,} tokens; passages of {len(passages)} kinds of text are held out")
    return out


def read(
    packed: Path,
    run: Path,
    *,
    plan: TrunkPlan | None = None,
    until_step: int = NEVER,
    stop_after_s: float = float("inf"),
    checkpoint_every_s: float = 300.0,
    keep_every: int = 500,
    device: str = "cpu",
    num_workers: int = 0,
    echo: Callable[[str], None] = lambda line: None,
) -> Trainer:
    """Read on from where `run` stands, or begin there, and return the trainer at its last step.

    Args:
        packed: What `pack` wrote.
        run: Gets ``plan.json``, ``state.safetensors``, ``log.jsonl`` and the states that are kept.
        plan: None for the run's own, or the default where there is none.
        until_step: Last step of the trunk in this call.
        stop_after_s: End after so many seconds at the latest.
        checkpoint_every_s: Seconds between two saves: what a stop may cost.
        keep_every: Steps between two states that are kept for branches.
        device: ``cpu`` or ``cuda``.
        num_workers: Processes that make batches ahead, for a GPU; 0: none.
        echo: Takes one line of progress at a time.

    Raises:
        FlanLoraError: `packed` is not whole, or `run` was begun under another plan.
    """
    from tools.mini.network import new_model
    from tools.mini.passes import new_passes
    from tools.mini.prefetch import Prefetcher
    from tools.mini.pretrain import Schedule, Trainer

    if not (packed / "tokens.npy").exists():
        raise FlanLoraError(f"{packed} holds no tokens.npy.\nMake it with `python -m tools.mini pack`.")
    plan = _settle_plan(run, plan)
    model = new_model(plan.shape, plan.seed)
    passes = new_passes(model, device)
    schedule = Schedule(NEVER, NEVER, plan.num_warmup_steps)
    trainer = Trainer(
        model, schedule, run, checkpoint_every_s, passes=passes, stop_after_s=stop_after_s, keep_every=keep_every
    )
    if trainer.resume():
        echo(f"resumed at step {trainer.step}")
    make = partial(_batches, packed, plan)
    batches = Prefetcher(make, num_workers) if num_workers else make()
    echo(f"{sum(p.numel() for p in model.parameters()):,} parameters; products: {passes}")
    try:
        trainer.run(batches, until_step, "denoising", echo)
    finally:
        if isinstance(batches, Prefetcher):
            batches.close()
    return trainer


def _batches(packed: Path, plan: TrunkPlan) -> BatchOf:
    """The trunk's batches by step; also run in the processes of a `Prefetcher`."""
    import numpy as np

    from tools.mini.denoise import PATTERN
    from tools.mini.pretrain import denoising_batches

    tokens = np.load(packed / "tokens.npy", mmap_mode="r")
    return denoising_batches(
        tokens, PATTERN, plan.shape.vocab_size, plan.batch_tokens, plan.seed, plan.micro_batches
    )


def _settle_plan(run: Path, plan: TrunkPlan | None) -> TrunkPlan:
    """The run's plan, written down at its start; a call may not change it."""
    record = run / PLAN_FILE
    if not record.exists():
        plan = plan or TrunkPlan()
        run.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(plan.dump(), indent=1) + "\n")
        return plan
    kept = TrunkPlan.parse(json.loads(record.read_text()))
    if plan is not None and plan != kept:
        raise FlanLoraError(
            f"{run} holds a run of another plan.\n"
            f"  there  {json.dumps(kept.dump())}\n"
            f"  asked  {json.dumps(plan.dump())}\n"
            "Resume it without options of the plan, or choose another --run."
        )
    return kept
