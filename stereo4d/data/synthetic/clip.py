"""A clip of the synthetic world with its exact truth beside it, and reading that truth back.

A clip folder holds ``clip.mp4``, ``frames/000000.png`` ... (the same frames without compression) and
``truth.safetensors``: ``cam2world`` ``intrinsics`` ``depth`` ``dynamic`` ``times`` as in ``ClipTruth``, ``surface``
N x H x W u8, and how the world moves (``world/...`` or ``bodies/...``), from which the position of every surface point
follows at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from stereo4d.data.synthetic.render import Rendered
from stereo4d.data.synthetic.surface_motion import SurfaceMotion, read_motion
from stereo4d.data.synthetic.world import Draw, WorldConfig
from stereo4d.data.synthetic.worlds import Worlds
from stereo4d.errors import InputError, UsageError
from stereo4d.geometry.camera import unproject
from stereo4d.geometry.rigid import transform_points
from stereo4d.storage import atomic_file, map_arrays, save_arrays
from stereo4d.types import ClipTruth

TRUTH = "truth.safetensors"
CLIP_SEEDS = 2**41
"""Added to a clip's seed: worlds that no training batch can have drawn."""


@dataclass(frozen=True)
class SyntheticTruth:
    """The exact truth of a synthetic clip."""

    clip: ClipTruth
    surface: np.ndarray
    """(N, H, W) uint8 surface ids; plain rooms: 0 ... 5 walls, 6 + k object k."""
    motion: SurfaceMotion

    def positions(self, frame: int, time: float) -> np.ndarray:
        """Where the surface points seen in a frame are at another time.

        Args:
            frame: which frame's pixels.
            time: seconds, any real number; motion is continuous.

        Returns:
            (H, W, 3) float32 world points; NaN where the sky is seen.
        """
        duration = float(self.clip.times[-1]) or 1.0
        then = torch.tensor([self.clip.times[frame] / duration], dtype=torch.float32)
        cam2world = torch.from_numpy(np.array(self.clip.cam2world[frame]))[None]
        intrinsics = torch.from_numpy(np.array(self.clip.intrinsics[frame]))[None]
        depth = torch.from_numpy(np.array(self.clip.depth[frame]))[None]
        points = transform_points(cam2world, unproject(depth, intrinsics))
        surface = torch.from_numpy(np.array(self.surface[frame])).long()[None]
        return self.motion.carried(surface, points, then, torch.tensor([time / duration]).float())[0].numpy()


def synthesize_clip(
    folder: Path,
    *,
    seed: int,
    frames: int = 24,
    height: int = 192,
    width: int = 288,
    fps: float = 12.0,
    config: Worlds | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Path:
    """Render a clip of one random world and write it with its truth.

    Args:
        folder: where to; made if missing.
        seed: of the world.
        frames: N, at least 1.
        height: of the frames, even (video encoders ask for it).
        width: of the frames, even.
        fps: frames a second; clip time 0 ... 1 spans first to last frame.
        config: draws the world; by default plain rooms.
        advance: told about every finished frame.

    Returns:
        The path of ``clip.mp4``.

    Raises:
        UsageError: a number is out of range.
        OutputError: the folder cannot be written.
    """
    if frames < 1 or fps <= 0 or height < 16 or width < 16 or height % 2 or width % 2:
        raise UsageError(
            f"frames={frames} fps={fps} size={width}x{height}: frames must be >= 1, fps > 0, sides even and >= 16"
        )
    scenes = (config or WorldConfig()).steady().scenes(1, seed=CLIP_SEEDS + seed, device="cpu")
    motion = scenes.surface_motion()
    draw = Draw(CLIP_SEEDS + seed + 1, "cpu")
    intrinsics = scenes.camera_intrinsics(height, width)
    poses, seen, pictures = [], [], []
    for clip_time in torch.linspace(0, 1, frames) if frames > 1 else torch.zeros(1):
        time = clip_time[None]
        cam2world = scenes.camera_pose(time)
        rendered = scenes.render_finely(time, cam2world, intrinsics, height, width)
        picture = scenes.photographed(rendered.rgb, draw)
        pictures.append(((picture[0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy())
        poses.append(cam2world[0].numpy())
        seen.append(rendered)
        advance(1)
    clip = folder / "clip.mp4"
    _write_frames(folder / "frames", pictures)
    _write_video(clip, pictures, fps)
    _write_truth(folder / TRUTH, motion, seen, np.stack(poses), intrinsics[0].numpy(), fps)
    return clip


def _write_truth(
    path: Path, motion: SurfaceMotion, seen: list[Rendered], cam2world: np.ndarray, intrinsics: np.ndarray, fps: float
) -> None:
    arrays: dict[str, np.ndarray] = {
        "cam2world": cam2world,
        "intrinsics": np.repeat(intrinsics[None], len(seen), 0),
        "depth": np.concatenate([one.depth.numpy() for one in seen]),
        "dynamic": np.concatenate([one.moving.numpy().astype(np.uint8) for one in seen]),
        "surface": np.concatenate([one.surface.numpy().astype(np.uint8) for one in seen]),
        "times": np.arange(len(seen)) / fps,
    }
    save_arrays(path, arrays | motion.arrays(), {"format": "stereo4d synthetic truth 1"})


def _write_frames(folder: Path, pictures: list[np.ndarray]) -> None:
    from PIL import Image

    for index, picture in enumerate(pictures):
        with atomic_file(folder / f"{index:06d}.png") as path:
            Image.fromarray(picture).save(path)


def _write_video(path: Path, pictures: list[np.ndarray], fps: float) -> None:
    from fractions import Fraction

    import av

    rate = Fraction(fps).limit_denominator(1001)
    with atomic_file(path) as partial, av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "12"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def find_truth(source: str | Path) -> Path | None:
    """The truth file that belongs to a clip, a frames folder or a clip folder; None if there is none."""
    source = Path(source)
    # A video's truth lies beside it, a frames folder's beside or above it.
    for folder in (source, source.parent):
        if (folder / TRUTH).is_file():
            return folder / TRUTH
    return None


def load_truth(source: str | Path) -> SyntheticTruth:
    """Read the truth of a synthetic clip.

    Args:
        source: ``clip.mp4``, its folder, or ``frames/``.

    Raises:
        InputError: there is no truth beside it.
    """
    path = find_truth(source)
    if path is None:
        raise InputError(f"no {TRUTH} beside {source}; only clips of 'stereo4d synthesize' have one")
    arrays = map_arrays(path)
    clip = ClipTruth(**{item.name: arrays[item.name] for item in fields(ClipTruth)})
    return SyntheticTruth(clip, arrays["surface"], read_motion(arrays))
