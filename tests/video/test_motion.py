"""What is found of motion before an alignment: masks for the cameras, flow between still pixels, kinds of cameras."""

import json

import numpy as np
import pytest
import torch

from stereo4d.alignment.ego_flow import ego_flow
from stereo4d.alignment.known import Known, Masks
from stereo4d.alignment.terms import FlowCells
from stereo4d.errors import UsageError
from stereo4d.geometry.camera import pinhole
from stereo4d.geometry.rigid import rotation_from_vector
from stereo4d.video.alignment_report import alignment_lines
from stereo4d.video.camera_kind import CameraKind, camera_kind
from stereo4d.video.clip import Clip
from stereo4d.video.flow import Flow
from stereo4d.video.motion import Motion, check_motion, follows, on_cells, what_the_camera_does
from stereo4d.video.options import AlignmentOptions
from stereo4d.video.pipeline import reconstruct
from tests.truthful_predictor import install, truthful_clip


def clip_of(rgb: np.ndarray, first: int = 0) -> Clip:
    frames, height, width = rgb.shape[:3]
    sizes, maps = np.tile([height, width], (frames, 1)), np.tile([1.0, 1.0, 0.0, 0.0], (frames, 1))
    return Clip(rgb, first + np.arange(float(frames)), first + np.arange(frames), sizes, maps)


def motion_of(dynamic: np.ndarray, flow: FlowCells | None = None) -> Motion:
    return Motion(dynamic, flow, CameraKind.MOVES, "ego-flow")


def test_masks_that_cover_a_frame_stay_in_the_scene_and_do_not_blind_its_camera():
    dynamic = np.zeros((3, 4, 6), bool)
    dynamic[0], dynamic[1, :2] = True, True
    motion = motion_of(dynamic)
    masks = motion.known(Known()).masks
    assert masks is not None
    assert masks.frames.tolist() == [1]
    assert motion.dynamic[0].all()


def test_what_moves_joins_the_masks_that_were_given():
    dynamic = np.zeros((3, 4, 6), bool)
    dynamic[1, :2] = True
    given = torch.zeros(1, 4, 6, dtype=torch.bool)
    given[0, :, 0] = True
    masks = motion_of(dynamic).known(Known(masks=Masks(torch.tensor([2]), given, 0.25))).masks
    assert masks is not None
    assert masks.frames.tolist() == [1, 2]
    assert masks.keeps == 0.25
    np.testing.assert_array_equal(masks.ignored[0].numpy(), dynamic[1])
    assert masks.ignored[1, :, 0].all()


def test_nothing_that_moves_and_no_masks_are_no_masks():
    assert motion_of(np.zeros((3, 4, 6), bool)).known(Known()).masks is None


def test_terms_are_made_of_the_flow_that_was_found():
    pairs = torch.tensor([[0, 1], [1, 0], [1, 2]])
    cells = FlowCells(pairs, torch.arange(3.0)[:, None, None].expand(3, 2, 2).half(), torch.ones(3, 2).half(), (1, 2))
    part = clip_of(np.zeros((3, 1, 2, 3), np.uint8), first=1)
    terms = motion_of(np.zeros((3, 1, 2), bool), cells).terms(part, ["flow", "acceleration"], torch.device("cpu"))
    assert terms[0].groups.tolist() == pairs.tolist()
    assert terms[0].cells.flow[:, 0, 0].tolist() == [0.0, 1.0, 2.0]
    assert terms[0].cells.flow.dtype == torch.float32
    assert len(terms[1].groups) == 1


def test_cells_take_the_flow_of_valid_pixels_and_doubt_cells_that_come_apart():
    flow, valid = np.zeros((60, 80, 2), np.float32), np.ones((60, 80), bool)
    flow[..., 0] = 3
    flow[:2, :2], valid[:2, :2] = 500, [[True, False], [False, False]]
    valid[0, 0] = False
    flow[2:4, 0] = 9
    mean, weight = on_cells(flow, valid)
    assert mean.shape == (30, 40, 2)
    assert mean[5, 5].tolist() == [3, 0]
    assert weight[5, 5] == 1
    assert weight[0, 0] == 0
    assert weight[1, 0] < 0.2


class Fixed(Flow):
    """The same flow whatever is seen; noise where asked for."""

    def __init__(self, noise: float) -> None:
        self.random, self.noise = np.random.default_rng(0), noise

    def flow(self, image0: np.ndarray, image1: np.ndarray) -> np.ndarray:
        return (self.noise * self.random.normal(size=(*image0.shape[:2], 2))).astype(np.float32)


def test_frames_follow_one_another_where_flow_comes_back():
    rgb = np.random.default_rng(0).integers(0, 255, (4, 20, 30, 3), np.uint8)
    assert follows(clip_of(rgb), Fixed(0.1))
    assert not follows(clip_of(rgb), Fixed(20))
    assert not follows(clip_of(np.full((4, 20, 30, 3), 128, np.uint8)), Fixed(0.1))


