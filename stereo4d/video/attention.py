"""What the decoders of a network attend to over a clip: scores of every token, as second view and as first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.network.decoder import DecoderBlock
from stereo4d.network.encoder import Encoded
from stereo4d.network.stereo import StereoNetwork
from stereo4d.video.clip import Clip
from stereo4d.video.pair_graph import Edge


@dataclass(frozen=True)
class AttentionScores:
    """N frames of T tokens, C channels (layers times heads): how strongly the other view's tokens look at each."""

    source_mean: Tensor
    """(N, C, T) over the pairs in which the frame is view 1."""
    source_spread: Tensor
    """(N, C, T) standard deviation over the same."""
    reference_mean: Tensor
    """(N, C, T) over the pairs in which the frame is view 0."""
    reference_spread: Tensor
    """(N, C, T) standard deviation over the same."""
    tokens: Tensor
    """(N, T, D) of the encoder."""
    grid: tuple[int, int]
    """Rows and columns of tokens."""


@torch.inference_mode()
def attention_scores(network: StereoNetwork, clip: Clip, edges: Sequence[Edge]) -> AttentionScores:
    """Watch a network look at all pairs, one at a time (Easi3R, Chen et al. 2025, section 3).

    Args:
        network: with cross-attention.
        clip: N frames.
        edges: directed pairs of frames.
    """
    device = next(network.parameters()).device
    encoded = [network.encode(clip.images([frame]).to(device)) for frame in range(len(clip))]
    patch = network.config.patch_size
    grid = (clip.rgb.shape[1] // patch, clip.rgb.shape[2] // patch)
    sums = [_Moments(), _Moments()]
    for first, second in edges:
        for side, (frame, scores) in enumerate(
            zip((second, first), pair_scores(network, encoded[first], encoded[second]), strict=True)
        ):
            sums[side].add(frame, _mended(scores, grid))
    source, reference = (moments.of_frames(len(clip)) for moments in sums)
    tokens = torch.cat([view.tokens for view in encoded]).float().cpu()
    return AttentionScores(*source, *reference, tokens, grid)


def pair_scores(network: StereoNetwork, view0: Encoded, view1: Encoded) -> tuple[Tensor, Tensor]:
    """(C, T) scores of view 1's tokens by view 0's decoder, and of view 0's by view 1's: means over the queries."""
    tokens0, tokens1 = network.decode(view0, view1)
    scores: tuple[list[Tensor], list[Tensor]] = ([], [])
    for layer, (block0, block1) in enumerate(zip(network.dec_blocks, network.dec_blocks2, strict=True)):
        here = [network.decoder_embed(side[0]) if layer == 0 else side[layer] for side in (tokens0, tokens1)]
        for side, block in enumerate((block0, block1)):
            views = (view0, view1) if side == 0 else (view1, view0)
            assert isinstance(block, DecoderBlock)
            logits = block.cross_logits(here[side], here[1 - side], views[0].positions, views[1].positions)
            scores[side].append(logits[0].float().mean(1).cpu())
    return torch.cat(scores[0]), torch.cat(scores[1])


def _mended(scores: Tensor, grid: tuple[int, int]) -> Tensor:
    """The first token, at which everybody looks whatever is there, takes the mean of its neighbours."""
    if min(grid) > 1:
        scores[:, 0] = (scores[:, 1] + scores[:, grid[1]]) / 2
    return scores


class _Moments:
    """Means and standard deviations of what comes one after the other, frame by frame."""

    def __init__(self) -> None:
        self._sums: dict[int, tuple[int, Tensor, Tensor]] = {}

    def add(self, frame: int, values: Tensor) -> None:
        """Take in one more set of values of a frame, always of the same shape."""
        values = values.double()
        count, total, square = self._sums.get(frame, (0, torch.zeros_like(values), torch.zeros_like(values)))
        self._sums[frame] = (count + 1, total + values, square + values.square())

    def of_frames(self, frames: int) -> tuple[Tensor, Tensor]:
        """(N, ...) means and (N, ...) standard deviations; zero for frames that nothing was said of."""
        like = next(iter(self._sums.values()))[1]
        means, spreads = torch.zeros(2, frames, *like.shape)
        for frame, (count, total, square) in self._sums.items():
            means[frame] = total / count
            variance = (square - total.square() / count).clamp(min=0) / max(count - 1, 1)
            spreads[frame] = variance.sqrt()
        return means, spreads
