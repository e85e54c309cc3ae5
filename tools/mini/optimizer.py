"""The optimizer of the pre-training: Muon for the matrices inside the blocks, Adam for everything else.

On a budget of a few thousand steps, orthogonalised momentum learns from far fewer tokens than AdamW; its cost
(a few small matrix products) is a tenth of a step here.

Source: Muon, https://kellerjordan.github.io/posts/muon/ (momentum, Nesterov, five Newton-Schulz iterations).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


@dataclass(frozen=True)
class Rates:
    """Peak learning rates, each relative to how its parameters start (embedding std 1, head 0.02)."""

    matrix: float = 0.016
    """Muon; an update is orthogonal, so 0.016 moves the largest singular value (2) by 0.8 % per step. Better than
    0.010 once the copying circuits stand in the initial weights; without them attention collapsed at 0.02, with a
    few hundred target tokens per step, and no input was heard (docs/log.md)."""
    query: float = 0.002
    """Muon on q, which starts 8 times smaller because T5 leaves attention scores unscaled."""
    embedding: float = 0.01
    head: float = 0.001
    other: float = 0.002
    """Norm scales and relative position biases."""
    weight_decay: float = 0.1
    """On Muon's matrices only, times the learning rate."""


def orthogonalize(matrix: Tensor, iterations: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """The nearest (semi-)orthogonal matrix, roughly: (rows, columns) -> same, singular values near 1.

    `dtype` is that of the products: bf16 where AMX is (six times as fast), else fp32 (without AMX, bf16 takes
    twice as long). One matrix at a time: batched products were no faster on the CPUs measured.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.mT if tall else matrix).float()
    x = (x / (x.norm() + 1e-7)).to(dtype)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()


@dataclass
class MuonAdam:
    """Both update rules over one model; `scale` in `step` is the schedule's share of the peak rates."""

    parameters: dict[str, torch.nn.Parameter]
    rates: Rates = field(default_factory=Rates)
    betas: tuple[float, float] = (0.9, 0.98)
    momentum: float = 0.95
    dtype: torch.dtype = torch.float32
    """Of the products that orthogonalise."""

    def __post_init__(self) -> None:
        self.num_steps = 0
        self.first = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.second = {n: torch.zeros_like(p) for n, p in self.parameters.items() if not _is_matrix(n, p)}

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Apply one update from the gradients, then clear them."""
        self.num_steps += 1
        for name in self.parameters:
            (self._adam if name in self.second else self._muon)(name, scale)
        for parameter in self.parameters.values():
            parameter.grad = None

    def _muon(self, name: str, scale: float) -> None:
        parameter, grad = self.parameters[name], _grad(self.parameters[name])
        self.first[name].lerp_(grad, 1 - self.momentum)
        update = orthogonalize(grad.lerp(self.first[name], self.momentum), dtype=self.dtype)
        rate = scale * (self.rates.query if name.endswith(".q.weight") else self.rates.matrix)
        parameter.mul_(1 - rate * self.rates.weight_decay)
        parameter.add_(update, alpha=-rate * max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5)

    def _adam(self, name: str, scale: float) -> None:
        parameter, grad = self.parameters[name], _grad(self.parameters[name])
        first, second = self.first[name], self.second[name]
        beta1, beta2 = self.betas
        first.lerp_(grad, 1 - beta1)
        second.lerp_(grad.square(), 1 - beta2)
        corrected = (second / (1 - beta2**self.num_steps)).sqrt_().add_(1e-10)
        rate = scale * self._adam_rate(name) / (1 - beta1**self.num_steps)
        parameter.addcdiv_(first, corrected, value=-rate)

    def _adam_rate(self, name: str) -> float:
        if name == "shared.weight":
            return self.rates.embedding
        return self.rates.head if name == "lm_head.weight" else self.rates.other

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every state tensor under a flat name: what a checkpoint keeps."""
        for kind, states in (("first", self.first), ("second", self.second)):
            for name, tensor in states.items():
                yield f"{kind}.{name}", tensor


def _grad(parameter: torch.nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _is_matrix(name: str, parameter: torch.nn.Parameter) -> bool:
    inside = "block." in name and "relative_attention_bias" not in name
    return inside and parameter.dim() == 2
