from dataclasses import replace

import pytest
import torch

from stereo4d.alignment import AlignmentProblem, align
from stereo4d.alignment.known import HARD, Known, KnownDepths, KnownIntrinsics, KnownPoses, Masks
from stereo4d.errors import AlignmentError, ShapeError
from stereo4d.geometry.camera import pinhole
from stereo4d.geometry.rigid import rotation_from_vector
from tests.worlds import World, problem_of

FRAMES = 8
EVERY = torch.arange(FRAMES)


@pytest.fixture(scope="module")
def told() -> tuple[World, AlignmentProblem]:
    """A noisy problem: 3 % per pixel."""
    return problem_of(FRAMES, 18, 24, noise=0.03, seed=1)


def elsewhere(world: World) -> torch.Tensor:
    """The true cameras in a world of somebody's own: another origin, other axes, another unit."""
    moved = world.cam2world.clone()
    turn = rotation_from_vector(torch.tensor([0.4, -1.0, 0.3]).double())
    moved[:, :3, :3] = turn @ moved[:, :3, :3]
    moved[:, :3, 3] = 7.0 * moved[:, :3, 3] @ turn.T + torch.tensor([10.0, -20.0, 30.0])
    return moved


def true_intrinsics(world: World) -> torch.Tensor:
    return pinhole(world.focal, *world.depth.shape[1:])


def aligned(problem: AlignmentProblem, **known: object):
    return align(replace(problem, known=Known(**known)))


def residual(result, quantity: str):
    return next(entry for entry in result.known if entry.quantity == quantity)


@pytest.mark.parametrize("frames", [[0, 1, 2, 3, 4, 5, 6, 7], [1, 4, 6]])
def test_poses_held_hard_are_those_of_the_answer_in_their_own_world_and_unit(told, frames):
    world, problem = told
    chosen, given = torch.tensor(frames), elsewhere(world)
    result = aligned(problem, poses=KnownPoses(chosen, given[chosen]))
    torch.testing.assert_close(result.cam2world[chosen], given[chosen].float(), atol=1e-4, rtol=0)
    assert result.scale_given
    # The others and the depths follow, in that unit.
    away = (result.cam2world.double() - given)[:, :3, 3].norm(dim=-1)
    assert away.max() < 0.05 * (given[-1] - given[0])[:3, 3].norm() + 0.3
    assert (result.depth.double() / (7 * world.depth)).median().item() == pytest.approx(1, abs=0.06)
    assert residual(result, "rotation").answer == pytest.approx([0.0] * len(frames), abs=1e-4)
    assert max(residual(result, "rotation").pairs) > 0.01  # what the pairs alone say is not quite that


def test_a_weight_lies_between_nothing_and_holding(told):
    world, problem = told
    wrong = world.cam2world.clone()
    wrong[4, :3, :3] = rotation_from_vector(torch.tensor([0.0, 0.1, 0.0]).double()) @ wrong[4, :3, :3]
    turned = []
    for weight in (0.01, 1.0, 100.0, HARD):
        result = aligned(problem, poses=KnownPoses(EVERY, wrong, weight))
        turned.append(residual(result, "rotation").answer[4])
    assert turned == sorted(turned, reverse=True)
    assert turned[0] > 4  # degrees of the 5.7 that frame 4 is wrong by
    assert turned[-1] < 1e-4 < 0.5 * turned[0] < turned[0]


def test_one_pose_places_the_world_but_gives_no_unit(told):
    world, problem = told
    given = elsewhere(world)
    result = aligned(problem, poses=KnownPoses(torch.tensor([3]), given[[3]]))
    torch.testing.assert_close(result.cam2world[3], given[3].float(), atol=1e-4, rtol=0)
    assert not result.scale_given
    assert result.pair2world[:, 0, :3].norm(dim=-1).log().mean().exp().item() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("weight", [HARD, 1e4])
def test_intrinsics_held_hard_or_firmly_are_those_of_the_answer(told, weight):
    world, problem = told
    problem = replace(problem, shared_focal=False)
    given = true_intrinsics(world)[[2, 5]]
    given[:, 0, 0] *= 1.05
    given[:, 1, 1] *= 1.04
    given[:, 0, 2] += 1.5
    held = aligned(problem, intrinsics=KnownIntrinsics(torch.tensor([2, 5]), given, weight))
    torch.testing.assert_close(held.intrinsics[[2, 5]], given.float(), atol=0.02 if weight < HARD else 1e-5, rtol=0)
    others = [0, 1, 3, 4, 6, 7]
    torch.testing.assert_close(held.intrinsics[others, 0, 0].double(), world.focal[others], rtol=0.02, atol=0)
    assert residual(held, "focal").pairs == pytest.approx([0.05, 0.05], abs=0.06)


def test_frames_that_share_a_lens_all_take_the_one_that_is_known(told):
    world, problem = told
    given = true_intrinsics(world)[[2]]
    result = aligned(problem, intrinsics=KnownIntrinsics(torch.tensor([2]), given))
    torch.testing.assert_close(result.intrinsics, given.float().expand(FRAMES, -1, -1))


def test_different_lenses_of_frames_that_share_one_are_refused(told):
    world, problem = told
    given = true_intrinsics(world)[[2, 5]]
    given[1, 0, 0] *= 1.1
    with pytest.raises(AlignmentError, match=r"frames 2 and 5 differ by 10\.0 %.*--per-frame-focal"):
        aligned(problem, intrinsics=KnownIntrinsics(torch.tensor([2, 5]), given))


