"""``stereo4d synthesize``: a dynamic clip with exact ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stereo4d.data.synthetic.worlds import Worlds


def synthesize(
    *,
    out: Path,
    seed: int = 0,
    frames: int = 24,
    width: int = 288,
    height: int = 192,
    fps: float = 12.0,
    kind: str = "room",
    objects: int = 6,
    moving_share: float | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Render a clip of a random synthetic world, with cameras, depth, masks and motion beside it.

    Args:
        out: Folder for clip.mp4, frames/ and truth.safetensors.
        seed: Seed of the world.
        frames: Number of frames.
        width: Width of the frames in pixels, even.
        height: Height of the frames in pixels, even.
        fps: Frames a second.
        kind: 'room', the plain rooms, or a kind of place of the rich worlds: indoor, corridor, tabletop, street, park,
            figures.
        objects: Objects in a plain room.
        moving_share: Chance that an object moves; by default what the kind of world takes.
        overwrite: Replace a clip that is already there.
        quiet: Show no progress.
    """
    from stereo4d.data.synthetic.clip import TRUTH, synthesize_clip
    from stereo4d.errors import OutputError
    from stereo4d.progress import Progress

    if (out / TRUTH).exists() and not overwrite:
        raise OutputError(f"{out} holds a clip already; choose another --out or say --overwrite")
    config = _worlds(kind, objects, moving_share)
    with Progress(quiet=quiet).stage("render", frames) as stage:
        clip = synthesize_clip(
            out, seed=seed, frames=frames, height=height, width=width, fps=fps, config=config, advance=stage.advance
        )
    print(f"clip   {clip}\ntruth  {out / TRUTH}")
    return 0


def _worlds(kind: str, objects: int, moving_share: float | None) -> Worlds:
    from stereo4d.data.synthetic.rich import RichWorlds, Things
    from stereo4d.data.synthetic.rich.kinds import KINDS
    from stereo4d.data.synthetic.world import WorldConfig
    from stereo4d.errors import UsageError

    if not 0 <= (moving_share or 0) <= 1 or objects < 1:
        raise UsageError(f"objects={objects} moving_share={moving_share}: need objects >= 1 and 0 <= moving_share <= 1")
    if kind == "room":
        return WorldConfig(objects=objects) if moving_share is None else WorldConfig(objects, moving_share)
    if kind not in KINDS:
        raise UsageError(f"--kind {kind}: there are room, {', '.join(KINDS)}")
    return RichWorlds(kinds=(kind,), things=Things() if moving_share is None else Things(moving_share=moving_share))
