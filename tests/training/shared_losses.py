"""Every objective on a batch that two processes share, or that one has alone: ``python -m ... RANK WORLD FOLDER``.

Writes the gradients, by objective, of a small module that every objective reaches.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from stereo4d_heads.correspondences import PixelDraw
from stereo4d_heads.descriptor_objective import DescriptorMatching
from stereo4d_heads.motion_objective import DisplacementRegression, MotionRegression, MovingApart, MovingCounts
from torch import Tensor, nn
from torch import distributed as processes
from torch.nn.parallel import DistributedDataParallel

from stereo4d.network.completion import Completion
from stereo4d.network.completion_loss import CompletionLoss
from stereo4d.network.layers import CrossAttention, Rotary2D
from stereo4d.network.objective import WeightedSum
from stereo4d.training.invariances import ScaleShiftInvariant
from stereo4d.training.losses import ConfidenceWeighted, PointmapRegression, WithSky
from stereo4d.training.matching import AttentionInput, attention_loss
from stereo4d.types import PairPrediction

PAIRS, HEIGHT, WIDTH, TOKENS = 4, 6, 8, 6
SIZE = (PAIRS, HEIGHT, WIDTH)


@dataclass(frozen=True)
class Batch:
    """Pairs of which the first half has truth at nearly every pixel, the second at few."""

    pointmap0: Tensor
    pointmap1: Tensor
    valid0: Tensor
    valid1: Tensor
    metric: Tensor
    sky0: Tensor
    sky1: Tensor
    match0: Tensor
    match1: Tensor
    motion0: Tensor
    motion1: Tensor
    motion_valid0: Tensor
    motion_valid1: Tensor
    moving0: Tensor
    moving1: Tensor
    features: Tensor
    """(B, H, W, 4): what the module predicts from."""
    tokens: Tensor
    """(B, T, 16)."""
    hidden: Tensor
    """(B, T) bool, different counts."""
    targets: Tensor
    """(B, T, T)."""

    def part(self, rank: int, world: int) -> Batch:
        """The pairs of one process."""
        share = PAIRS // world
        return Batch(**{f.name: getattr(self, f.name)[rank * share : (rank + 1) * share] for f in fields(self)})


def drawn_batch() -> Batch:
    """Always the same one."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def often(*shares: float, size: tuple[int, ...] = SIZE) -> Tensor:
        share = torch.tensor(shares, dtype=torch.float64).view(-1, *[1] * (len(size) - 1))
        return torch.rand(size, generator=generator, dtype=torch.float64) < share

    v, u = torch.meshgrid(torch.arange(HEIGHT).double(), torch.arange(WIDTH).double(), indexing="ij")
    match = torch.stack([u, v], -1).repeat(PAIRS, 1, 1, 1)
    match = torch.where(often(0.9, 0.7, 0.1, 0.0)[..., None], match, torch.nan)
    weights = often(0.9, 0.8, 0.2, 0.1, size=(PAIRS, TOKENS, TOKENS)).double()
    return Batch(
        pointmap0=normal(*SIZE, 3) + 2,
        pointmap1=normal(*SIZE, 3) + 2,
        valid0=often(0.9, 0.8, 0.1, 0.2),
        valid1=often(0.9, 0.7, 0.2, 0.0),
        metric=torch.tensor([True, False, True, False]),
        sky0=often(0.5, 0.1, 0.5, 0.5),
        sky1=often(0.5, 0.1, 0.5, 0.5),
        match0=match,
        match1=match.clone(),
        motion0=normal(PAIRS, 2, HEIGHT, WIDTH, 3),
        motion1=normal(PAIRS, 2, HEIGHT, WIDTH, 3),
        motion_valid0=often(0.9, 0.8, 0.1, 0.2, size=(PAIRS, 2, HEIGHT, WIDTH)),
        motion_valid1=often(0.9, 0.8, 0.1, 0.2, size=(PAIRS, 2, HEIGHT, WIDTH)),
        moving0=often(0.3, 0.1, 0.9, 0.2),
        moving1=often(0.3, 0.1, 0.9, 0.2),
        features=normal(*SIZE, 4),
        tokens=normal(PAIRS, TOKENS, 16),
        hidden=often(0.9, 0.8, 0.1, 0.2, size=(PAIRS, TOKENS)),
        targets=weights / 6,
    )


