"""Alignments made by hand, for tests of what shows them."""

from __future__ import annotations

import torch

from stereo4d.alignment.watching import AlignmentStep


def settling(*, frames: int = 5, coarse: int = 4, fine: int = 3) -> list[AlignmentStep]:
    """Cameras on a line that slide into place: on a grid of 4 x 6 pixels, then, from where they are, on 8 x 12."""
    steps = []
    for i in range(coarse + fine):
        level, made = int(i >= coarse), i - int(i >= coarse)
        away = 0.5**made
        cam2world = torch.eye(4).repeat(frames, 1, 1)
        cam2world[:, 0, 3] = 0.3 * torch.arange(frames)
        cam2world[1:, 1, 3] = away
        intrinsics = torch.tensor([[40.0 + 10 * away, 0, 23.5], [0, 40 + 10 * away, 15.5], [0, 0, 1]])
        residual = torch.full((frames, 4 * (level + 1), 6 * (level + 1)), 0.01 + 0.03 * away)
        loss = 0.02 + 0.1 * away - 0.001 * level
        steps.append(AlignmentStep(level, loss, cam2world, intrinsics.repeat(frames, 1, 1), residual))
    return steps
