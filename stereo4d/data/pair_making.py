"""From two frames of a scene to a pair with its truth, at the size that a network takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from stereo4d.data.augmentation import NONE, Augmentation
from stereo4d.data.pair_batch import PairBatch
from stereo4d.data.pair_truth import TRUTH, Asked, TruthOptions, draw_time, matches_between, motion_at, moving_mask
from stereo4d.data.pairing import FramePair
from stereo4d.data.portraits import laid_down
from stereo4d.data.posed_frames import PosedFrames
from stereo4d.data.reading import read_frame, read_tracks
from stereo4d.data.seen import Seen, moved, see
from stereo4d.data.transforms import normalise
from stereo4d.errors import InputError


def make_pair(
    frames: PosedFrames,
    pair: FramePair,
    size: tuple[int, int],
    *,
    rng: np.random.Generator,
    query_times: int = 0,
    options: TruthOptions = TRUTH,
    augmentation: Augmentation = NONE,
    portraits: bool = False,
) -> PairBatch:
    """Read two frames, crop them, and work out the truth between them.

    Args:
        frames: the data set.
        pair: which two frames; the same one twice is a pair, too.
        size: (H, W) in pixels of what is returned.
        rng: all that is drawn comes from it.
        query_times: Q times at which motion is known where tracks tell; half an end, half a frame between.
        options: what of the truth is believed.
        augmentation: of colours and crops.
        portraits: crop portrait images to (W, H), and store them transposed; else every image is cropped to ``size``.

    Returns:
        A batch of one.

    Raises:
        InputError: a frame cannot be read, or what it says is no truth; names data set, scene and frame.
    """
    asked = [draw_time(frames, pair.scene, pair.first, pair.second, rng) for _ in range(query_times)]
    background = bool(rng.random() >= options.drop_background)
    views = []
    for index in (pair.first, pair.second):
        frame, tracks = read_frame(frames, pair.scene, index), read_tracks(frames, pair.scene, index)
        if frame.depth is None and tracks is None:
            raise InputError(
                f"{frames.name}, scene {pair.scene}, frame {index} has neither depth nor tracks: nothing to learn from"
            )
        try:
            seen = see(
                frame,
                tracks,
                size,
                rng=rng,
                augmentation=augmentation,
                portraits=portraits,
                farthest=options.farthest,
                background=background,
            )
        except InputError as error:
            raise InputError(f"{frames.name}, scene {pair.scene}, frame {index}: {error}") from error
        views.append(seen)
    batch = _assembled(frames, pair, (views[0], views[1]), asked, options)
    for number, view in enumerate(views):
        if view.crop.size != tuple(size):
            batch = laid_down(batch, number)
    return batch


def _assembled(
    frames: PosedFrames, pair: FramePair, views: tuple[Seen, Seen], asked: Sequence[Asked], options: TruthOptions
) -> PairBatch:
    """The batch of one, both images upright."""
    tracks = {pair.first: views[0].tracks, pair.second: views[1].tracks}
    for query in asked:
        if query.index not in tracks and not options.static:
            tracks[query.index] = read_tracks(frames, pair.scene, query.index)
    world2cam0 = np.linalg.inv(views[0].cam2world)
    values: dict[str, Tensor] = {}
    for number, view in enumerate(views):
        moving = moving_mask(view, list(tracks.values()), options)
        motion, motion_valid = _motions(view, float(number), asked, tracks, world2cam0, static=options.static)
        points = np.where(view.valid[..., None], moved(world2cam0, view.points), 0)
        values |= {
            f"image{number}": normalise(np.array(view.picture))[None],
            f"pointmap{number}": _tensor(points),
            f"valid{number}": torch.from_numpy(view.valid)[None],
            f"moving{number}": torch.from_numpy(moving)[None],
            f"sky{number}": torch.from_numpy(view.sky)[None],
            f"match{number}": _tensor(matches_between(view, views[1 - number], moving)),
            f"intrinsics{number}": _tensor(view.crop.intrinsics),
            f"portrait{number}": torch.tensor([False]),
            f"motion{number}": _tensor(motion),
            f"motion_valid{number}": torch.from_numpy(motion_valid)[None],
        }
    return PairBatch(
        relative=_tensor(world2cam0 @ views[1].cam2world),
        metric=torch.tensor([frames.metric]),
        times=torch.tensor([[query.time for query in asked]], dtype=torch.float32),
        names=(f"{frames.name}, scene {pair.scene}, frames {pair.first} and {pair.second}",),
        **values,
    )


def _motions(
    view: Seen,
    own_time: float,
    asked: Sequence[Asked],
    tracks: Mapping[int, np.ndarray | None],
    world2cam0: np.ndarray,
    *,
    static: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """(Q, H, W, 3) displacements in view 0's camera, and (Q, H, W) where they are known."""
    motion = np.zeros((len(asked), *view.valid.shape, 3))
    known = np.zeros(motion.shape[:3], bool)
    for number, query in enumerate(asked):
        displacement, known[number] = motion_at(view, own_time, query, tracks, static=static)
        motion[number] = displacement @ world2cam0[:3, :3].T
    return motion, known


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).float()[None]
