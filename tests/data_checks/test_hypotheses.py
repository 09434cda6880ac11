"""Whatever files mean, the truth between views tells it; and where nothing is wrong, nothing is said."""

from dataclasses import replace

import numpy as np
import pytest

from stereo4d.data.conventions import Axes, Conventions, DepthKind, PixelOrigin, PoseKind, pixels_of, ray_length
from stereo4d.data.posed_frames import Frame
from stereo4d.data_checks.agreement import TrackViews, agreement, points_of
from stereo4d.data_checks.hypotheses import Trial, Verdict, judged, trial
from tests.datasets.miniatures import Filmed, film

SAID = Conventions()


@pytest.fixture(scope="module")
def filmed() -> Filmed:
    return film()


def misread(filmed: Filmed, meant: Conventions, index: int, depth: np.ndarray | None = None) -> Frame:
    """A frame of files that mean something else than they are taken for."""
    truth = filmed.depth[index] if depth is None else depth
    grid = pixels_of(*truth.shape)
    lens = SAID.intrinsics(meant.stored_intrinsics(filmed.intrinsics))
    stored = meant.stored_depth(truth, ray_length(grid, filmed.intrinsics))
    return Frame(
        rgb=filmed.rgb[index],
        intrinsics=lens,
        cam2world=SAID.cam2world(meant.stored_pose(filmed.cam2world[index])),
        depth=SAID.depth(stored, ray_length(grid, lens)),
        moving=filmed.moving[index],
    )


def trials(filmed: Filmed, meant: Conventions) -> list[Trial]:
    rng = np.random.default_rng(0)
    pairs = [(misread(filmed, meant, i), misread(filmed, meant, j)) for i, j in ((0, 2), (4, 1), (3, 5))]
    return [trial(points_of(*pair, SAID, 200, rng)) for pair in pairs]


@pytest.mark.parametrize(
    "meant",
    [
        Conventions(pose_kind=PoseKind.world2cam),
        Conventions(axes=Axes.opengl),
        Conventions(axes=Axes.ned, pose_kind=PoseKind.world2cam),
        Conventions(depth_unit=0.001),
        Conventions(depth_unit=0.0002, axes=Axes.opengl),
        Conventions(depth_kind=DepthKind.ray),
        Conventions(pixel_origin=PixelOrigin.corner),
        Conventions(PoseKind.world2cam, Axes.opengl, PixelOrigin.corner, DepthKind.ray, 0.001),
    ],
    ids=str,
)
def test_what_files_mean_is_found(filmed, meant):
    verdict = judged(trials(filmed, meant), SAID, depth=True)
    assert verdict.best == meant
    assert set(verdict.wrong()) == {name for name, value in vars(meant).items() if value != getattr(SAID, name)}


def test_true_conventions_are_left_alone(filmed):
    verdict = judged(trials(filmed, SAID), SAID, depth=True)
    assert verdict.wrong() == {}
    assert np.nanmedian(verdict.as_said.pixels) < 1e-3


@pytest.mark.parametrize("seed", range(2))
def test_noise_is_not_taken_for_a_convention(filmed, seed):
    rng = np.random.default_rng(seed)
    noisy = [depth * (1 + 0.02 * rng.standard_normal(depth.shape)) for depth in filmed.depth]
    noisy = [np.where(rng.random(depth.shape) < 0.3, np.nan, depth).astype(np.float32) for depth in noisy]
    pairs = [
        (misread(filmed, SAID, i, noisy[i]), misread(filmed, SAID, j, noisy[j])) for i, j in ((0, 2), (4, 1), (3, 5))
    ]
    found = judged([trial(points_of(*pair, SAID, 200, rng)) for pair in pairs], SAID, depth=True)
    assert found.wrong() == {}


def of_tracks(filmed: Filmed, meant: Conventions) -> Verdict:
    views = []
    for i, j in ((0, 2), (4, 1), (3, 5)):
        both = np.isfinite(filmed.tracks[:, [i, j]]).all((1, 2))
        frames = [replace(misread(filmed, meant, index), depth=None) for index in (i, j)]
        views.append(trial(TrackViews(*frames, filmed.tracks[both, i], filmed.tracks[both, j])))
    return judged(views, SAID, depth=False)


@pytest.mark.parametrize("meant", [SAID, Conventions(axes=Axes.opengl), Conventions(pose_kind=PoseKind.world2cam)])
def test_tracks_tell_cameras_too(filmed, meant):
    assert of_tracks(filmed, meant).best == meant


def test_points_come_back_to_where_they_started(filmed):
    first, second = misread(filmed, SAID, 0), misread(filmed, SAID, 2)
    exact = agreement(points_of(first, second, SAID, 400, np.random.default_rng(0)), SAID, SAID)
    aside = np.eye(4)
    aside[2, 3] = 0.1  # forward, which walls show that are seen straight on
    moved = replace(second, cam2world=second.cam2world @ aside)
    shifted = agreement(points_of(first, moved, SAID, 400, np.random.default_rng(0)), SAID, SAID)
    assert exact.inside.mean() > 0.7
    assert np.nanmedian(exact.depth) < 1e-4 < 0.01 < np.nanmedian(shifted.depth)
    assert np.nanmedian(exact.pixels) < 1e-3 < 0.005 < np.nanmedian(shifted.pixels)
    assert exact.misfit().mean() < shifted.misfit().mean()