class Small(nn.Module):
    """Predicts everything that objectives ask for from few weights."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(0.3 * torch.randn(18, 4, generator=generator, dtype=torch.float64))
        torch.manual_seed(0)
        self.attention = CrossAttention(16, 2, Rotary2D(8, 100.0)).double()

    def forward(self, batch: Batch, loss: Callable[[Small, Batch, PairPrediction], Tensor]) -> Tensor:
        """The loss of a batch, inside: what a process shares is decided by what its forward pass used."""
        maps = (batch.features @ self.weight.T).split([3, 3, 1, 1, 3, 3, 4], dim=-1)
        points0, points1 = maps[0] + 2, maps[1] + 2
        sure0, sure1 = 1 + maps[2][..., 0].exp(), 1 + maps[3][..., 0].exp()
        descriptors = maps[6] / maps[6].norm(dim=-1, keepdim=True)
        extras = {
            "motion": {
                "displacement0": maps[4][:, None].expand_as(batch.motion0),
                "displacement1": maps[5][:, None].expand_as(batch.motion1),
                "confidence0": sure0[:, None].expand_as(batch.motion_valid0),
                "confidence1": sure1[:, None].expand_as(batch.motion_valid1),
            },
            "descriptors": {
                "descriptors0": descriptors,
                "descriptors1": descriptors.roll(1, -1),
                "descriptor_confidence0": sure0,
                "descriptor_confidence1": sure1,
            },
        }
        return loss(self, batch, PairPrediction(points0, sure0, points1, sure1, extras))


def attention(module: Small, batch: Batch, prediction: PairPrediction) -> Tensor:
    """The term that teaches cross-attention where to look."""
    v, u = torch.meshgrid(torch.arange(2), torch.arange(3), indexing="ij")
    positions = torch.stack([v, u], -1).flatten(0, 1).expand(len(batch.tokens), -1, -1)
    record = AttentionInput(module.attention, batch.tokens, batch.tokens.roll(1, 1))
    return attention_loss([record], positions, batch.targets)[0]


def completion(module: Small, batch: Batch, prediction: PairPrediction) -> Tensor:
    """Cross-view completion."""
    patches = prediction.pointmap0.flatten(1, 2).unflatten(1, (TOKENS, -1)).flatten(2)
    truth = batch.pointmap0.flatten(1, 2).unflatten(1, (TOKENS, -1)).flatten(2)
    return CompletionLoss()(Completion(patches, batch.hidden, truth, (HEIGHT, WIDTH)))


OBJECTIVES = {
    "regression": PointmapRegression(),
    "confidence": ConfidenceWeighted(),
    "sky": ConfidenceWeighted(WithSky()),
    "invariant": ScaleShiftInvariant(),
    "motion": MotionRegression(),
    "moving_counts": DisplacementRegression(weighting=MovingCounts()),
    "moving_apart": DisplacementRegression(weighting=MovingApart()),
    "descriptors": DescriptorMatching(draw=PixelDraw(24)),
    "sum": WeightedSum(((1.0, ConfidenceWeighted()), (0.075, DescriptorMatching(draw=PixelDraw(24))))),
}
LOSSES: dict[str, Callable[[Small, Batch, PairPrediction], Tensor]] = {
    **{
        name: lambda module, batch, prediction, term=term: term(prediction, batch).total
        for name, term in OBJECTIVES.items()
    },
    "attention": attention,
    "completion": completion,
}


def main(rank: int, world: int, folder: Path) -> None:
    """Compute and write ``gradients-WORLD-RANK.pt``."""
    torch.set_num_threads(1)
    if world > 1:
        meeting = f"file://{folder / 'meeting'}"
        processes.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    batch, gradients = drawn_batch().part(rank, world), {}
    for name, loss in LOSSES.items():
        module = Small()
        model = DistributedDataParallel(module, find_unused_parameters=True) if world > 1 else module
        value = model(batch, loss)
        value.backward()
        found = {key: parameter.grad for key, parameter in module.named_parameters() if parameter.grad is not None}
        gradients[name] = {"loss": value.detach()} | found
        with torch.no_grad():  # figures wait for nobody: one process may be alone with them
            if rank == 0:
                loss(module, batch, module(batch, lambda module, batch, prediction: prediction))
    torch.save(gradients, folder / f"gradients-{world}-{rank}.pt")
    if world > 1:
        processes.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
