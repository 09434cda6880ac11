import torch

from stereo4d.alignment import AlignmentState, alignment_loss
from stereo4d.alignment.depth import Measured, best_depth, dense_depth, feet, ray_directions, sampled_loss
from stereo4d.alignment.initialise import initialise
from stereo4d.alignment.survey import survey
from stereo4d.geometry.camera import pinhole, pixel_grid
from tests.worlds import problem_of


def rays(height: int, width: int) -> torch.Tensor:
    """(3, P) of a camera at the origin."""
    pixels = pixel_grid(height, width).reshape(-1, 2)
    return ray_directions(pixels, pinhole(torch.tensor(5.0), height, width), torch.eye(3))


def test_rays_point_through_their_pixels():
    seen = rays(2, 4).reshape(3, 2, 4)
    torch.testing.assert_close(seen[:, 1, 3], torch.tensor([(3 - 2) / 5, (1 - 1) / 5, 1]))


def test_a_point_on_the_ray_is_its_own_foot():
    direction = rays(2, 3)
    dropped = feet(3 * direction[None], direction)
    torch.testing.assert_close(dropped.foot, 3 * direction.norm(dim=0)[None])
    torch.testing.assert_close(dropped.distance(torch.full((6,), 3.0)), torch.zeros(1, 6), atol=1e-6, rtol=0)


def test_the_best_depth_is_a_weighted_median_where_all_points_lie_on_the_ray():
    direction = rays(1, 1)
    points = torch.tensor([1.0, 2.0, 9.0])[:, None, None] * direction
    depth = best_depth(feet(points, direction), torch.ones(3, 1), floor=1e-4, rounds=200)
    torch.testing.assert_close(depth, torch.tensor([2.0]), atol=1e-3, rtol=0)


def test_the_best_depth_is_never_behind_the_camera():
    direction = rays(2, 2)
    dropped = feet(-direction[None], direction)
    assert (best_depth(dropped, torch.ones(1, 4), floor=0.01, rounds=5) == torch.tensor(0.01)).all()


def test_known_depth_is_held_or_outvotes_the_pairs_by_its_weight():
    direction = rays(1, 2)
    dropped = feet(torch.stack([1.0 * direction, 3.0 * direction]), direction)
    told = torch.tensor([2.5, 0.0])  # nothing is known of the second pixel
    held = best_depth(dropped, torch.tensor([[1.0], [5.0]]), floor=1e-4, rounds=99, known=Measured(told, None))
    torch.testing.assert_close(held, torch.tensor([2.5, 3.0]), atol=1e-3, rtol=0)
    for weight, expected in ((3.0, 3.0), (5.0, 2.5)):
        known = Measured(told, torch.full((2,), weight))
        found = best_depth(dropped, torch.tensor([[1.0], [5.0]]), floor=1e-4, rounds=999, known=known)
        torch.testing.assert_close(found, torch.tensor([expected, 3.0]), atol=1e-2, rtol=0)


def test_dense_depth_reports_the_loss_of_its_own_answer():
    _, problem = problem_of(4, noise=0.03)
    cameras = initialise(survey(problem))
    depth, loss = dense_depth(problem, cameras, floor=1e-4)
    state = AlignmentState(cameras.cam2world.float(), cameras.intrinsics.float(), depth, cameras.pair2world.float())
    assert abs(alignment_loss(problem, state) - loss) < 1e-5 * loss
    assert abs(sampled_loss(problem, cameras, floor=1e-4) - loss) < 1e-6 * loss  # a sample of few pixels is all of them


def test_dense_depth_is_at_its_minimum():
    _, problem = problem_of(4, noise=0.03)
    cameras = initialise(survey(problem))
    depth, loss = dense_depth(problem, cameras, floor=1e-4, rounds=100)
    for factor in (0.98, 1.02):
        state = AlignmentState(
            cameras.cam2world.float(), cameras.intrinsics.float(), factor * depth, cameras.pair2world.float()
        )
        assert alignment_loss(problem, state) > loss


def test_depth_of_some_frames_is_that_of_all():
    _, problem = problem_of(4, noise=0.03)
    cameras = initialise(survey(problem))
    whole, some = (dense_depth(problem, cameras, floor=1e-4, frames=frames)[0] for frames in (None, [2, 0]))
    assert torch.equal(some, whole[[2, 0]])
