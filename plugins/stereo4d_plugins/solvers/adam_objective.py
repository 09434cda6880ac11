"""The family's alignment loss as a function of points and similarities, ready for gradient descent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stereo4d.alignment import AlignmentProblem

_VALUES_AT_ONCE = {"cpu": 300_000, "cuda": 100_000_000}
"""Numbers of a pointmap that are worked on at a time: what fits a processor's cache, or is worth a launch."""
_LEAST_DISTANCE = 1e-12


class WrittenOut:
    """Loss and gradient in one pass over the pixels, a few pairs at a time, derivatives written by hand.

    On a CPU several times faster than ``ByAutograd``, since what one operation makes is still in the cache when the
    next needs it; beside the constants it needs next to no memory.
    """

    def __init__(self, problem: AlignmentProblem) -> None:
        """Gather all that stays the same: E pairs' points of both views, and their weights ln(confidence)."""
        self.edges = problem.edges
        height, width = problem.image_size
        shape = (2, len(problem.edges), height * width)
        device = problem.prediction.pointmap0.device
        self._points = torch.empty(2, shape[1], *self._layout(shape[2]), device=device)
        self._weight = torch.empty(shape, device=device)
        for pairs in problem.batches():
            for side in (0, 1):
                weight = problem.confidence(side, pairs).log() * problem.kept(problem.edges[pairs, side])
                self._weight[side, pairs] = weight.flatten(1) / (shape[1] * shape[2])
                self._store(side, pairs, problem.points(side, pairs).flatten(1, 2))

    def loss(self, world: Tensor, linear: Tensor, translation: Tensor) -> Tensor:
        """``sum_sides mean_{e,p} ln C |chi - T_e X|``, differentiable once.

        Args:
            world: (N, 3, P) points chi of every frame's pixels.
            linear: (E, 3, 3) scale times rotation of T_e.
            translation: (E, 3) of T_e.
        """
        return _OnePass.apply(world, linear, translation, self)

    def distances(self, world: Tensor, linear: Tensor, translation: Tensor) -> Tensor:
        """(N, P) weighted mean distance between each pixel's point and what the pairs say."""
        weighted, weight = world.new_zeros(len(world), world.shape[2]), world.new_zeros(len(world), world.shape[2])
        for side, some in self._parts():
            frames = self.edges[some, side]
            distance = _length(self._residual(side, some, world, linear, translation))
            weighted.index_add_(0, frames, self._weight[side, some] * distance)
            weight.index_add_(0, frames, self._weight[side, some])
        return weighted / weight.clamp(min=1e-30)

    def loss_and_gradients(
        self, world: Tensor, linear: Tensor, translation: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The loss and its derivatives by the three arguments; see ``loss``."""
        total = torch.zeros((), dtype=torch.float64, device=world.device)
        by_world = torch.zeros_like(world)
        by_linear, by_translation = torch.zeros_like(linear), torch.zeros_like(translation)
        for side, some in self._parts():
            weight, residual = self._weight[side, some], self._residual(side, some, world, linear, translation)
            distance = _length(residual)
            total += weight.flatten().dot(distance.flatten())
            # The derivative of a length is the direction; of length zero it is taken as zero.
            pull = residual.mul_((weight / distance.clamp_(min=_LEAST_DISTANCE))[:, None])
            by_world.index_add_(0, self.edges[some, side], pull)
            by_linear[some] -= pull @ self._points[side, some].transpose(1, 2)
            by_translation[some] -= pull.sum(-1)
        return total.to(world.dtype), by_world, by_linear, by_translation

    def _layout(self, pixels: int) -> tuple[int, int]:
        return (3, pixels)

    def _store(self, side: int, pairs: Tensor, points: Tensor) -> None:
        self._points[side, pairs] = points.transpose(1, 2)

    def _parts(self) -> list[tuple[int, slice]]:
        """Pieces of the work: a view and some pairs."""
        pairs, pixels = self._weight.shape[1:]
        count = max(1, _VALUES_AT_ONCE.get(self._weight.device.type, 300_000) // (3 * pixels))
        return [(side, slice(start, start + count)) for side in (0, 1) for start in range(0, pairs, count)]

    def _residual(self, side: int, some: slice, world: Tensor, linear: Tensor, translation: Tensor) -> Tensor:
        """(K, 3, P) vectors from what some pairs say to the points of the world."""
        said = torch.baddbmm(translation[some, :, None], linear[some], self._points[side, some], alpha=-1, beta=-1)
        return said.add_(world.index_select(0, self.edges[some, side]))


class ByAutograd(WrittenOut):
    """The same loss over all pairs at once with PyTorch's own derivatives, points as a network gives them.

    This is how the family computes it; what is timed against it is timed against common practice.
    """

    def loss(self, world: Tensor, linear: Tensor, translation: Tensor) -> Tensor:
        """See ``WrittenOut.loss``."""
        total = world.new_zeros(())
        points = world.transpose(1, 2).contiguous()
        for side in (0, 1):
            said = torch.baddbmm(translation[:, None], self._points[side], linear.transpose(1, 2))
            distance = (points.index_select(0, self.edges[:, side]) - said).norm(dim=-1)
            total = total + (self._weight[side] * distance).sum()
        return total

    def _layout(self, pixels: int) -> tuple[int, int]:
        return (pixels, 3)

    def _store(self, side: int, pairs: Tensor, points: Tensor) -> None:
        self._points[side, pairs] = points

    def _residual(self, side: int, some: slice, world: Tensor, linear: Tensor, translation: Tensor) -> Tensor:
        said = linear[some] @ self._points[side, some].transpose(1, 2) + translation[some, :, None]
        return world.index_select(0, self.edges[some, side]) - said


class _OnePass(torch.autograd.Function):
    """Hands the derivatives that were found together with the loss to what the points were made of."""

    @staticmethod
    def forward(ctx: Any, world: Tensor, linear: Tensor, translation: Tensor, terms: WrittenOut) -> Tensor:
        """The loss; the derivatives found with it are kept for ``backward``."""
        loss, *gradients = terms.loss_and_gradients(world, linear, translation)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Tensor | None, ...]:
        """Those derivatives, times what comes from above."""
        by_world, by_linear, by_translation = ctx.saved_tensors
        (factor,) = upstream
        return factor * by_world, factor * by_linear, factor * by_translation, None


def _length(vectors: Tensor) -> Tensor:
    """(K, P) lengths of (K, 3, P) vectors."""
    x, y, z = vectors.unbind(1)
    # A norm over an axis of three is many times slower on a CPU.
    return (x * x).addcmul_(y, y).addcmul_(z, z).sqrt_()
