"""The linear flow head: where every pixel's surface is seen in the other view.

Besides being of use by itself, it teaches a young decoder to hand on *where* it attends to, which pointmaps hardly ask
for and 3D motion cannot do without: rotary attention compares places, but what it fetches carries none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from stereo4d.errors import UsageError
from stereo4d.geometry.camera import pixel_grid
from stereo4d.network.head import BackboneDims, Head, Output
from stereo4d.network.objective import LossValue, MatchTruth, MotionTruth, Objective
from stereo4d.network.pooling import masked_mean, own_mean
from stereo4d.types import PairPrediction


class LinearFlowHead(Head):
    """One linear layer to 2 numbers per pixel of the patch; moving surfaces are followed."""

    outputs = (Output("flow", (2,), activation="pixels (u, v) to the place in the other view"),)

    def __init__(self, dims: BackboneDims) -> None:
        super().__init__()
        self.patch_size = dims.patch_size
        self.proj = nn.Linear(dims.decoder_dim, 2 * dims.patch_size**2)
        for values in (self.proj.weight, cast(Tensor, self.proj.bias)):
            nn.init.zeros_(values)

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        """Predict ``flow`` (B, H, W, 2); see the contract."""
        rows, columns = image_size[0] // self.patch_size, image_size[1] // self.patch_size
        raw = self.proj(tokens[-1]).transpose(1, 2).unflatten(2, (rows, columns))
        return {"flow": self.patch_size * functional.pixel_shuffle(raw, self.patch_size).movedim(1, -1)}

    def objective(self, name: str) -> FlowRegression:
        """Distances in patches; moving pixels count as much as all others."""
        return FlowRegression(name, self.patch_size)

    def measure(self, name: str, prediction: PairPrediction, truth: FlowTruth) -> dict[str, Tensor]:  # type: ignore[override]
        """Mean distance of view 0's flow from the truth in pixels, of moving and of still surfaces that are seen."""
        seen = ~truth.match0[..., 0].isnan()
        distance = _off(prediction.extras[name]["flow0"], truth.match0, seen).norm(dim=-1)
        return {
            f"pixels_{kind}": torch.where(mask, distance, torch.nan).flatten(1).nanmean(1)
            for kind, mask in (("moving", seen & truth.moving0), ("static", seen & ~truth.moving0))
        }


class FlowTruth(MotionTruth, MatchTruth, Protocol):
    """Truth that knows where surfaces are seen, and which ones move."""


@dataclass(frozen=True)
class FlowRegression(Objective):
    """Distance of predicted to true places, of pixels that the other view sees; moving ones and still ones apart.

    Distances below about ``softness`` units count by their square, those above by themselves (Charbonnier).
    """

    name: str = "flow"
    """Of the head, in ``PairPrediction.extras``."""
    unit: float = 16.0
    """Pixels."""
    softness: float = 0.25

    def __post_init__(self) -> None:
        if not (self.unit > 0 and self.softness > 0):
            raise UsageError(f"unit {self.unit} and softness {self.softness} of a flow objective must be above 0")

    def __call__(self, prediction: PairPrediction, truth: FlowTruth) -> LossValue:  # type: ignore[override]
        """The loss of a batch, and the mean distance in pixels of moving and of still surfaces."""
        maps = prediction.extras[self.name]
        total = torch.zeros((), device=truth.valid0.device)
        parts: dict[str, Tensor] = {}
        for view, (match, moving) in enumerate(((truth.match0, truth.moving0), (truth.match1, truth.moving1))):
            seen = ~match[..., 0].isnan()
            difference = _off(maps[f"flow{view}"], match, seen)
            error = ((difference / self.unit).square().sum(-1) + self.softness**2).sqrt() - self.softness
            for kind, mask in (("moving", seen & moving), ("static", seen & ~moving)):
                total = total + masked_mean(error, mask)
                parts[f"{self.name}{view}_{kind}_pixels"] = own_mean(difference.norm(dim=-1), mask)
        return LossValue(total, parts)


def _off(flow: Tensor, match: Tensor, seen: Tensor) -> Tensor:
    """(B, H, W, 2) pixels from where flow leads to the true place; meaningless where not seen, but finite."""
    grid = pixel_grid(*match.shape[1:3], device=match.device).to(match.dtype)
    return torch.where(seen[..., None], match - grid, 0) - flow
