"""Where the unknowns of an alignment stand in its linear system, and which dense pieces the system is made of."""

from __future__ import annotations

import torch
from torch import Tensor

from stereo4d.alignment.anchors import Anchors
from stereo4d.alignment.block_system import BlockPattern, make_layout
from stereo4d.alignment.cells import Cells
from stereo4d.alignment.problem import AlignmentProblem
from stereo4d.alignment.term_system import camera_groups, others_of


class Structure:
    """Where the unknowns of a problem stand; the same for cells of every size."""

    def __init__(self, problem: AlignmentProblem, anchors: Anchors, cells: Cells) -> None:
        """Lay out the unknowns, in the order of the cells' observations."""
        self._others = [frames.to(problem.edges.device) for frames in others_of(problem.terms, problem.num_frames)]
        groups = camera_groups(problem.terms)
        together = [*self._meeting(problem), *groups]
        self.layout = make_layout(
            problem.edges, problem.num_frames, shared_lens=problem.shared_focal, together=together
        )
        pieces = [self._unknowns_of(frame, cells) for frame in range(problem.num_frames)]
        pieces += [self._unknowns_of_frames(group.to(problem.edges.device)) for group in groups]
        self.unknowns = torch.cat(pieces)
        self.pattern = BlockPattern(self.layout, pieces, anchors.held(self.layout))

    def _unknowns_of(self, frame: int, cells: Cells) -> Tensor:
        """(9 + 7K + M,) unknowns of a frame, of the pairs that see it, and of frames that terms tie it to."""
        pairs, own = cells.pair[cells.observations_of(frame)], torch.tensor([frame], device=cells.pair.device)
        others = self._unknowns_of_frames(self._others[frame])
        return torch.cat([self._unknowns_of_frames(own), self.layout.pair[pairs].flatten(), others])

    def _unknowns_of_frames(self, frames: Tensor) -> Tensor:
        """(9 m,) unknowns of m frames, one after the other."""
        return torch.cat([self.layout.pose[frames], self.layout.lens[frames]], dim=1).flatten()

    def _meeting(self, problem: AlignmentProblem) -> list[Tensor]:
        """Frames whose unknowns, or those of whose pairs, meet in the cells of one frame; where terms tie any to it."""
        edges = problem.edges
        return [
            torch.cat([others, edges[(edges == frame).any(1)].flatten()])
            for frame, others in enumerate(self._others)
            if len(others)
        ]

    def scatter(self, values: Tensor) -> Tensor:
        """(M,) sums over all frames of what each contributes to its unknowns, one after the other."""
        return sum_into(self.layout.size, self.unknowns, values)


def sum_into(rows: int, index: Tensor, values: Tensor) -> Tensor:
    """(rows, ...) sums of (K, ...) values over those with the same (K,) index, in the same order on every run."""
    return values.new_zeros(rows, *values.shape[1:]).index_put_((index,), values, accumulate=True)
