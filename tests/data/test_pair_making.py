from dataclasses import replace

import numpy as np
import pytest
import torch

from stereo4d.data.augmentation import Augmentation, ColourJitter
from stereo4d.data.pair_batch import PairBatch, joined
from stereo4d.data.pair_making import make_pair
from stereo4d.data.pair_truth import TruthOptions
from stereo4d.data.pairing import FramePair
from stereo4d.data.portraits import laid_down
from stereo4d.data.posed_frames import Frame
from stereo4d.data.synthetic.motion import surface_position
from stereo4d.data.synthetic.render import render
from stereo4d.errors import InputError
from stereo4d.geometry.camera import pixel_grid, project
from tests.golden_numbers import load
from tests.posed_worlds import WorldFrames, filmed

SIZE = (48, 64)
PAIR = FramePair("0", 1, 3)
NO_COLOUR = ColourJitter(0, 0, 0, 0)
TRACKED = WorldFrames(has_depth=False, has_tracks=True, has_moving=False)


def made(frames: WorldFrames, pair: FramePair = PAIR, size: tuple[int, int] = SIZE, **options) -> PairBatch:
    return make_pair(frames, pair, size, **{"rng": np.random.default_rng(3), **options})


def to_world(points: torch.Tensor, frames: WorldFrames, index: int) -> np.ndarray:
    pose = filmed(0, frames.length, frames.size)[2][index]
    return points.numpy() @ pose[:3, :3].T + pose[:3, 3]


@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(crop=0), Augmentation(crop=16, focal=0.7), Augmentation(crop=16, anywhere=True)],
    ids=["fit", "drawn", "anywhere"],
)
@pytest.mark.parametrize("view", [0, 1])
def test_a_crop_is_what_a_camera_of_its_intrinsics_sees(view, augmentation):
    frames = WorldFrames(size=(120, 160))
    batch = made(frames, augmentation=replace(augmentation, colour=NO_COLOUR))
    index = (PAIR.first, PAIR.second)[view]
    world, _, poses, _ = filmed(0, frames.length, frames.size)
    camera = getattr(batch, f"intrinsics{view}").double()
    time = torch.tensor([index / (frames.length - 1)], dtype=torch.float64)
    image = (getattr(batch, f"image{view}")[0].permute(1, 2, 0) + 1) / 2
    errors = []
    for shift in ((0, 0), (0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)):
        off = camera.clone()
        off[0, :2, 2] += torch.tensor(shift)
        seen = render(world, time, torch.from_numpy(poses[index])[None], off, *SIZE, samples=2)
        errors.append(float((image - seen.rgb[0]).abs().mean()))
    assert 1.3 * errors[0] < min(errors[1:])  # not half a pixel off in any direction
    exact = render(world, time, torch.from_numpy(poses[index])[None], camera, *SIZE)
    points = to_world(torch.from_numpy(_points(exact.depth[0], camera[0])), frames, index)
    distance = np.linalg.norm(to_world(getattr(batch, f"pointmap{view}")[0], frames, PAIR.first) - points, axis=-1)
    # depth of the nearest pixel of the image stands for that of the crop's
    assert np.mean(distance < 0.04 * exact.depth[0].numpy()) > 0.93


def _points(depth: torch.Tensor, camera: torch.Tensor) -> np.ndarray:
    pixels = pixel_grid(*depth.shape).double()
    plane = (pixels - camera[:2, 2]) / camera[[0, 1], [0, 1]]
    return (torch.cat([plane, torch.ones_like(plane[..., :1])], -1) * depth[..., None]).numpy()


@pytest.mark.parametrize("frames", [WorldFrames(), TRACKED], ids=["depth", "tracks"])
def test_points_project_into_their_own_pixels(frames):
    batch = made(frames, augmentation=Augmentation(crop=8, focal=0.8, colour=NO_COLOUR))
    own1 = torch.linalg.inv(batch.relative.double()[0])
    for points, valid, camera in (
        (batch.pointmap0.double(), batch.valid0, batch.intrinsics0),
        (batch.pointmap1.double() @ own1[:3, :3].T + own1[:3, 3], batch.valid1, batch.intrinsics1),
    ):
        pixel, depth = project(points, camera.double())
        off = (pixel - pixel_grid(*SIZE)).abs().amax(-1)[valid]
        assert valid.float().mean() > 0.2
        assert (depth[valid] > 0).all()
        assert off.max() <= (1e-3 if frames.has_depth else 0.5 + 1e-3)


def test_motion_is_that_of_the_track_which_supplies_the_point():
    batch = made(TRACKED, query_times=12)
    assert {0.0, 0.5, 1.0} == set(batch.times[0].tolist())  # the frame between is no image of the pair
    for view, own in ((0, PAIR.first), (1, PAIR.second)):
        points, motion = (getattr(batch, f"{name}{view}")[0] for name in ("pointmap", "motion"))
        for query, time in enumerate(batch.times[0].tolist()):
            known = getattr(batch, f"motion_valid{view}")[0, query]
            if time == view:
                assert not known.any()
                continue
            assert known.sum() > 300
            ends = torch.stack([points, points + motion[query]], 2)[known]
            ours = to_world(ends, TRACKED, PAIR.first).reshape(-1, 6)
            then = PAIR.first + round(time * (PAIR.second - PAIR.first))
            truth = np.concatenate([TRACKED.tracks("0", own), TRACKED.tracks("0", then)], 1)
            seen = torch.from_numpy(truth[np.isfinite(truth).all(1)])
            distance = torch.cdist(torch.from_numpy(ours), seen).amin(1)
            assert distance.max() < 1e-5


