"""What benchmarks of networks measure with: ViT-L's widths, the baseline written out, clocks, deviations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from stereo4d.network import layers
from stereo4d.network.config import StereoConfig
from stereo4d.network.precision import Precision
from stereo4d.network.stereo import StereoNetwork
from stereo4d.types import PairPrediction
from stereo4d.video.clip import Clip

Rows = dict[str, float]
SIZE = (288, 512)
"""(height, width) of what published figures are about."""
FRAMES, WINDOW = 16, 3


def vit_large(enc_depth: int = 24, dec_depth: int = 12, **options: Any) -> StereoNetwork:
    """Widths and heads of the published ViT-L-512-DPT, and its depths unless told otherwise; weights are drawn.

    Args:
        enc_depth: blocks of the encoder.
        dec_depth: blocks of each decoder.
        options: further ones of ``StereoConfig``.
    """
    torch.manual_seed(0)
    config = StereoConfig(
        enc_embed_dim=1024,
        enc_depth=enc_depth,
        enc_num_heads=16,
        dec_embed_dim=768,
        dec_depth=dec_depth,
        dec_num_heads=12,
        **{"head_type": "dpt", "landscape_only": False, **options},
    )
    network = StereoNetwork(config).eval()
    network.precision = Precision(full=True)
    return network


def make_realistic(network: StereoNetwork, images: Tensor) -> None:
    """Scale the last layers so that depths are as a real scene's: positive, median 3.5, most within a factor of four.

    Drawn weights alone put every point at the camera, where a share of the depth means nothing.
    """
    wanted_mean, wanted_spread = torch.tensor([0.0, 0.0, 1.5, 1.0]), torch.tensor([0.5, 0.3, 0.35, 0.5])
    seen: dict[nn.Module, Tensor] = {}
    lasts = [head.dpt.head[-1] for head in (network.downstream_head1, network.downstream_head2)]
    hooks = [last.register_forward_hook(lambda module, _, raw: seen.update({module: raw})) for last in lasts]
    with torch.no_grad():
        network(images, images.flip(-1))
        for last, hook in zip(lasts, hooks, strict=True):
            hook.remove()
            mean, spread = seen[last].mean((0, 2, 3)).cpu(), seen[last].std((0, 2, 3)).cpu()
            scale = wanted_spread / spread
            last.weight.mul_(scale.view(-1, 1, 1, 1).to(last.weight.device))
            last.bias.copy_(((last.bias.cpu() - mean) * scale + wanted_mean).to(last.bias.device))


def explicit_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What ``layers.attend`` computes, by the formula: every weight is written to memory."""
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
    return rearrange(torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value), "b t h d -> b t (h d)")


@contextmanager
def explicitly() -> Iterator[None]:
    """All attention within by the formula."""
    fused, layers.attend = layers.attend, explicit_attention
    try:
        yield
    finally:
        layers.attend = fused


@contextmanager
def channels_first(network: StereoNetwork) -> Iterator[None]:
    """DPT maps within as (B, C, H, W) lies in memory by default; tokens give them channels last."""
    hooks = [
        resample.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
        for head in (network.downstream_head1, network.downstream_head2)
        for resample in head.dpt.act_postprocess
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def as_baseline(network: StereoNetwork) -> Iterator[None]:
    """Explicit attention, float32, maps with channels first."""
    with explicitly(), channels_first(network):
        yield


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Processor seconds of a CPU, which other work on the machine does not lengthen; seconds on the clock of a GPU."""
    if device.type == "cpu":
        begin = time.process_time()
        work()
        return time.process_time() - begin
    torch.cuda.synchronize(device)
    begin = time.perf_counter()
    work()
    torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def in_turn(works: Mapping[str, Callable[[], object]], repeats: int, device: torch.device) -> Rows:
    """The best time of each, all taken in turn, so that whatever else the machine does meets all alike."""
    best = dict.fromkeys(works, float("inf"))
    with torch.inference_mode():
        for _ in range(repeats):
            for name, work in works.items():
                best[name] = min(best[name], seconds(work, device))
    return best


def deviation(found: PairPrediction, exact: PairPrediction) -> float:
    """Median over pixels of both views: distance of two predicted points, as a share of the exact one's depth."""
    shares = [
        (one - other).norm(dim=-1) / other[..., 2].abs()
        for one, other in ((found.pointmap0, exact.pointmap0), (found.pointmap1, exact.pointmap1))
    ]
    return torch.cat([share.flatten() for share in shares]).median().item()


def pictures(count: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """(count, 3, H, W) random images in [-1, 1], (H, W) = size, with texture of every scale, finer ones fainter."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    images = torch.zeros(count, 3, height, width)
    for cells in (1, 2, 4, 8, 16):  # per 16 pixels
        grid = (max(2, height * cells // 16), max(2, width * cells // 16))
        noise = torch.rand(count, 3, *grid, generator=generator) * 2 - 1
        images += nn.functional.interpolate(noise, size=size, mode="bilinear", align_corners=False) / cells**0.5
    return (images / images.abs().max()).to(device)


def clip_of(frames: int, size: tuple[int, int]) -> Clip:
    """``pictures`` as a clip."""
    images = pictures(frames, size, torch.device("cpu"))
    rgb = ((images.permute(0, 2, 3, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    maps = np.tile([1.0, 1, 0, 0], (frames, 1))
    return Clip(rgb, np.arange(frames) / 10, np.arange(frames), np.tile(size, (frames, 1)), maps)
