"""The training loop of both stages: batches by step number, checkpoints, resume, a JSONL log.

A batch is a pure function of its step, so a resumed run sees what an uninterrupted one would have seen, and
the weights after N steps are bitwise the same on one machine with one thread count.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools.mini.corrupt import windows
from tools.mini.denoise import Denoiser
from tools.mini.network import IGNORED, AutogradT5
from tools.mini.optimizer import MuonAdam


@dataclass(frozen=True)
class Batch:
    """One optimizer step's examples.

    Shapes (B rows, S source, T target):
        input_ids (B, S) int64, pad 0 on the right; labels (B, T) int64, -100 on the right
    """

    input_ids: Tensor
    labels: Tensor
    padded: bool

    @property
    def num_source_tokens(self) -> int:
        return int((self.input_ids != 0).sum())

    @property
    def num_target_tokens(self) -> int:
        return int((self.labels != IGNORED).sum())

    def token_weights(self) -> Tensor:
        """(B, T): a row of n target tokens weighs sqrt(n), so that texts do not drown one-word answers."""
        counted = (self.labels != IGNORED).float()
        return counted * counted.sum(1, keepdim=True).clamp(min=1).rsqrt()


STATE_FILE = "state.safetensors"

BatchOf = Callable[[int], list[Batch]]
"""step -> micro-batches of that step; must depend on nothing else."""


@dataclass(frozen=True)
class Schedule:
    """Share of the peak rates per step: linear warm-up, hold, then linear decay to zero at `num_steps`."""

    num_steps: int
    decay_from: int
    num_warmup_steps: int = 60
    num_rewarm_steps: int = 50
    """After a restart without the optimizer's state: Adam's squares (beta 0.98) have settled by then."""

    def scale(self, step: int, warm_from: int = 0) -> float:
        """The share for 0-based `step` of a run whose optimizer started from nothing at `warm_from`."""
        num_warm = self.num_rewarm_steps if warm_from else self.num_warmup_steps
        warm = min(1.0, (step - warm_from + 1) / num_warm)
        left = (self.num_steps - step) / max(1, self.num_steps - self.decay_from)
        return max(0.0, min(warm, left, 1.0))


@dataclass
class Trainer:
    """A model, its optimizer and where both are kept. `work` is a folder outside the package."""

    model: Any
    schedule: Schedule
    work: Path
    checkpoint_every_s: float = 180.0
    log_every: int = 10
    passes: Any = None
    """Computes losses and gradients: `network.AutogradT5` (None: that, in fp32) or `fused.FusedT5`."""
    stop_after_s: float = math.inf
    """End `run` after so many seconds, whatever the step."""
    keep_every: int = 0
    """Steps between two states that stay beside the latest one, for stages that branch off; 0: none."""
    step: int = 0
    source_tokens: int = 0
    target_tokens: int = 0
    elapsed_s: float = 0.0
    warm_from: int = 0
    """Step at which the optimizer started from nothing: 0, or where a trunk was restored without its state."""

    def __post_init__(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        self.passes = self.passes or AutogradT5(self.model, torch.float32)
        self.optimizer = MuonAdam(dict(self.model.named_parameters()), dtype=self.passes.dtype)

    def run(
        self, batch_of: BatchOf, until: int, stage: str, echo: Callable[[str], None] = lambda line: None
    ) -> None:
        """Train from the current step to `until`; a checkpoint at the end and every `checkpoint_every_s`."""
        started, saved_at, window = time.monotonic() - self.elapsed_s, time.monotonic(), []
        begun = time.monotonic()
        while self.step < until and time.monotonic() - begun < self.stop_after_s:
            window.append(self.update(batch_of(self.step)))
            self.step += 1
            self.elapsed_s = time.monotonic() - started
            if self.step % self.log_every == 0 or self.step == until:
                self._log(stage, float(np.mean(window)), echo)
                window = []
            if self.keep_every and self.step % self.keep_every == 0:
                self.save()
                self._keep()
                saved_at = time.monotonic()
            if time.monotonic() - saved_at > self.checkpoint_every_s:
                self.save()
                saved_at = time.monotonic()
        self.save()

    def update(self, batches: list[Batch]) -> float:
        """One optimizer step over the micro-batches; returns the mean loss per target token."""
        weights = [batch.token_weights() for batch in batches]
        weight = sum(float(w.sum()) for w in weights)
        num_targets, total = sum(batch.num_target_tokens for batch in batches), 0.0
        self.passes.begin_step()
        for batch, token_weights in zip(batches, weights, strict=True):
            losses = self.passes.losses(batch.input_ids, batch.labels, token_weights / weight, batch.padded)
            total += float(losses.sum()) / num_targets
            self.source_tokens += batch.num_source_tokens
        self.target_tokens += num_targets
        if not math.isfinite(total):
            raise FloatingPointError(f"loss {total} at step {self.step}")
        self.optimizer.step(self.schedule.scale(self.step, self.warm_from))
        return total

    def _log(self, stage: str, loss: float, echo: Callable[[str], None]) -> None:
        record = {
            "stage": stage,
            "step": self.step,
            "loss": round(loss, 4),
            "source_tokens": self.source_tokens,
            "target_tokens": self.target_tokens,
            "elapsed_s": round(self.elapsed_s, 1),
        }
        with (self.work / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self.step % (10 * self.log_every) == 0:
            echo(f"{stage}, step {self.step}: loss {loss:.3f}, {self.elapsed_s:.0f} s")

    def save(self) -> None:
        """Write weights, optimizer state and counters to ``state.safetensors``, atomically."""
        from safetensors.torch import save_file

        tensors = {f"model.{n}": p.detach() for n, p in self.model.named_parameters()}
        tensors.update({f"optimizer.{n}": t for n, t in self.optimizer.tensors()})
        counters = {name: repr(getattr(self, name)) for name in _COUNTERS}
        partial = self.work / "state.partial"
        save_file(tensors, partial, metadata=counters)
        os.replace(partial, self.work / STATE_FILE)

    def _keep(self) -> None:
        """A second name for the state just written, so that the next one does not replace it."""
        kept = self.work / f"state-{self.step:06d}.safetensors"
        kept.unlink(missing_ok=True)
        os.link(self.work / STATE_FILE, kept)

    def resume(self) -> bool:
        """Continue from ``state.safetensors`` if it exists, and say whether it did."""
        found = self.load()
        if found:
            self._cut_log()
        return found

    def load(self, name: str = STATE_FILE) -> bool:
        """Stand where a state of the folder stands, if it exists; nothing in the folder is touched."""
        from safetensors import safe_open

        path = self.work / name
        if not path.exists():
            return False
        with safe_open(path, "pt") as file, torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(file.get_tensor(f"model.{name}"))
            for name, tensor in self.optimizer.tensors():
                tensor.copy_(file.get_tensor(f"optimizer.{name}"))
            counters = file.metadata()
        for name, kind in _COUNTERS.items():
            setattr(self, name, kind(counters.get(name, "0")))  # warm_from: not in the oldest states
        self.optimizer.num_steps = self.step - self.warm_from
        return True

    def counters(self) -> dict[str, float]:
        """Step, tokens and seconds so far: what a state keeps beside its tensors."""
        return {name: getattr(self, name) for name in _COUNTERS}

    def restart(self, counters: Mapping[str, float]) -> None:
        """Stand at the step of `counters` with the weights as they are and an optimizer that knows nothing."""
        for name, kind in _COUNTERS.items():
            setattr(self, name, kind(counters[name]))
        self.warm_from = self.step

    def _cut_log(self) -> None:
        """Drop the log's records behind the checkpoint: those steps run again."""
        path = self.work / "log.jsonl"
        if path.exists():
            lines = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= self.step]
            path.write_text("".join(f"{line}\n" for line in lines))


