"""How surfaces move between two views, whatever head said it: one question, three ways to hold the answer.

X(p, t) is where the surface point seen at pixel p of a view is at time t. Heads predict displacements at query times
(DynaDUSt3R), positions at a few fixed times (Dynamic Point Maps, St4RTrack) or the control points of a curve
(Trace Anything); losses, scenes and viewers ask a ``MotionField`` and need not know which.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.errors import ShapeError, UsageError

SAME_TIME = 1e-6
"""Times closer than this are one: float32 tells neighbours apart down to about 1e-7."""
DEGREE = 3  # of the splines


@dataclass(frozen=True, eq=False)
class SupportedTimes:
    """The times at which a field answers, in each of its pairs."""

    moments: Tensor
    """(B, K) ascending, or (1, K) where they are the same in every pair."""
    between: bool = True
    """It also answers anywhere from the first to the last of them; otherwise at them alone."""

    def check(self, times: Tensor) -> None:
        """Refuse (B, Q) times at which there is no answer, NaN among them.

        Raises:
            UsageError: a time is not supported; names it and those that are.
        """
        if self.between:
            lowest, highest = self.moments[:, :1] - SAME_TIME, self.moments[:, -1:] + SAME_TIME
            fine = (times >= lowest) & (times <= highest)
        else:
            fine = ((times[..., None] - self.moments[:, None]).abs() <= SAME_TIME).any(-1)
        if not fine.all():
            pair, query = (~fine).nonzero()[0].tolist()
            moments = [f"{moment:g}" for moment in self.moments[pair % len(self.moments)].tolist()]
            rule = f"from {moments[0]} to {moments[-1]}" if self.between else f"only at {', '.join(moments)}"
            raise UsageError(
                f"query time {times[pair, query].item():g} of pair {pair}: motion is known {rule}; "
                "ask for a time among these, or predict with other times"
            )


class MotionField(ABC):
    """Where the points of one view are at other times, for B pairs, in view 0's camera.

    Times are 0 at view 0 and 1 at view 1. A subclass says what it supports, and answers at supported times.
    """

    own_time: float
    """When the pixels were seen: 0 in view 0, 1 in view 1."""

    @property
    @abstractmethod
    def own_points(self) -> Tensor:
        """(B, H, W, 3) points at the view's own time, in view 0's camera."""

    @property
    @abstractmethod
    def supported_times(self) -> SupportedTimes:
        """The times at which it answers."""

    @abstractmethod
    def _displacement(self, times: Tensor) -> Tensor:
        """(B, Q, H, W, 3) at supported times (B, Q); what it says at the view's own time does not count."""

    @abstractmethod
    def _confidence(self, times: Tensor) -> Tensor:
        """(B, Q, H, W) at supported times (B, Q)."""

    def points(self, times: Tensor) -> Tensor:
        """Positions at query times.

        Args:
            times: (B, Q), as many and whichever times for every pair.

        Returns:
            (B, Q, H, W, 3), in view 0's camera.

        Raises:
            UsageError: a time is not supported.
            ShapeError: times are not (B, Q).
        """
        return self.own_points[:, None] + self.displacement(times)

    def displacement(self, times: Tensor) -> Tensor:
        """(B, Q, H, W, 3) from the own time to query times (B, Q), view 0's axes: exactly zero at the own time.

        It refuses times as ``points`` does.
        """
        times = self._checked(times)
        still = ((times - self.own_time).abs() <= SAME_TIME)[..., None, None, None]
        return self._displacement(times).masked_fill(still, 0)

    def confidence(self, times: Tensor) -> Tensor:
        """(B, Q, H, W) at query times (B, Q): finite, at least 1; 1 where a head said nothing sensible."""
        return sensible(self._confidence(self._checked(times)))

    def _checked(self, times: Tensor) -> Tensor:
        """The times where the points are and as precise, if there is an answer to them."""
        points = self.own_points
        if times.ndim != 2 or len(times) != len(points):
            raise ShapeError(f"query times {tuple(times.shape)} must be (pairs, times), here ({len(points)}, times)")
        times = times.to(points)
        self.supported_times.check(times)
        return times


