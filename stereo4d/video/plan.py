"""What a reconstruction will cost, said before any weight is loaded: frames, pairs, seconds, memory, disk.

What predictions take, the predictor says. The constants below were measured once, on two cores of a 2020s server, and
are good to a factor of two or so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stereo4d.video.predictor import Cost

_DECODE_SECONDS = 20e-9  # per original pixel of every frame from the first taken to the last: decoders go through all
_RESIZE_SECONDS = 40e-9  # per original pixel of a frame that is taken
_ALIGN_SECONDS = 15e-3, 0.15e-6  # per pair, and per predicted point of it
_RECORD_SECONDS = 0.7, 1.2e-6  # once, and per network pixel of a frame
_MASK_SECONDS = 0.05, 0.5e-6  # per pair of frames whose flow is found, and per network pixel of it
_BASE_MEMORY = 800 << 20  # Python, torch and the libraries
_ALIGN_MEMORY = 8  # bytes per predicted point of a pair, beside the predictions
_SCENE_BYTES = 2 + 2 + 1 + 3  # depth, confidence, dynamic, rgb
_MOTION_BYTES = 2 * 4 * 2  # per network pixel and query time: towards both neighbours, vector and confidence
_RECORDING_BYTES = 6  # per network pixel: points, colours, JPEG, depth


@dataclass(frozen=True)
class FlowWork:
    """What optical flow is asked for."""

    pairs: int = 0
    """Of frames, both ways; those that several windows hold count in each."""
    at_most: bool = False
    """Whether there may be none: frames that do not follow one another as in a video are not asked what moves."""
    seconds_per_pixel: float = 0.0
    """Of one flow."""

    def seconds(self, pixels: int) -> dict[str, float]:
        """Of flow and masks, by the name of the stage; nothing where there is no work."""
        looked = pixels * (2 * self.seconds_per_pixel + _MASK_SECONDS[1])
        return {"motion": self.pairs * (_MASK_SECONDS[0] + looked)} if self.pairs else {}


@dataclass(frozen=True)
class Plan:
    """What will happen, and what it will take."""

    frames: int
    pairs: int
    pairs_are_most: bool
    """Whether there may be fewer pairs: the graph goes by how alike frames look, which only the run finds out."""
    height: int
    """Of the frames at network size, in pixels."""
    width: int
    seconds: dict[str, float]
    """By stage: frames, predictions, motion where it is looked for, alignment, recording."""
    memory_bytes: int
    """Main memory at the peak, on the CPU; with a GPU, activations and weights move there."""
    disk_bytes: int
    """Written to the output folder, pair predictions included."""
    predictor: str
    """What predicts the pairs."""
    query_times: tuple[float, ...]
    """When, between the frames of a pair (0 and 1), points are asked for; empty without motion."""
    network_gflop: float | None
    """Floating point operations of all encodings and pairs, in 1e9, counted; None where no network predicts."""
    probed_gflops: float | None
    """1e9 operations a second of matrix products here, measured just now."""
    windows: tuple[int, ...] = ()
    """Frames of each window; empty where all are solved at once."""
    flow: FlowWork = FlowWork()
    """What optical flow is asked for."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The plan in words."""
        total = sum(self.seconds.values())
        stages = ", ".join(f"{name} {seconds:.0f}" for name, seconds in self.seconds.items())
        times = ", ".join(f"{time:g}" for time in self.query_times)
        most = " at most; which, the run finds out when it has encoded the frames" if self.pairs_are_most else ""
        follow = ", if frames follow one another as in a video" if self.flow.at_most else ""
        lines = [
            f"weights  {self.predictor}",
            f"frames   {self.frames} of {self.width}x{self.height} pixels",
            f"pairs    {self.pairs}{most}",
            *([f"motion   at {times} of the way"] if self.query_times else []),
            *([f"flow     of {self.flow.pairs} pairs of frames, both ways{follow}"] if self.flow.pairs else []),
            *(
                [f"windows  {len(self.windows)} of {self.windows[0]} frames, and pairs that close loops between them"]
                if self.windows
                else []
            ),
            f"seconds  about {total:.0f} ({stages})",
            f"memory   about {self.memory_bytes / 2**30:.1f} GiB",
            f"disk     about {self.disk_bytes / 2**20:.0f} MiB",
        ]
        if self.network_gflop is not None and self.probed_gflops is not None:
            speed = f"{self.probed_gflops:.0f} GFLOP/s probed on this machine"
            lines.append(f"network  {self.network_gflop:.0f} GFLOP counted; {speed}")
        return lines


def _seconds(
    cost: Cost,
    flow: FlowWork,
    span: int,
    frames: int,
    pairs: int,
    size: tuple[int, int],
    original_size: tuple[int, int],
) -> dict[str, float]:
    """By stage; arguments as in ``make_plan``."""
    pixels = size[0] * size[1]
    return {
        "frames": (span * _DECODE_SECONDS + frames * _RESIZE_SECONDS) * original_size[0] * original_size[1],
        "predictions": cost.seconds,
        **flow.seconds(pixels),
        "alignment": pairs * _ALIGN_SECONDS[0] + 2 * pairs * pixels * _ALIGN_SECONDS[1],
        "recording": _RECORD_SECONDS[0] + frames * pixels * _RECORD_SECONDS[1],
    }


def make_plan(
    cost: Cost,
    *,
    predictor: str,
    frames: int,
    span: int,
    pairs: int,
    size: tuple[int, int],
    original_size: tuple[int, int],
    exact: bool = False,
    pairs_are_most: bool = False,
    query_times: Sequence[float] = (),
    windows: Sequence[int] = (),
    flow: FlowWork | None = None,
) -> Plan:
    """Count and estimate.

    Args:
        cost: what the predictor says that predictions will take.
        predictor: what predicts the pairs, in words.
        frames: N.
        span: frames of the input from the first that is taken to the last.
        pairs: E.
        size: (H, W) at network size.
        original_size: (H, W) of the input's frames.
        exact: predictions are stored in float32.
        pairs_are_most: the graph goes by how alike frames look: E pairs or fewer.
        query_times: when between the frames of a pair points are asked for.
        windows: frames of each window; empty where all are solved at once.
        flow: what optical flow is asked for; None for nothing.
    """
    (height, width), flow = size, flow or FlowWork()
    points, value_bytes = 2 * pairs * height * width, 4 if exact else 2
    predictions, further = points * 4 * value_bytes, points * cost.further_values * value_bytes
    motion = frames * height * width * len(query_times) * _MOTION_BYTES
    at_once = max(windows, default=frames) / frames
    # A finished window leaves its depth and confidence, and all of it is put together once more.
    left = (sum(windows) + frames) * height * width * 4 if windows else 0
    scene = frames * height * width * (3 + _SCENE_BYTES + _RECORDING_BYTES)
    work = max(cost.memory_bytes, at_once * (predictions + points * _ALIGN_MEMORY), motion)
    return Plan(
        frames=frames,
        pairs=pairs,
        pairs_are_most=pairs_are_most,
        height=height,
        width=width,
        seconds=_seconds(cost, flow, span, frames, pairs, size, original_size),
        memory_bytes=round(_BASE_MEMORY + frames * height * width * 3 + work),
        disk_bytes=predictions + further + motion + left + scene,
        predictor=predictor,
        query_times=tuple(query_times),
        network_gflop=cost.gflop,
        probed_gflops=cost.gflops,
        windows=tuple(windows),
        flow=flow,
    )
