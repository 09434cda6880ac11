"""Options, what is known, and devices on the way into an alignment and out of it."""

import numpy as np
import pytest
import torch

from stereo4d.alignment.known import Known, KnownDepths, KnownPoses
from stereo4d.alignment.solver import ReweightedLeastSquares
from stereo4d.errors import UsageError
from stereo4d.types import PairPrediction
from stereo4d.video.aligning import load_solver, moved
from stereo4d.video.options import DEFAULT_TERMS, AlignmentOptions

ONE_SIZE, TWO_SIZES = np.tile([48, 64], (3, 1)), np.array([[48, 64], [48, 64], [40, 64]])


@pytest.mark.parametrize(
    ("options", "one_size", "two_sizes"),
    [
        (AlignmentOptions(), True, False),
        (AlignmentOptions(shared_focal=True), True, True),
        (AlignmentOptions(per_frame_focal=True), False, False),
    ],
    ids=["by size", "shared", "per frame"],
)
def test_frames_of_one_size_share_a_focal_unless_told_otherwise(options, one_size, two_sizes):
    assert options.shares_focal(ONE_SIZE) is one_size
    assert options.shares_focal(TWO_SIZES) is two_sizes


def test_both_rules_for_the_focal_at_once_are_refused():
    with pytest.raises(UsageError, match="--shared-focal and --per-frame-focal exclude each other"):
        AlignmentOptions(shared_focal=True, per_frame_focal=True)


def test_the_usual_solver_needs_no_plug_in_and_another_is_asked_for_by_name():
    assert isinstance(load_solver("reweighted"), ReweightedLeastSquares)
    with pytest.raises(UsageError, match=r"--solver 'newton' is not installed; there are reweighted"):
        load_solver("newton")


def test_all_tensors_of_a_record_move_to_a_device_those_of_its_parts_too():
    frames = torch.arange(2)
    known = Known(
        poses=KnownPoses(frames, torch.eye(4).repeat(2, 1, 1), 3.0), depths=KnownDepths(frames, torch.ones(2, 4, 6))
    )
    there = moved(known, torch.device("meta"))  # a device every machine has
    assert (
        there.poses.cam2world.device.type == there.poses.frames.device.type == there.depths.depth.device.type == "meta"
    )
    assert there.poses.weight == 3.0
    assert there.masks is None
    assert known.poses.cam2world.device.type == "cpu"
    told = PairPrediction(*(torch.ones(1, 4, 6, 3), torch.ones(1, 4, 6)) * 2)
    assert moved(told, torch.device("meta")).confidence1.device.type == "meta"
    assert (
        moved(told, torch.device("cpu")).pointmap0.data_ptr() == told.pointmap0.data_ptr()
    )  # no copy where none is due


def test_pairs_with_masks_of_their_own_are_judged_by_flow_only_where_it_is_asked_for():
    assert AlignmentOptions().term_names("heads") == []
    assert AlignmentOptions().term_names("ego-flow") == list(DEFAULT_TERMS)
    assert AlignmentOptions(mask_by="heads").term_names("heads") == list(DEFAULT_TERMS)
    assert AlignmentOptions(terms=["flow"]).term_names("heads") == ["flow"]
    assert AlignmentOptions(terms=[]).term_names("ego-flow") == []
