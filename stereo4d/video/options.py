"""What the user can choose. The fields are the options of the command line, and their docstrings its help."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from stereo4d.errors import UsageError
from stereo4d.video.flow import DEFAULT as DEFAULT_FLOW
from stereo4d.video.frames import Selection
from stereo4d.video.known_files import KnownFiles

DEFAULT_SOLVER = "reweighted"
DEFAULT_TERMS = ("flow", "acceleration")
MOTIONS = ("auto", "on", "off")
SHOTS = ("split", "one")


@dataclass(frozen=True)
class AlignmentOptions:
    """How pairs are brought into one world."""

    align: str = "joint"
    """joint: all pairs are heard and a solver finds the cameras. anchored: every frame is paired with one frame and
    nothing is solved, as in MonST3R's real-time mode; faster, and less exact. window-wise: as MonST3R does long clips,
    every window holds what the one before has found; for comparison."""
    shared_focal: bool = False
    """One focal for all frames; so by default where all of them are of one size."""
    per_frame_focal: bool = False
    """A focal for every frame; so by default where frames differ in size."""
    free_principal_point: bool = False
    """Look for the principal point too; by default it is the middle of the image."""
    solver: str = DEFAULT_SOLVER
    """What finds the cameras: reweighted, or an installed entry point of the group stereo4d.solvers."""
    window: int | None = None
    """Solve this many frames at a time, in windows that share frames; by default all at once where that fits."""
    overlap: int | None = None
    """How many frames a window shares with the next; by default a quarter of it."""

    motion: str = "auto"
    """Find what moves, leave it out of the cameras, and use optical flow: on, off, or auto (where frames follow one
    another as in a video)."""
    mask_by: str = "auto"
    """How to tell what moves: ego-flow, heads (as the predictor says), min-max, attention, or another installed entry
    point of the group stereo4d.masks; auto takes the predictor's word where it has one, else ego-flow."""
    flow: str = DEFAULT_FLOW
    """Optical flow: dis, or a file of RAFT weights (torchvision's), or an installed entry point of stereo4d.flow."""
    terms: list[str] | None = None
    """What cameras are judged by beside the pairs, each NAME or NAME=WEIGHT: flow, acceleration, still; by default flow
    and acceleration where motion is looked for and the pairs bring no masks of their own; the option without a name
    leaves all out."""

    def __post_init__(self) -> None:
        if self.motion not in MOTIONS:
            raise UsageError(f"--motion {self.motion!r}: must be {', '.join(MOTIONS)}")
        if self.shared_focal and self.per_frame_focal:
            raise UsageError("--shared-focal and --per-frame-focal exclude each other; give one")

    def term_names(self, mask_by: str) -> list[str]:
        """The terms that are asked for, or those that help where masks were made this way."""
        if self.terms is not None:
            return self.terms
        # Pairs that bring masks of their own were made from optical flow: it has nothing to add to them.
        return [] if (self.mask_by, mask_by) == ("auto", "heads") else list(DEFAULT_TERMS)

    def shares_focal(self, original_sizes: np.ndarray) -> bool:
        """Whether frames of these sizes, (N, 2), get one focal."""
        return self.shared_focal or (not self.per_frame_focal and len(np.unique(original_sizes, axis=0)) == 1)


@dataclass(frozen=True)
class Options:
    """What the user of a reconstruction can choose."""

    weights: str | None = None
    """'classical' (no weights: optical flow and two-view geometry) or another installed predictor, 'embedded', a .pth
    or .safetensors file, a folder with model.safetensors and config.json, or published weights by their name once they
    are here (see: stereo4d weights list); by default what suits the clip best."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ..., or auto."""
    precision: str = "auto"
    """exact (float32 all through, and stored so), bf16, or auto (bf16 where the processor has it)."""
    graph: str | None = None
    """Which frames are paired: swin-W-noncyclic, complete, oneref-R, logwin-W, retrieval-A-K, complete,seqD ...; by
    default what the predictor does best with."""
    size: int | None = None
    """Long side of the predictor's images in pixels; by default the size the network was trained at."""
    selection: Selection = field(default_factory=Selection)
    """Which frames are taken."""
    seed: int = 0
    """Same seed, same scene."""
    query_times: list[float] | None = None
    """Where on the way from a frame (0) to the next (1) to ask weights with a motion head where points are; 1 is always
    asked for. By default 0.5 and 1; the option without a number leaves motion out."""
    alignment: AlignmentOptions = field(default_factory=AlignmentOptions)
    """How the pairs are brought into one world."""
    known: KnownFiles = field(default_factory=KnownFiles)
    """What is known of the clip beforehand."""
    shots: str = "split"
    """What becomes of a video that looks cut: split (one scene for each shot, in folders shot-000, shot-001 ...) or one
    (a single scene)."""

    def __post_init__(self) -> None:
        if self.shots not in SHOTS:
            raise UsageError(f"--shots {self.shots!r}: must be {', '.join(SHOTS)}")


@dataclass(frozen=True)
class StoredOptions:
    """What the user of an alignment of stored pair predictions can choose."""

    graph: str | None = None
    """Align with those of the stored pairs only that are in this graph: swin-W-noncyclic, complete, oneref-R ..."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ..., or auto: where the predictions go."""
    seed: int = 0
    """Same seed, same scene."""
    alignment: AlignmentOptions = field(default_factory=AlignmentOptions)
    """How the pairs are brought into one world."""
    known: KnownFiles = field(default_factory=KnownFiles)
    """What is known of the clip beforehand."""
