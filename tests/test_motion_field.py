"""Motion fields: three ways to say where points are at other times, held to the same promises."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from stereo4d.errors import ShapeError, UsageError
from stereo4d.motion import AbsoluteField, DisplacementField, MotionField, SplineField, SupportedTimes, bspline_weights

PAIRS, HEIGHT, WIDTH = 2, 3, 5
TIMES = torch.tensor([[0.5, 0.25, 1.0], [0.1, 1.0, 0.7]])
"""Of the fields below: others in each pair, and in no order."""


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def displaced(own_time: float = 0.0, **parts: Tensor) -> DisplacementField:
    return DisplacementField(
        parts.get("points", drawn(PAIRS, HEIGHT, WIDTH, 3)),
        own_time,
        parts.get("times", TIMES),
        parts.get("displacements", drawn(PAIRS, 3, HEIGHT, WIDTH, 3, seed=1)),
        parts.get("confidences", 1 + drawn(PAIRS, 3, HEIGHT, WIDTH, seed=2).exp()),
    )


def absolute(own_time: float = 0.0) -> AbsoluteField:
    return AbsoluteField(
        drawn(PAIRS, HEIGHT, WIDTH, 3),
        own_time,
        TIMES,
        drawn(PAIRS, 3, HEIGHT, WIDTH, 3, seed=1),
        1 + drawn(PAIRS, 3, HEIGHT, WIDTH, seed=2).exp(),
    )


def spline(own_time: float = 0.0, controls: int = 5) -> SplineField:
    return SplineField(
        drawn(PAIRS, controls, HEIGHT, WIDTH, 3), 1 + drawn(PAIRS, controls, HEIGHT, WIDTH, seed=2).exp(), own_time
    )


every_field = pytest.mark.parametrize("make", [displaced, absolute, spline])
either_view = pytest.mark.parametrize("own_time", [0.0, 1.0])


@every_field
@either_view
def test_positions_are_the_points_and_their_displacement(make: Callable[[float], MotionField], own_time: float) -> None:
    field = make(own_time)
    points = field.points(TIMES)
    assert points.shape == (PAIRS, 3, HEIGHT, WIDTH, 3)
    torch.testing.assert_close(points, field.own_points[:, None] + field.displacement(TIMES))
    assert field.confidence(TIMES).shape == points.shape[:-1]


@every_field
@either_view
def test_nothing_has_moved_at_the_own_time(make: Callable[[float], MotionField], own_time: float) -> None:
    field = make(own_time)
    own = torch.full((PAIRS, 1), own_time)
    assert not field.displacement(own).any()
    assert torch.equal(field.points(own)[:, 0], field.own_points)


def test_nothing_has_moved_at_the_own_time_whatever_a_head_says() -> None:
    field = displaced(1.0, displacements=torch.full((PAIRS, 3, HEIGHT, WIDTH, 3), 7.0))
    # one of the head's times is the own time, at which it says 7
    assert not field.displacement(torch.ones(PAIRS, 1)).any()
    # and towards it motion fades, without a jump
    nearly = field.displacement(torch.full((PAIRS, 1), 1 - 1e-4))
    assert 0 < nearly.max() < 0.01


class Restless(MotionField):
    """A stranger's field, which says that everything moves by 7 at all times."""

    own_time = 1.0
    own_points = torch.zeros(1, 2, 2, 3)
    supported_times = SupportedTimes(torch.tensor([[0.0, 1.0]]))

    def _displacement(self, times: Tensor) -> Tensor:
        return torch.full((*times.shape, 2, 2, 3), 7.0)

    def _confidence(self, times: Tensor) -> Tensor:
        return torch.full((*times.shape, 2, 2), torch.nan)


def test_a_strangers_field_keeps_the_promises_of_all() -> None:
    field = Restless()
    assert field.points(torch.tensor([[0.5, 1.0]])).amax((0, 2, 3, 4)).tolist() == [7, 0]
    assert (field.confidence(torch.tensor([[0.5]])) == 1).all()
    with pytest.raises(UsageError, match="from 0 to 1"):
        field.points(torch.tensor([[2.0]]))


