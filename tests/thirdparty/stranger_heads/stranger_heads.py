"""A head by somebody whom stereo4d has never heard of: which pixels move on their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stereo4d.network.head import BackboneDims, Head, Output
from stereo4d.network.objective import LossValue, MotionTruth, Objective
from stereo4d.types import PairPrediction


@dataclass(frozen=True)
class MovingEntropy(Objective):
    """Binary cross-entropy; what moves is rare, so it counts more."""

    name: str
    weight: float = 3.0

    def __call__(self, prediction: PairPrediction, truth: MotionTruth) -> LossValue:
        maps = prediction.extras[self.name]
        losses = []
        for view, moving in (("0", truth.moving0), ("1", truth.moving1)):
            weights = torch.where(moving, self.weight, 1.0)
            losses.append(functional.binary_cross_entropy(maps[f"moving{view}"], moving.float(), weights))
        total = torch.stack(losses).sum()
        return LossValue(total, {f"{self.name}_entropy": total.detach()})


class MovingHead(Head):
    """Every token says of its own patch what moves. Named ``dynamics`` in a config, it fills ``Scene.dynamic``."""

    outputs = (Output("moving", activation="0 ... 1", shown_as="mask"),)

    def __init__(self, dims: BackboneDims, *, hidden: int = 128) -> None:
        super().__init__()
        self.patch_size = dims.patch_size
        width = dims.encoder_dim + dims.decoder_dim
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, dims.patch_size**2)
        )

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        raw = self.layers(torch.cat([tokens[0], tokens[-1]], -1)).transpose(1, 2)
        grid = (image_size[0] // self.patch_size, image_size[1] // self.patch_size)
        return {"moving": functional.pixel_shuffle(raw.unflatten(2, grid), self.patch_size)[:, 0].sigmoid()}

    def objective(self, name: str) -> MovingEntropy:
        return MovingEntropy(name)

    def measure(self, name: str, prediction: PairPrediction, truth: MotionTruth) -> dict[str, Tensor]:
        said = torch.cat([prediction.extras[name]["moving0"], prediction.extras[name]["moving1"]]) > 0.5
        true = torch.cat([truth.moving0, truth.moving1])
        return {"iou": (said & true).sum() / (said | true).sum()}
