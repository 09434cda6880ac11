"""The head that also describes every pixel, so that two views can be matched (MASt3R, Leroy et al. 2024)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stereo4d.errors import UsageError
from stereo4d.network.head import BackboneDims, Head, Output
from stereo4d.network.layers import Mlp
from stereo4d.network.objective import Objective, PairTruth
from stereo4d.types import PairPrediction
from stereo4d_heads.activation import (
    ABOVE_ONE,
    NO_BOUNDS,
    POINTMAP_OUTPUTS,
    Mode,
    as_mode,
    check_conf_mode,
    check_depth_mode,
    confidence_from_raw,
    pointmap_from_raw,
)
from stereo4d_heads.descriptor_objective import DescriptorMatching, match_figures
from stereo4d_heads.dpt import LAYER_DIMS, Dpt


class DescriptorHead(Head):
    """A DPT for 3 coordinates and 1 confidence per pixel; beside it an MLP for a descriptor and its confidence.

    The MLP reads the encoder's tokens and the last decoder block's; every token writes the descriptors of its patch.
    Options are named as the published configs name them, and the default widths are the published ones.
    """

    extras_name = "descriptors"

    def __init__(
        self,
        dims: BackboneDims,
        *,
        output_mode: str = "pts3d+desc24",
        depth_mode: Mode = NO_BOUNDS,
        conf_mode: Mode = ABOVE_ONE,
        two_confs: bool = False,
        desc_mode: str = "norm",
        desc_conf_mode: Sequence[Any] | None = None,
        feature_dim: int = 256,
        last_dim: int = 128,
        layer_dims: Sequence[int] = LAYER_DIMS,
    ) -> None:
        """Build the head.

        Args:
            dims: of the backbone.
            output_mode: ``pts3d+descK``, with descriptors of K channels.
            depth_mode: how raw vectors become points.
            conf_mode: how logits become the points' confidence.
            two_confs: predict the descriptors' confidence; otherwise it is the points'.
            desc_mode: ``norm``: descriptors have unit length.
            desc_conf_mode: how logits become the descriptors' confidence; None: as ``conf_mode``.
            feature_dim: width of the DPT's fusion.
            last_dim: width of its last layers.
            layer_dims: widths of its four depths.

        Raises:
            UsageError: a mode is none of those that are defined.
        """
        super().__init__()
        self.channels = descriptor_channels(output_mode)
        if "norm" not in desc_mode:
            raise UsageError(f"desc_mode {desc_mode!r}: descriptors can only be brought to unit length, 'norm'")
        self.patch_size = dims.patch_size
        self.depth_mode = depth_mode
        self.conf_mode = conf_mode
        self.desc_conf_mode = conf_mode if desc_conf_mode is None else as_mode(desc_conf_mode, (0.0, math.inf))
        self.two_confs = two_confs
        check_depth_mode(depth_mode)
        check_conf_mode("conf_mode", conf_mode)
        check_conf_mode("desc_conf_mode", self.desc_conf_mode)
        self.dpt = Dpt(dims, channels=4, feature_dim=feature_dim, last_dim=last_dim, layer_dims=layer_dims)
        width = dims.encoder_dim + dims.decoder_dim
        self.head_local_features = Mlp(width, 4 * width, (self.channels + two_confs) * dims.patch_size**2)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """See ``AnyHead.outputs``."""
        descriptors = Output("descriptors", (self.channels,), activation="unit length")
        return (*POINTMAP_OUTPUTS, descriptors, Output("descriptor_confidence", activation="by desc_conf_mode"))

    def objective(self, name: str) -> Objective:
        """See ``AnyHead.objective``: matching alone; beside a main head its own pointmap is not trained by itself."""
        return DescriptorMatching(name)

    def measure(self, name: str, prediction: PairPrediction, truth: PairTruth) -> dict[str, Tensor]:
        """See ``AnyHead.measure``: how well descriptors find true matches; data without matches have no figures."""
        if not hasattr(truth, "match0"):
            return {}
        return match_figures(prediction, truth, name)  # type: ignore[arg-type]  # it has matches, see above

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        """Predict ``pointmap`` and ``confidence``, see the contract, and two maps more.

        Returns:
            Also ``descriptors`` (B, H, W, K), of unit length, zero where the raw one vanishes, and
            ``descriptor_confidence`` (B, H, W).
        """
        maps = pointmap_from_raw(self.dpt(tokens, image_size), self.depth_mode, self.conf_mode)
        raw = self._local_features(tokens, image_size)
        maps["descriptors"] = unit_length(raw[..., : self.channels])
        maps["descriptor_confidence"] = (
            confidence_from_raw(raw[..., self.channels], self.desc_conf_mode) if self.two_confs else maps["confidence"]
        )
        return maps

    def _local_features(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        rows, columns = image_size[0] // self.patch_size, image_size[1] // self.patch_size
        raw = self.head_local_features(torch.cat([tokens[0], tokens[-1]], dim=-1))
        raw = raw.transpose(1, 2).unflatten(2, (rows, columns))  # (B, (K + two_confs) p^2, rows, columns)
        return functional.pixel_shuffle(raw, self.patch_size).movedim(1, -1)


def descriptor_channels(output_mode: str) -> int:
    """K of ``pts3d+descK``.

    Raises:
        UsageError: it is not of that form.
    """
    found = re.fullmatch(r"pts3d\+desc([1-9]\d*)", output_mode)
    if found is None:
        raise UsageError(
            f"output_mode {output_mode!r}: a head with descriptors needs 'pts3d+desc' and their number of channels, "
            "such as 'pts3d+desc24'"
        )
    return int(found[1])


def unit_length(vectors: Tensor) -> Tensor:
    """(..., K) vectors divided by their length; there is no epsilon, as published, and zero vectors stay zero."""
    length = vectors.float().norm(dim=-1, keepdim=True)  # squares of half precision numbers overflow early
    # dividing by one where there is no length keeps NaN out of the gradients, and changes nothing elsewhere
    return (vectors / torch.where(length > 0, length, 1.0)).to(vectors.dtype)
