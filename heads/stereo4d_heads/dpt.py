"""Dense prediction from tokens of four depths (DPT, Ranftl et al. 2021), as the DUSt3R family shapes it.

Parameter names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from stereo4d.errors import UsageError
from stereo4d.network.convolution import Conv3x3, image_by_image, reduced_convolutions
from stereo4d.network.head import BackboneDims

LAYER_DIMS = (96, 192, 384, 768)


class ResidualUnit(nn.Module):
    """Two activated 3x3 convolutions beside an unactivated skip."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = Conv3x3(dim, dim)
        self.conv2 = Conv3x3(dim, dim)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        # what a convolution has just made is changed in place: maps of full size are dear to allocate
        return self.conv2(functional.relu_(self.conv1(functional.relu(maps)))).add_(maps)


class FusionBlock(nn.Module):
    """Joins the coarse path with a finer skip, and doubles the resolution."""

    def __init__(self, dim: int, *, has_skip: bool) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(dim, dim, 1)
        self.resConfUnit1 = ResidualUnit(dim)
        self.resConfUnit2 = ResidualUnit(dim)
        if not has_skip:  # published files carry the unit all the same; without gradient it disturbs no distributed run
            self.resConfUnit1.requires_grad_(False)

    def forward(self, path: Tensor, skip: Tensor | None = None) -> Tensor:
        """(B, C, H, W) path and skip to (B, C, 2H, 2W)."""
        if skip is not None:
            path = self.resConfUnit1(skip).add_(path)
        # the 1x1 convolution commutes with bilinear upsampling (whose weights sum to one) and is 4x cheaper before it
        return double(self.out_conv(self.resConfUnit2(path)))


class Scratch(nn.Module):
    """The projections to one width and the four fusion blocks."""

    def __init__(self, layer_dims: Sequence[int], feature_dim: int) -> None:
        super().__init__()
        for level, dim in enumerate(layer_dims, start=1):
            setattr(self, f"layer{level}_rn", Conv3x3(dim, feature_dim, bias=False))
        for level in range(1, 5):
            setattr(self, f"refinenet{level}", FusionBlock(feature_dim, has_skip=level < 4))

    def project(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Bring four maps, finest first, of 4, 2, 1 and 1/2 cells per token, to one width."""
        return [cast(nn.Module, getattr(self, f"layer{i}_rn"))(maps) for i, maps in enumerate(levels, start=1)]

    def fuse(self, projected: Sequence[Tensor]) -> Tensor:
        """Fuse what ``project`` made into one map of 8 cells per token."""
        fuse = [cast(nn.Module, getattr(self, f"refinenet{i}")) for i in range(1, 5)]
        path = fuse[3](projected[3])
        # an odd token grid was rounded up on its way down
        path = path[:, :, : projected[2].shape[2], : projected[2].shape[3]]
        for level in (2, 1, 0):
            path = fuse[level](path, projected[level])
        return path


class Dpt(nn.Module):
    """Tokens of four depths to dense raw maps."""

    def __init__(
        self,
        dims: BackboneDims,
        *,
        channels: int,
        feature_dim: int = 256,
        last_dim: int = 128,
        layer_dims: Sequence[int] = LAYER_DIMS,
    ) -> None:
        super().__init__()
        if dims.decoder_depth < 4 or len(layer_dims) != 4:
            raise UsageError(
                f"a DPT head reads four depths: decoder depth {dims.decoder_depth} must be at least 4, and layer_dims "
                f"{list(layer_dims)} must be four widths"
            )
        if dims.patch_size != 16:
            raise UsageError(
                f"a DPT head needs patch size 16 (it makes 16 pixels of each token); got {dims.patch_size}"
            )
        self.patch_size = dims.patch_size
        self.hooks = (0, dims.decoder_depth * 2 // 4, dims.decoder_depth * 3 // 4, dims.decoder_depth)
        self.scratch = Scratch(layer_dims, feature_dim)
        self.head = nn.Sequential(
            Conv3x3(feature_dim, last_dim),
            nn.UpsamplingBilinear2d(scale_factor=2),  # corners aligned
            Conv3x3(last_dim, last_dim),
            nn.ReLU(inplace=True),
            nn.Conv2d(last_dim, channels, 1),
        )
        d0, d1, d2, d3 = layer_dims
        self.act_postprocess = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(dims.encoder_dim, d0, 1), nn.ConvTranspose2d(d0, d0, 4, stride=4)),
                nn.Sequential(nn.Conv2d(dims.decoder_dim, d1, 1), nn.ConvTranspose2d(d1, d1, 2, stride=2)),
                nn.Sequential(nn.Conv2d(dims.decoder_dim, d2, 1)),
                nn.Sequential(nn.Conv2d(dims.decoder_dim, d3, 1), nn.Conv2d(d3, d3, 3, stride=2, padding=1)),
            ]
        )

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        """Token list of one view (see the head contract) to (B, channels, H, W) raw maps."""
        return image_by_image(lambda *some: self.write(self.levels(some, image_size)), tokens)

    def write(self, levels: Sequence[Tensor]) -> Tensor:
        """What ``levels`` made, to (B, channels, H, W) raw maps."""
        last = self.head[-1]
        with reduced_convolutions(levels[0].device):
            maps = self.head[:-1](self.scratch.fuse(levels))
        # distances grow exponentially with what the last layer writes: it is never reduced
        return last(maps.to(last.weight.dtype))

    def levels(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> list[Tensor]:
        """The four maps of one width that are fused, finest first."""
        grid = (image_size[0] // self.patch_size, image_size[1] // self.patch_size)
        chosen = [tokens[hook].transpose(1, 2).unflatten(2, grid) for hook in self.hooks]  # (B, C, rows, columns)
        with reduced_convolutions(chosen[0].device):
            return self.scratch.project(
                [resample(maps) for resample, maps in zip(self.act_postprocess, chosen, strict=True)]
            )


def double(maps: Tensor) -> Tensor:
    """Twice the resolution, bilinear, corners aligned."""
    return functional.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)