def test_a_principal_point_off_the_centre_is_found_where_it_may_move():
    world, problem = problem_of(6, 18, 24, window=3)
    # A crop: the images lose columns on the left, so the principal point moves.
    told = problem.prediction
    cropped = replace(
        told,
        **{name: getattr(told, name)[:, :, 4:].contiguous() for name in ("pointmap0", "pointmap1")},
        **{name: getattr(told, name)[:, :, 4:].contiguous() for name in ("confidence0", "confidence1")},
    )
    fixed = AlignmentProblem(problem.edges, cropped, 6)
    found = align(replace(fixed, free_principal_point=True))
    expected = torch.tensor([12.0 - 4.0, 9.0])
    torch.testing.assert_close(found.intrinsics[:, :2, 2], expected.expand(6, 2), atol=0.05, rtol=0)
    torch.testing.assert_close(found.intrinsics[:, 0, 0].double(), world.focal, rtol=2e-3, atol=0)
    assert align(fixed).final_loss > 10 * found.final_loss


def test_depths_held_hard_are_those_of_the_answer_where_they_were_measured(told):
    world, problem = told
    given = 5 * world.depth[[1, 6]].float()
    given[0, :9] = torch.nan
    given[1, :, :12] = 0
    result = aligned(problem, depths=KnownDepths(torch.tensor([1, 6]), given))
    measured = given > 0
    torch.testing.assert_close(result.depth[[1, 6]][measured], given[measured], rtol=1e-5, atol=0)
    assert result.scale_given
    assert (result.depth.double() / (5 * world.depth)).median().item() == pytest.approx(1, abs=0.03)
    found = residual(result, "depth")
    assert found.frames == (1, 6)
    assert found.answer == pytest.approx([0, 0], abs=1e-5)
    assert all(0.001 < share < 0.1 for share in found.pairs)


def test_weighted_depths_pull(told):
    world, problem = told
    given = world.depth.float() * (1 + 0.1 * torch.linspace(-1, 1, world.depth.shape[2]))
    errors = [
        residual(aligned(problem, depths=KnownDepths(EVERY, given, weight)), "depth").answer for weight in (0.3, 30.0)
    ]
    assert sum(errors[1]) < 0.5 * sum(errors[0])


def test_all_known_leaves_only_the_pairs_to_find(told):
    world, problem = told
    result = aligned(
        problem,
        intrinsics=KnownIntrinsics(EVERY, true_intrinsics(world)),
        poses=KnownPoses(EVERY, world.cam2world),
        depths=KnownDepths(EVERY, world.depth.float()),
    )
    torch.testing.assert_close(result.cam2world.double(), world.cam2world, atol=1e-5, rtol=0)
    torch.testing.assert_close(result.depth, world.depth.float())
    assert {entry.quantity for entry in result.known} == {"focal", "principal point", "rotation", "position", "depth"}


def test_masked_pixels_do_not_move_the_cameras_but_get_a_depth():
    world, clean = problem_of(6, 18, 24, noise=0.01)
    told = clean.prediction
    # Something comes closer in a third of the image, and every pair believes it.
    ignored = torch.zeros(6, 18, 24, dtype=torch.bool)
    ignored[:, :, :8] = True
    growth = 1 - 0.08 * (clean.edges[:, 1] - clean.edges[:, 0])[:, None, None, None]
    moved = told.pointmap1.clone()
    moved[:, :, :8] = moved[:, :, :8] * growth
    problem = replace(clean, prediction=replace(told, pointmap1=moved))

    def error(result) -> float:
        unit = (result.depth.double() / world.depth)[:, :, 10:].median()
        return float(((result.cam2world.double()[:, :3, 3] / unit) - world.cam2world[:, :3, 3]).norm(dim=-1).mean())

    without, with_masks = align(problem), aligned(problem, masks=Masks(EVERY[:6], ignored))
    assert error(with_masks) < 0.5 * error(without)
    assert error(with_masks) < 1.5 * error(align(clean))
    assert torch.isfinite(with_masks.depth).all()
    assert error(with_masks) < error(aligned(problem, masks=Masks(EVERY[:6], ignored, keeps=0.5))) < error(without)


@pytest.mark.parametrize(
    ("known", "error", "message"),
    [
        ({"poses": KnownPoses(torch.tensor([8]), torch.eye(4)[None])}, AlignmentError, "there are 0 ... 7"),
        ({"poses": KnownPoses(torch.tensor([1, 1]), torch.eye(4).repeat(2, 1, 1))}, AlignmentError, "more than once"),
        ({"poses": KnownPoses(torch.tensor([2]), 2 * torch.eye(4)[None])}, AlignmentError, "frames 2 must be rigid"),
        ({"poses": KnownPoses(torch.tensor([2]), torch.eye(4)[None], -1.0)}, AlignmentError, "weight is -1.0"),
        ({"poses": KnownPoses(torch.tensor([2]), torch.eye(3)[None])}, ShapeError, r"must be \(1, 4, 4\)"),
        ({"intrinsics": KnownIntrinsics(EVERY, -torch.eye(3).repeat(8, 1, 1))}, AlignmentError, "focals above 0"),
        ({"depths": KnownDepths(EVERY, torch.zeros(8, 18, 24))}, AlignmentError, "above 0 somewhere"),
        ({"depths": KnownDepths(EVERY, torch.ones(8, 9, 12))}, ShapeError, r"must be \(8, 18, 24\)"),
        ({"masks": Masks(EVERY, torch.zeros(8, 18, 24) > 1, keeps=2.0)}, AlignmentError, "share from 0 to 1"),
    ],
)
def test_what_cannot_be_known_is_refused_by_frame(told, known, error, message):
    with pytest.raises(error, match=message):
        replace(told[1], known=Known(**known))
