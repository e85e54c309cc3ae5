"""The optimizer of the pre-training: Muon for the matrices inside the blocks, Adam for everything else.

On a budget of a few thousand steps, orthogonalised momentum learns from far fewer tokens than AdamW; its cost
(a few small matrix products, batched over all layers of one shape) is a tenth of a step here.

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

    matrix: float = 0.005
    """Muon; an update is orthogonal, so 0.005 moves the largest singular value (2) by 0.25 % per step. At
    0.02, with a few hundred target tokens per step, attention collapses to one token per query within 1,000
    steps and the first feed-forward layer outgrows the residual stream 25 times: no input is heard."""
    query: float = 0.0006
    """Muon on q, which starts 8 times smaller because T5 leaves attention scores unscaled."""
    embedding: float = 0.01
    head: float = 0.001
    other: float = 0.002
    """Norm scales and relative position biases."""
    weight_decay: float = 0.1
    """On Muon's matrices only, times the learning rate."""


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Nearest (semi-)orthogonal matrices, roughly: (N, rows, columns) -> same, singular values near 1."""
    a, b, c = NEWTON_SCHULZ
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x.mT if tall else x).float()
    return result


@dataclass
class MuonAdam:
    """Both update rules over one model; `scale` in `step` is the schedule's share of the peak rates."""

    parameters: dict[str, torch.nn.Parameter]
    rates: Rates = field(default_factory=Rates)
    betas: tuple[float, float] = (0.9, 0.98)
    momentum: float = 0.95

    def __post_init__(self) -> None:
        self.num_steps = 0
        self.first = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.second = {n: torch.zeros_like(p) for n, p in self.parameters.items() if not _is_matrix(n, p)}
        self.groups: dict[tuple[int, ...], list[str]] = {}
        for name, parameter in sorted(self.parameters.items()):
            if _is_matrix(name, parameter):
                self.groups.setdefault(tuple(parameter.shape), []).append(name)

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Apply one update from the gradients, then clear them."""
        self.num_steps += 1
        for names in self.groups.values():
            self._muon(names, scale)
        for name in self.second:
            self._adam(name, scale)
        for parameter in self.parameters.values():
            parameter.grad = None

    def _muon(self, names: list[str], scale: float) -> None:
        directions = []
        for name in names:
            grad = _grad(self.parameters[name])
            self.first[name].lerp_(grad, 1 - self.momentum)
            directions.append(grad.lerp(self.first[name], self.momentum))
        updates = orthogonalize(torch.stack(directions))
        for name, update in zip(names, updates, strict=True):
            parameter = self.parameters[name]
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