class _SampledField(MotionField):
    """Displacements at some moments of each pair, and none at the view's own time; linear in between."""

    def __init__(
        self, own_points: Tensor, own_time: float, times: Tensor, displacements: Tensor, confidences: Tensor
    ) -> None:
        """Hold what was predicted.

        Args:
            own_points: (B, H, W, 3) at the view's own time, in view 0's camera.
            own_time: 0 for view 0, 1 for view 1.
            times: (B, Q), in any order, others for every pair if need be.
            displacements: (B, Q, H, W, 3) from the own time to these, view 0's axes.
            confidences: (B, Q, H, W).

        Raises:
            ShapeError: these do not fit together.
        """
        _check_shapes(own_points, times, displacements, confidences)
        confidences = sensible(confidences)
        times = times.to(own_points)
        at_own = (times - own_time).abs() <= SAME_TIME
        self._rows = torch.arange(len(times), device=times.device)[:, None]
        # The view's own time is one more moment: nothing has moved, and that is as sure as the nearest sample.
        own = times.new_full((len(times), 1), own_time)
        nearest = (times - own_time).abs().argmin(1, keepdim=True)
        moments, order = torch.cat([times.masked_fill(at_own, own_time), own], 1).sort(dim=1)
        still = displacements.masked_fill(at_own[..., None, None, None], 0)
        self._own_points, self.own_time, self._moments = own_points, own_time, moments
        self._displacements = torch.cat([still, torch.zeros_like(still[:, :1])], 1)[self._rows, order]
        self._confidences = torch.cat([confidences, confidences[self._rows, nearest]], 1)[self._rows, order]

    @property
    def own_points(self) -> Tensor:
        """(B, H, W, 3) points at the view's own time, in view 0's camera."""
        return self._own_points

    def _displacement(self, times: Tensor) -> Tensor:
        return self._between(self._displacements, times)

    def _confidence(self, times: Tensor) -> Tensor:
        return self._between(self._confidences, times)

    def _between(self, samples: Tensor, times: Tensor) -> Tensor:
        """(B, Q, H, W, ...) of samples (B, K, H, W, ...) at the moments."""
        last = self._moments.shape[1] - 1
        after = torch.searchsorted(self._moments, times.contiguous(), right=True).clamp(1, last)
        start, end = self._moments.gather(1, after - 1), self._moments.gather(1, after)
        share = ((times - start) / (end - start).clamp(min=SAME_TIME)).clamp(0, 1)
        share = share[(..., *[None] * (samples.ndim - 2))]
        return samples[self._rows, after - 1].lerp(samples[self._rows, after], share)


class DisplacementField(_SampledField):
    """What a head says that predicts displacements at query times (DynaDUSt3R, Jin et al. 2025).

    It answers from the first to the last of its times and the view's own: between two of them motion is straight.
    """

    @property
    def supported_times(self) -> SupportedTimes:
        """From the first to the last."""
        return SupportedTimes(self._moments)


class AbsoluteField(_SampledField):
    """What heads say that predict positions at a few fixed times (Dynamic Point Maps, Sucar et al. 2025).

    It answers at these and at the view's own time only.
    """

    def __init__(
        self, own_points: Tensor, own_time: float, times: Tensor, positions: Tensor, confidences: Tensor
    ) -> None:
        """Hold what was predicted.

        Args:
            own_points: see ``DisplacementField``, likewise the others.
            own_time: when the view was seen.
            times: (B, K), in any order.
            positions: (B, K, H, W, 3) of the view's points at these, in view 0's camera.
            confidences: (B, K, H, W).

        Raises:
            ShapeError: these do not fit together.
        """
        _check_shapes(own_points, times, positions, confidences)
        super().__init__(own_points, own_time, times, positions - own_points[:, None], confidences)

    @property
    def supported_times(self) -> SupportedTimes:
        """These, and the view's own."""
        return SupportedTimes(self._moments, between=False)