@either_view
def test_what_was_predicted_at_a_time_is_what_is_answered_then(own_time: float) -> None:
    displacements, confidences = drawn(PAIRS, 3, HEIGHT, WIDTH, 3), 1 + drawn(PAIRS, 3, HEIGHT, WIDTH).exp()
    field = displaced(own_time, displacements=displacements, confidences=confidences)
    moved = own_time != TIMES
    assert torch.equal(field.displacement(TIMES)[moved], displacements[moved])
    assert torch.equal(field.confidence(TIMES), confidences)
    positions = absolute(own_time).points(TIMES)
    torch.testing.assert_close(positions[moved], drawn(PAIRS, 3, HEIGHT, WIDTH, 3, seed=1)[moved])


def test_displacements_are_linear_between_their_times_and_from_rest() -> None:
    field = displaced(0.0)
    ends = field.displacement(TIMES.sort(dim=1).values)
    times = TIMES.sort(dim=1).values
    for before, after in ((0, 1), (1, 2)):
        between = 0.75 * times[:, before] + 0.25 * times[:, after]
        expected = 0.75 * ends[:, before] + 0.25 * ends[:, after]
        torch.testing.assert_close(field.displacement(between[:, None])[:, 0], expected)
    torch.testing.assert_close(field.displacement(times[:, :1] / 2)[:, 0], ends[:, 0] / 2)
    # rest is known; between it and the first sample the sample's confidence stands
    assert torch.equal(field.confidence(times[:, :1] / 2), field.confidence(times[:, :1]))


def test_pairs_are_asked_at_times_of_their_own() -> None:
    field = spline()
    times = torch.tensor([[0.2, 0.9], [0.6, 0.0]])
    together = field.points(times)
    for pair in range(PAIRS):
        alone = SplineField(field.control_points[[pair]], field.control_confidences[[pair]], 0.0)
        torch.testing.assert_close(together[[pair]], alone.points(times[[pair]]))


@every_field
def test_confidence_is_finite_and_at_least_one(make: Callable[[float], MotionField]) -> None:
    assert (make(0.0).confidence(TIMES) >= 1).all()
    wild = drawn(PAIRS, 3, HEIGHT, WIDTH)
    wild[0, :, 0, 0], wild[0, :, 0, 1], wild[0, :, 0, 2] = torch.nan, torch.inf, -torch.inf
    found = displaced(confidences=wild).confidence(TIMES)
    assert torch.isfinite(found).all()
    assert found.min() == 1
    assert found[0, 0, 0].tolist()[:3] == [1, torch.finfo(torch.float32).max, 1]


@pytest.mark.parametrize(
    ("field", "time", "rule"),
    [
        (displaced(), 1.1, "from 0 to 1"),
        (displaced(), -0.1, "from 0 to 1"),
        (displaced(times=torch.tensor([[0.2], [0.5]]).expand(2, 3)), 0.3, "pair 0: motion is known from 0 to 0.2"),
        (displaced(1.0, times=TIMES.clamp(min=0.5)), 0.4, "from 0.5 to 1"),
        (absolute(), 0.6, r"only at 0, 0\.25, 0\.5, 1"),
        (spline(), 1.01, "from 0 to 1"),
        (spline(), torch.nan, "from 0 to 1"),
        (displaced(), torch.nan, "query time nan"),
        (absolute(), torch.nan, "only at"),
    ],
)
def test_times_at_which_motion_is_not_known_are_refused(field: MotionField, time: float, rule: str) -> None:
    for ask in (field.points, field.displacement, field.confidence):
        with pytest.raises(UsageError, match=rule):
            ask(torch.tensor([[0.0, time], [0.0, 0.0]]))


@every_field
def test_times_that_are_not_those_of_the_pairs_are_refused(make: Callable[[float], MotionField]) -> None:
    for times in (torch.tensor([0.0, 1.0]), torch.zeros(3, 1)):
        with pytest.raises(ShapeError, match="here"):
            make(0.0).points(times)


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="at least one time"):
        displaced(times=torch.zeros(PAIRS, 0), displacements=torch.zeros(PAIRS, 0, HEIGHT, WIDTH, 3))
    with pytest.raises(ShapeError, match="maps"):
        displaced(displacements=torch.zeros(PAIRS, 2, HEIGHT, WIDTH, 3))
    with pytest.raises(ShapeError, match="at least 4 controls"):
        spline(controls=3)