@pytest.mark.parametrize(
    ("turn", "shift", "kind"),
    [(0.0, 0.0, CameraKind.STILL), (0.05, 0.0, CameraKind.TURNS), (0.02, 0.4, CameraKind.MOVES)],
)
def test_cameras_that_stand_still_or_only_turn_are_told_from_those_that_move(turn, shift, kind):
    lens = pinhole(torch.tensor([90.0]).double(), 60, 80)
    rows, columns, side = 15, 20, 4
    pixels = torch.stack(torch.meshgrid(torch.arange(columns), torch.arange(rows), indexing="xy"), -1).double()
    pixels = ((pixels + 0.5) * side - 0.5).reshape(-1, 2)
    depth = 3 + 2 * torch.rand(len(pixels), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    poses = torch.eye(4).double().repeat(3, 1, 1)
    for frame in range(3):
        poses[frame, :3, :3] = rotation_from_vector(frame * torch.tensor([0, turn, turn / 2]).double())
        poses[frame, 0, 3] = frame * shift
    looks = {}
    noise = np.random.default_rng(1)
    for i, j in ((0, 1), (1, 2), (0, 2)):
        flow, _ = ego_flow(pixels, depth, (lens[0], lens[0]), (poses[i], poses[j]))
        flow = flow.view(rows, columns, 2).numpy() + 0.05 * noise.normal(size=(rows, columns, 2))
        looks[i, j] = flow, np.ones((rows, columns))
    assert camera_kind(looks, lens[0].numpy(), np.zeros((3, 60, 80), bool), side) is kind


class Slow(Flow):
    """A camera that moves by a little from frame to frame, or turns; frames are told by their grey levels."""

    def __init__(self, sideways: float, turn: float) -> None:
        self.depth = np.where(np.arange(80) < 40, 1.0, 6.0) * np.ones((60, 1))
        self.sideways, self.turn = sideways, turn

    def flow(self, image0: np.ndarray, image1: np.ndarray) -> np.ndarray:
        apart = float(image1[0, 0, 0]) - float(image0[0, 0, 0])
        along = apart * (self.sideways / self.depth + self.turn)
        return np.stack([along, 0 * along], -1).astype(np.float32)


@pytest.mark.parametrize(
    ("flow", "kind"),
    [(Slow(0.4, 0.0), CameraKind.MOVES), (Slow(0.0, 0.4), CameraKind.TURNS), (Slow(0, 0), CameraKind.STILL)],
)
def test_a_slow_camera_is_seen_to_move_over_longer_than_from_frame_to_frame(flow, kind):
    rgb = np.arange(17, dtype=np.uint8)[:, None, None, None].repeat(60, 1).repeat(80, 2).repeat(3, 3)
    looks = {}
    for first in range(16):
        mean, weight = on_cells(flow.flow(rgb[first], rgb[first + 1]), np.ones((60, 80), bool))
        looks[first, first + 1] = mean, weight
    lens, nothing = pinhole(torch.tensor([900.0]).double(), 60, 80)[0].numpy(), np.zeros((17, 60, 80), bool)
    if kind is CameraKind.MOVES:
        assert camera_kind(looks, lens, nothing, 2) is not kind
    assert what_the_camera_does(looks, flow, rgb, lens, nothing) is kind


def test_what_cannot_be_asked_for_is_refused():
    with pytest.raises(UsageError, match="--motion 'maybe': must be auto, on, off"):
        AlignmentOptions(motion="maybe")
    check_motion(AlignmentOptions(motion="off", flow="nothing"))
    for wrong in ({"flow": "nothing"}, {"mask_by": "guess"}, {"terms": ["speed"]}):
        with pytest.raises(UsageError, match="installed"):
            check_motion(AlignmentOptions(**wrong))


def test_motion_is_found_left_out_of_the_cameras_and_told(tmp_path, monkeypatch):
    frames, truth = truthful_clip(tmp_path / "clip", seed=1, frames=4)
    install(tmp_path / "site", monkeypatch, truth)
    folders = {}
    for motion in ("on", "off"):
        options = AlignmentOptions(motion=motion, mask_by="ego-flow")
        reconstruct(frames, tmp_path / motion, weights="truthful", query_times=[], alignment=options)
        folders[motion] = json.loads((tmp_path / motion / "manifest.json").read_text())
    assert folders["off"]["motion"] is None
    assert folders["on"]["motion"]["mask_by"] == "ego-flow"
    assert folders["on"]["settings"]["alignment"]["motion"] == "on"
    assert len(folders["on"]["motion"]["moving_share"]) == 4
    assert "motion" in folders["on"]["stages"]
    moving = [line for line in alignment_lines(folders["on"]) if line.startswith("moving")]
    assert len(moving) == 1
    assert "by ego-flow; the camera" in moving[0]
    assert not any(line.startswith("moving") for line in alignment_lines(folders["off"]))
