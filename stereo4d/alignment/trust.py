"""Which pairs to align with: those that agree with the others."""

from __future__ import annotations

import torch
from torch import Tensor

from stereo4d.alignment.agreement import contradicting, stands_out, without_extent
from stereo4d.alignment.survey import Survey, spanning_tree
from stereo4d.errors import AlignmentError

_EVERY = 8
_TOLERATED_FOCAL = 0.05


def trusted_pairs(seen: Survey, *, seed: int = 0) -> Tensor:
    """Pairs to align with: those that agree with the others, and those without which a frame would be alone.

    Args:
        seen: E pairs of N frames, connected.
        seed: see ``contradicting``.

    Returns:
        (E',) indices in ascending order.

    Raises:
        AlignmentError: a frame hangs on pairs whose points all lie in one place.
    """
    problem = seen.problem
    points = (seen.points[0][:, ::_EVERY], seen.points[1][:, ::_EVERY])
    confidence = (seen.confidence[0][:, ::_EVERY], seen.confidence[1][:, ::_EVERY])
    empty = without_extent(points)
    doubted = contradicting(problem.edges, points, confidence, problem.num_frames, seed=seed)
    deviation = (seen.votes / seen.focals()[problem.edges[:, 0]]).log().abs()
    doubted |= stands_out(deviation, tolerated=_TOLERATED_FOCAL)
    # Confidences of doubted pairs still rank them among themselves.
    scores = seen.scores * torch.where(doubted, 1e-6, 1.0) * torch.where(empty, 1e-12, 1.0)
    tree = torch.tensor(spanning_tree(problem.edges, scores, problem.num_frames), device=problem.edges.device)
    if bool(empty[tree].any()):
        frames = ", ".join(map(str, sorted(set(problem.edges[tree[empty[tree]]].flatten().tolist()))[:12]))
        raise AlignmentError(
            f"the predictions that tie frames {frames} to the others put all points in one place: "
            "leave these frames out, or check the weights"
        )
    kept = ~(doubted | empty)
    kept[tree] = True
    return kept.nonzero()[:, 0]