_COUNTERS: dict[str, Callable[[Any], Any]] = {
    "step": int,
    "source_tokens": int,
    "target_tokens": int,
    "elapsed_s": float,
    "warm_from": int,
}


def denoising_batches(
    tokens: np.ndarray[Any, Any],
    pattern: Sequence[Denoiser],
    vocab_size: int,
    batch_tokens: int,
    seed: int,
    micro_batches: int = 1,
) -> BatchOf:
    """Micro-batches of `batch_tokens` source tokens each at most, of the pattern's kinds in turn.

    Every kind passes over the whole text by itself; each pass shifts the cuts, shuffles and corrupts anew.
    """
    kinds = list(dict.fromkeys(pattern))
    uses = [[entry == kind for entry in pattern] for kind in kinds]
    windows_of = [
        _WindowOrder(tokens, kind.window_tokens, max(1, batch_tokens // kind.source_tokens), [seed, number])
        for number, kind in enumerate(kinds)
    ]

    def micro_batch(number: int) -> Batch:
        cycle, position = divmod(number, len(pattern))
        kind = kinds.index(pattern[position])
        use = cycle * sum(uses[kind]) + sum(uses[kind][:position])
        rng = np.random.default_rng([seed, number, 2])
        pairs = [kinds[kind].pair(window, vocab_size, rng) for window in windows_of[kind].batch(use)]
        sources, targets = (torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))
        return Batch(sources, targets, padded=False)

    return lambda step: [micro_batch(step * micro_batches + index) for index in range(micro_batches)]


class _WindowOrder:
    """Windows of one length in shuffled passes; `batch` is a pure function of its number."""

    def __init__(self, tokens: np.ndarray[Any, Any], window_tokens: int, rows: int, seed: list[int]) -> None:
        self.tokens, self.window_tokens, self.rows, self.seed = tokens, window_tokens, rows, seed
        self.per_pass = (len(tokens) - window_tokens) // window_tokens // rows
        assert self.per_pass > 0, "the text is shorter than one batch"
        self.turn, self.order = -1, np.empty(0, dtype=np.int64)

    def batch(self, number: int) -> list[np.ndarray[Any, Any]]:
        turn, index = divmod(number, self.per_pass)
        offset = int(np.random.default_rng([*self.seed, turn]).integers(self.window_tokens))
        cut = windows(self.tokens, self.window_tokens, offset)
        if turn != self.turn:
            self.turn, self.order = turn, np.random.default_rng([*self.seed, turn, 1]).permutation(len(cut))
        return [cut[row] for row in self.order[index * self.rows : (index + 1) * self.rows]]
