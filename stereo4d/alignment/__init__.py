"""Global alignment: from what a network says about pairs of frames to one world."""

from stereo4d.alignment.problem import AlignmentProblem, AlignmentState, alignment_loss
from stereo4d.alignment.recipe import AlignmentResult, align

__all__ = ["AlignmentProblem", "AlignmentResult", "AlignmentState", "align", "alignment_loss"]