@pytest.mark.parametrize("controls", [4, 5, 7, 10])
def test_splines_are_those_of_scipy(controls: int) -> None:
    times = torch.linspace(0, 1, 41, dtype=torch.float64)
    weights = bspline_weights(times, controls)
    knots = np.concatenate([np.zeros(3), np.linspace(0, 1, controls - 2), np.ones(3)])
    expected = BSpline(knots, np.eye(controls), 3)(times.numpy())
    np.testing.assert_allclose(weights.numpy(), expected, atol=1e-12)
    # in single precision, times on a knot included
    np.testing.assert_allclose(bspline_weights(times.float(), controls).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("controls", [4, 6, 10])
def test_splines_are_a_partition_of_unity_and_end_at_their_ends(controls: int) -> None:
    weights = bspline_weights(torch.linspace(0, 1, 101, dtype=torch.float64), controls)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(101, dtype=torch.float64))
    field = spline(controls=controls)
    ends = field.points(torch.tensor([[0.0, 1.0]] * PAIRS))
    torch.testing.assert_close(ends, field.control_points[:, [0, -1]])
    torch.testing.assert_close(
        field.confidence(torch.tensor([[0.0, 1.0]] * PAIRS)), field.control_confidences[:, [0, -1]]
    )


def test_splines_move_with_the_world() -> None:
    field, times = spline(1.0), torch.rand(PAIRS, 4)
    turn, shift = torch.linalg.qr(drawn(3, 3)).Q * 1.7, drawn(3)
    moved = SplineField(field.control_points @ turn + shift, field.control_confidences, 1.0)
    torch.testing.assert_close(moved.points(times), field.points(times) @ turn + shift, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(moved.displacement(times), field.displacement(times) @ turn, atol=1e-5, rtol=1e-5)


def test_splines_draw_straight_lines() -> None:
    controls = 7
    knots = np.concatenate([np.zeros(3), np.linspace(0, 1, controls - 2), np.ones(3)])
    # control points at the means of three knots, the Greville abscissae, say the time itself
    along = torch.tensor([knots[k + 1 : k + 4].mean() for k in range(controls)], dtype=torch.float64)
    direction = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    control = (along[:, None] * direction)[None, :, None, None]
    times = torch.linspace(0, 1, 11, dtype=torch.float64)[None]
    field = SplineField(control, torch.ones(control.shape[:-1], dtype=torch.float64), 0.0)
    torch.testing.assert_close(field.displacement(times)[0, :, 0, 0], times[0, :, None] * direction)


@either_view
def test_the_three_agree_about_one_motion(own_time: float) -> None:
    curve = spline(own_time, controls=6)
    sampled = torch.linspace(0, 1, 129).expand(PAIRS, 129)
    positions, moved, sure = curve.points(sampled), curve.displacement(sampled), curve.confidence(sampled)
    displacement = DisplacementField(curve.own_points, own_time, sampled, moved, sure)
    position = AbsoluteField(curve.own_points, own_time, sampled, positions, sure)
    torch.testing.assert_close(displacement.points(sampled), positions)
    torch.testing.assert_close(position.points(sampled), positions)
    torch.testing.assert_close(position.confidence(sampled), displacement.confidence(sampled))
    # between samples displacements are chords of the curve
    between = torch.rand(PAIRS, 20, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(displacement.points(between), curve.points(between), atol=5e-3, rtol=0)


def test_gradients_reach_what_was_predicted_and_not_the_own_time() -> None:
    displacements = drawn(PAIRS, 3, HEIGHT, WIDTH, 3).requires_grad_()
    displaced(displacements=displacements).displacement(torch.zeros(PAIRS, 1)).sum().backward()
    assert displacements.grad is not None
    assert not displacements.grad.any()
    displaced(displacements=displacements).displacement(TIMES).sum().backward()
    assert (displacements.grad == 1).all()