def test_half_of_the_query_times_are_ends_and_no_two_pairs_draw_alike():
    times = torch.cat([made(WorldFrames(length=9), FramePair("0", 0, 8), query_times=200).times[0]])
    ends = ((times == 0) | (times == 1)).float().mean()
    assert 0.4 < ends < 0.6
    assert len(times.unique()) == 9


def test_a_pair_in_reverse_is_the_same_pair_swapped():
    frames = WorldFrames(has_tracks=True)
    forward, back = made(frames, query_times=0), made(frames, FramePair("0", 3, 1), query_times=0)
    for name, value in vars(forward.swapped()).items():
        if name != "names":
            torch.testing.assert_close(value, vars(back)[name], rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize(
    "frames", [WorldFrames(), WorldFrames(has_tracks=True), TRACKED], ids=["depth", "both", "tracks"]
)
def test_matching_pixels_show_the_same_surface(frames):
    batch = made(frames, size=frames.size)  # as filmed: the renderer's own pixels
    _, _, _, seen = filmed(0, frames.length, frames.size)
    found = ~batch.match0[0].isnan().any(-1)
    column, row = batch.match0[0][found].round().long().unbind(-1)
    first, second = (seen[index].surface[0] for index in (PAIR.first, PAIR.second))
    assert found.float().mean() > 0.25
    assert (first[found] == second[row, column]).float().mean() > 0.97
    moving = batch.moving0[0] & found
    # what moves is matched where tracks tell where it went
    assert moving.any() == frames.has_tracks


def test_tracks_tell_what_moves_where_no_mask_is_given():
    batch = made(TRACKED, size=TRACKED.size, query_times=1)
    _, _, _, seen = filmed(0, TRACKED.length, TRACKED.size)
    truth = seen[PAIR.first].moving
    found = batch.moving0 & batch.valid0
    assert truth[found].float().mean() > 0.99
    assert found.sum() > 0.5 * (truth & batch.valid0).sum()
    assert not made(TRACKED, options=TruthOptions(static=True)).moving0.any()


def test_scenes_said_to_stand_still_have_known_motion_everywhere():
    batch = made(WorldFrames(), query_times=4, options=TruthOptions(static=True))
    assert (batch.motion_valid0[0] == (batch.times[0] != 0)[:, None, None]).all()
    assert not batch.motion0.any()
    assert not made(WorldFrames(), query_times=4).motion_valid0.any()  # else depth alone tells no motion


def test_hidden_tracks_supply_no_motion_where_depth_is_known():
    frames = WorldFrames(has_tracks=True)
    batch = made(frames, size=frames.size, query_times=1, rng=np.random.default_rng(0))
    assert batch.times.item() == 1
    known = batch.motion_valid0[0, 0]
    after = to_world(batch.pointmap0[0] + batch.motion0[0, 0], frames, PAIR.first)[known]
    world, _, _, seen = filmed(0, frames.length, frames.size)
    view, then = seen[PAIR.first], torch.tensor([PAIR.second / (frames.length - 1)], dtype=torch.float64)
    exact = surface_position(world, view.surface, view.local, then)[0].numpy()[known]
    assert np.mean(np.linalg.norm(after - exact, axis=-1) < 0.05) > 0.97


def test_what_is_no_truth_is_nowhere_valid():
    class Marked(WorldFrames):
        def frame(self, scene: str, index: int) -> Frame:
            frame = super().frame(scene, index)
            left, top = np.zeros(self.size, bool), np.zeros(self.size, bool)
            left[:, :40], top[:30] = True, True
            depth = frame.depth.copy()
            depth[-10:, -10:] = np.nan
            return replace(frame, depth=depth, sky=left, background=top)

    frames = Marked()
    depth = frames.frame("0", 1).depth
    kept = made(frames, size=frames.size)
    expected = np.isfinite(depth)
    expected[:, :40] = False
    np.testing.assert_array_equal(kept.valid0[0], expected)
    assert kept.sky0[0, :, :40].all()
    assert not kept.sky0[0, :, 40:].any()
    assert not kept.pointmap0[0][~torch.from_numpy(expected)].any()
    assert not kept.pointmap0.isnan().any()
    dropped = made(frames, size=frames.size, options=TruthOptions(drop_background=1.0))
    expected[:30] = False
    np.testing.assert_array_equal(dropped.valid0[0], expected)
    near = float(np.nanmedian(depth[expected]))
    close = made(frames, size=frames.size, options=TruthOptions(farthest=near))
    assert close.pointmap0[..., 2].max() < near
    shares = [
        bool(
            made(frames, rng=np.random.default_rng(seed), options=TruthOptions(drop_background=0.5))
            .valid0[0, :15]
            .any()
        )
        for seed in range(12)
    ]
    assert 0 < sum(shares) < 12


def test_portrait_images_are_stored_transposed_as_published():
    golden = load("losses_data")
    upright = made(WorldFrames(size=(64, 48)), size=(6, 4))
    given = {name: torch.from_numpy(golden[f"portrait_in_{name}"])[None] for name in ("img", "pts3d", "valid_mask")}
    camera = torch.from_numpy(golden["portrait_in_camera_intrinsics"])[None]
    lying = laid_down(
        replace(upright, image0=given["img"], pointmap0=given["pts3d"], valid0=given["valid_mask"], intrinsics0=camera),
        0,
    )
    for name, value in {
        "img": lying.image0,
        "pts3d": lying.pointmap0,
        "valid_mask": lying.valid0,
        "camera_intrinsics": lying.intrinsics0,
    }.items():
        np.testing.assert_array_equal(value[0], golden[f"portrait_out_{name}"])
    np.testing.assert_array_equal(lying.true_shapes()[0][0], golden["portrait_out_true_shape"])


@pytest.mark.parametrize("size", [(80, 60), (62, 60)], ids=["portrait", "nearly square"])
def test_batches_of_portrait_and_landscape_images_hold_together(size):
    frames = WorldFrames(size=size, has_tracks=True)
    batches = [
        made(frames, portraits=True, query_times=1, rng=np.random.default_rng(seed))
        for seed in range(4 if size[0] == 62 else 1)
    ]
    batch = joined(batches)
    standing = torch.stack([batch.portrait0, batch.portrait1], 1)
    assert standing.all() if size[0] == 80 else standing.any() and not standing.all()
    assert batch.true_shapes()[0].tolist() == [[64, 48] if stands else [48, 64] for stands in standing[:, 0]]
    for one in batches:
        # stored rows and columns are what intrinsics and matches speak of
        pixels = (one.pointmap0 @ one.intrinsics0.mT)[..., :2] / one.pointmap0[..., 2:]
        assert (pixels - pixel_grid(*SIZE))[one.valid0].abs().max() < 1e-3
        still = ~one.match0[0].isnan().any(-1) & ~one.moving0[0]
        column, row = one.match0[0][still].round().long().unbind(-1)
        apart = (one.pointmap1[0, row, column] - one.pointmap0[0][still]).norm(dim=-1)
        assert still.float().mean() > 0.1
        assert apart.quantile(0.9) < 0.1 * one.pointmap0[0][still].norm(dim=-1).median()


def test_colours_differ_between_views_and_follow_from_the_given_numbers():
    given = {"augmentation": Augmentation(crop=0), "size": (60, 80)}
    pair = FramePair("0", 1, 1)
    batch, again = made(WorldFrames(), pair, **given), made(WorldFrames(), pair, **given)
    plain = made(WorldFrames(), pair, size=(60, 80))
    torch.testing.assert_close(batch.image0, again.image0, rtol=0, atol=0)
    assert (batch.image0 - batch.image1).abs().mean() > 0.02
    assert (batch.image0 - plain.image0).abs().mean() > 0.02
    torch.testing.assert_close(plain.image0, plain.image1, rtol=0, atol=0)
    torch.testing.assert_close(batch.pointmap0, plain.pointmap0)


def scaled(frame: Frame) -> Frame:
    pose = frame.cam2world.copy()
    pose[:3, :3] *= 2
    return replace(frame, cam2world=pose)


def skewed(frame: Frame) -> Frame:
    camera = frame.intrinsics.copy()
    camera[0, 1] = 3
    return replace(frame, intrinsics=camera)


FAULTS = {
    "no rigid motion": scaled,
    "a finite 4x4": lambda frame: replace(frame, cam2world=np.full((4, 4), np.nan)),
    r"fx 0 cx": skewed,
    r"depth is \(30, 80\), the image \(60, 80\)": lambda frame: replace(frame, depth=frame.depth[:30]),
    "neither depth nor tracks": lambda frame: replace(frame, depth=None),
    "of this size": lambda frame: replace(frame, intrinsics=frame.intrinsics * [[1, 1, 5], [1, 1, 5], [1, 1, 1]]),
    "uint8": lambda frame: replace(frame, rgb=frame.rgb / 255),
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_frame_that_is_no_truth_is_named(message):
    class Faulty(WorldFrames):
        def frame(self, scene: str, index: int) -> Frame:
            frame = super().frame(scene, index)
            return FAULTS[message](frame) if index == 3 else frame

    with pytest.raises(InputError, match=f"worlds, scene 0, frame 3.*{message}"):
        made(Faulty())


def test_a_damaged_file_is_named_with_data_set_scene_and_frame():
    with pytest.raises(InputError, match=r"worlds, scene 0, frame 3: 0/3\.png is cut short"):
        made(WorldFrames(damaged=(("0", 3),)))
