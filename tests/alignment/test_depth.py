import torch

from stereo4d.alignment import AlignmentState, alignment_loss
from stereo4d.alignment.depth import best_depth, camera_rays, dense_depth, feet
from stereo4d.alignment.initialise import initialise
from tests.worlds import problem_of


def test_a_point_on_the_ray_is_its_own_foot():
    rays = camera_rays(4, 6, 2, torch.tensor(5.0))
    assert rays.shape == (2 * 3, 3)
    dropped = feet(3 * rays[None], torch.eye(4), rays)
    torch.testing.assert_close(dropped.foot, torch.full((1, 6), 3.0))
    torch.testing.assert_close(dropped.distance(torch.full((6,), 3.0)), torch.zeros(1, 6), atol=1e-6, rtol=0)


def test_the_best_depth_is_a_weighted_median_where_all_points_lie_on_the_ray():
    rays = camera_rays(1, 1, 1, torch.tensor(5.0))
    points = torch.tensor([1.0, 2.0, 9.0])[:, None, None] * rays
    dropped = feet(points, torch.eye(4), rays)
    depth = best_depth(dropped, torch.ones(3, 1), floor=1e-4, rounds=200)
    torch.testing.assert_close(depth, torch.tensor([2.0]), atol=1e-3, rtol=0)


def test_the_best_depth_is_never_behind_the_camera():
    rays = camera_rays(2, 2, 1, torch.tensor(5.0))
    dropped = feet(-rays[None], torch.eye(4), rays)
    assert (best_depth(dropped, torch.ones(1, 4), floor=0.01, rounds=5) == torch.tensor(0.01)).all()


def test_dense_depth_reports_the_loss_of_its_own_answer():
    _, problem = problem_of(4, noise=0.03)
    cameras = initialise(problem)
    depth, loss = dense_depth(problem, cameras, floor=1e-4)
    state = AlignmentState(cameras.cam2world.float(), cameras.focal.float(), depth, cameras.pair2world.float())
    assert abs(alignment_loss(problem, state) - loss) < 1e-5 * loss


def test_dense_depth_is_at_its_minimum():
    _, problem = problem_of(4, noise=0.03)
    cameras = initialise(problem)
    depth, loss = dense_depth(problem, cameras, floor=1e-4, rounds=100)
    for factor in (0.98, 1.02):
        state = AlignmentState(
            cameras.cam2world.float(), cameras.focal.float(), factor * depth, cameras.pair2world.float()
        )
        assert alignment_loss(problem, state) > loss