class SplineField(MotionField):
    """What heads say that predict curves: cubic B-splines over [0, 1] (Trace Anything, Liu et al. 2025).

    Knots are clamped: a curve begins at its first control point and ends at its last.
    """

    def __init__(self, control_points: Tensor, control_confidences: Tensor, own_time: float) -> None:
        """Hold what was predicted.

        Args:
            control_points: (B, K, H, W, 3), in view 0's camera; K is at least 4.
            control_confidences: (B, K, H, W).
            own_time: when the view's pixels were seen, in [0, 1].

        Raises:
            ShapeError: these do not fit together, or there are fewer than four control points.
        """
        shape = tuple(control_points.shape)
        if len(shape) != 5 or shape[-1] != 3 or shape[1] <= DEGREE or tuple(control_confidences.shape) != shape[:-1]:
            raise ShapeError(
                f"control points {shape} and confidences {tuple(control_confidences.shape)} must be "
                f"(pairs, controls, H, W, 3) and (pairs, controls, H, W), with at least {DEGREE + 1} controls"
            )
        self.control_points, self.own_time = control_points, own_time
        self.control_confidences = sensible(control_confidences)
        self._own_weights = bspline_weights(control_points.new_full((1,), own_time), shape[1])[0]  # (K,)

    @property
    def own_points(self) -> Tensor:
        """(B, H, W, 3) points at the view's own time, in view 0's camera."""
        return torch.einsum("k,bkhwc->bhwc", self._own_weights, self.control_points)

    @property
    def supported_times(self) -> SupportedTimes:
        """From 0 to 1."""
        return SupportedTimes(self.control_points.new_tensor([[0.0, 1.0]]))

    def _displacement(self, times: Tensor) -> Tensor:
        # the difference of weights, not of positions: small motions of far points keep their digits
        weights = self._weights(times) - self._own_weights
        return torch.einsum("bqk,bkhwc->bqhwc", weights, self.control_points)

    def _confidence(self, times: Tensor) -> Tensor:
        return torch.einsum("bqk,bkhw->bqhw", self._weights(times), self.control_confidences)

    def _weights(self, times: Tensor) -> Tensor:
        return bspline_weights(times.clamp(0, 1), self.control_points.shape[1])


def bspline_weights(times: Tensor, controls: int) -> Tensor:
    """(..., K) weights, none negative, that add up to 1: a cubic B-spline with clamped uniform knots over [0, 1].

    Args:
        times: (...,) in [0, 1].
        controls: K, at least 4.
    """
    ends = times.new_zeros(DEGREE)
    inner = torch.linspace(0, 1, controls - DEGREE + 1, dtype=times.dtype, device=times.device)
    knots = torch.cat([ends, inner, ends + 1])
    t = times[..., None]
    # Cox-de Boor recursion (de Boor 1972): degree 0 says between which two knots a time lies; 1 lies before the end
    span = (torch.searchsorted(knots, times.contiguous(), right=True) - 1).clamp(DEGREE, controls - 1)
    weights = torch.nn.functional.one_hot(span, len(knots) - 1).to(times)
    for degree in range(1, DEGREE + 1):
        start, end = knots[: -degree - 1], knots[degree + 1 :]
        rise = (t - start) / (knots[degree:-1] - start).clamp(min=SAME_TIME)
        fall = (end - t) / (end - knots[1:-degree]).clamp(min=SAME_TIME)
        weights = rise * weights[..., :-1] + fall * weights[..., 1:]
    return weights


def sensible(confidences: Tensor) -> Tensor:
    """Confidences that are finite and at least 1: 1, which is none, in place of NaN."""
    return confidences.nan_to_num(nan=1.0).clamp(1.0, torch.finfo(confidences.dtype).max)


def _check_shapes(own_points: Tensor, times: Tensor, maps: Tensor, confidences: Tensor) -> None:
    """Raise unless the parts of a sampled field fit together."""
    batch, size = len(own_points), tuple(own_points.shape[1:3])
    queries = times.shape[-1] if times.ndim == 2 else 0
    found = [tuple(value.shape) for value in (own_points, times, maps, confidences)]
    wanted = [(batch, *size, 3), (batch, queries), (batch, queries, *size, 3), (batch, queries, *size)]
    if not queries or found != wanted:
        raise ShapeError(
            f"points {found[0]}, times {found[1]}, maps {found[2]} and confidences {found[3]} must be (B, H, W, 3), "
            "(B, Q), (B, Q, H, W, 3) and (B, Q, H, W), with at least one time"
        )
