"""How gradients become steps: AdamW as the papers of the family use it, or Muon."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stereo4d.errors import UsageError

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the polynomial that brings singular values to about 1 (Jordan et al. 2024)."""
ROUNDS = 5
SIZE = 0.2
"""Root mean square of AdamW's steps, which orthogonal ones are scaled to (Liu et al. 2025, section 2.2)."""
LEAST_NORM = 1e-7

Groups = list[dict[str, Any]]


class OptimizerRecipe(ABC):
    """What makes the optimiser; a new one is one small class, named in YAML by its class path."""

    @abstractmethod
    def build(self, groups: Groups, learning_rate: float, *, fused: bool) -> torch.optim.Optimizer:
        """The optimiser.

        Args:
            groups: parameters with their ``weight_decay``.
            learning_rate: peak of the schedule.
            fused: whether an optimiser that does everything in one kernel may be taken.
        """


@dataclass(frozen=True)
class AdamW(OptimizerRecipe):
    """AdamW (Loshchilov and Hutter 2019) with DUSt3R's betas."""

    betas: tuple[float, float] = (0.9, 0.95)

    def build(self, groups: Groups, learning_rate: float, *, fused: bool) -> torch.optim.Optimizer:
        """See ``OptimizerRecipe.build``."""
        return torch.optim.AdamW(groups, lr=learning_rate, betas=self.betas, fused=fused)


@dataclass(frozen=True)
class Muon(OptimizerRecipe):
    """Muon (Jordan et al. 2024) for matrices, AdamW for vectors, at AdamW's learning rates (Liu et al. 2025).

    At a size for CPUs it still learned where AdamW no longer did (docs/world.md).
    Whole matrices are needed, so sharded ones (FSDP) will not do.
    """

    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.95)
    """Of AdamW, for vectors."""

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum {self.momentum} must be at least 0 and less than 1")

    def build(self, groups: Groups, learning_rate: float, *, fused: bool) -> torch.optim.Optimizer:
        """See ``OptimizerRecipe.build``; there is no fused one."""
        return MuonAdamW(groups, learning_rate, self.momentum, self.betas)


class MuonAdamW(torch.optim.Optimizer):
    """Muon for parameters of two axes and more, what follows the first taken as one; AdamW for the others."""

    def __init__(self, groups: Groups, lr: float, momentum: float, betas: tuple[float, float]) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": 1e-8, "weight_decay": 0.0}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step along the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    (self._turn if parameter.ndim >= 2 else self._adapt)(parameter, parameter.grad, group)
        return loss

    def _turn(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """A step along the mean gradient, all its singular values made one."""
        state = self.state[parameter]
        if not state:
            state["mean"] = torch.zeros_like(parameter)
        mean = state["mean"].lerp_(gradient, 1 - group["momentum"])
        step = orthogonal(mean.flatten(1))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(step.view_as(parameter), alpha=-group["lr"] * SIZE * max(step.shape) ** 0.5)

    def _adapt(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """A step of AdamW."""
        state = self.state[parameter]
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}
        state["step"] += 1
        first, second = group["betas"]
        mean = state["mean"].lerp_(gradient, 1 - first)
        square = state["square"].lerp_(gradient.square(), 1 - second)
        spread = (square / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.addcdiv_(mean, spread, value=-group["lr"] / (1 - first ** state["step"]))


def orthogonal(matrix: Tensor) -> Tensor:
    """(M, N) with the singular vectors of a matrix and singular values of about 1 (0.7 to 1.2).

    In bfloat16 on a GPU, as its authors do; float32 elsewhere, since processors without bfloat16 take forty times as
    long for it (which is why torch's own Muon is not used).
    """
    tall = matrix.shape[0] > matrix.shape[1]
    value = (matrix.T if tall else matrix).to(torch.bfloat16 if matrix.is_cuda else torch.float32)
    value = value / value.norm().clamp(min=LEAST_NORM)
    linear, cubic, quintic = NEWTON_SCHULZ
    for _ in range(ROUNDS):
        square = value @ value.T
        value = torch.addmm(value, torch.addmm(square, square, square, beta=cubic, alpha=quintic), value, beta=linear)
    return (value.T if tall else value).to(matrix.dtype)
