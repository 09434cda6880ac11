"""Which pairs contradict the others: every pair is judged by the cycles of the pair graph it takes part in.

All pointmaps of one frame's pixels, whoever predicted them and in whichever camera, show one shape up to a similarity.
One of them is the frame's reference; every pair then carries the reference of one frame onto that of another, and
around a closed chain of pairs these similarities must multiply to the identity. A confidently wrong pair breaks nearly
all of its cycles; a right pair keeps those that meet no wrong one.
"""

from __future__ import annotations

from itertools import combinations, product

import torch
from torch import Tensor

from stereo4d.geometry.rigid import invert, similarity, transform_points

_MOST_CYCLES = 20_000
_TOLERATED_RATIO = 5.0
_TOLERATED_ERROR = 0.02
_LEAST_EXTENT = 1e-3


def contradicting(
    edges: Tensor, points: tuple[Tensor, Tensor], confidence: tuple[Tensor, Tensor], num_frames: int, *, seed: int = 0
) -> Tensor:
    """Pairs that the other pairs speak against: first by the shapes they show, then by the cycles they break.

    Args:
        edges: (E, 2).
        points: (E, P, 3) of view 0 and of view 1, float64, each pair in its own frame and scale.
        confidence: (E, P) of view 0 and of view 1.
        num_frames: N.
        seed: picks the cycles where there are too many to try them all.

    Returns:
        (E,) bool. Errors count when above 2 % of the size of what a frame sees and above five times what is usual.
    """
    references, to_reference, shape_error = _references(edges, points, confidence, num_frames)
    doubted = stands_out(shape_error.amax(1))
    # From the reference of view 1's frame to that of view 0's, through the pair's own frame.
    carried = to_reference[:, 0] @ invert(to_reference[:, 1])
    chains, starts = _cycles(edges, (~doubted).tolist(), seed)
    if chains:
        members = torch.tensor(chains, device=edges.device)
        home = references[torch.tensor(starts, device=edges.device)][:, ::8]
        broken = _broken(_cycle_error(edges, carried, members, home))
        doubted |= _outvoted(members, broken, confidence[0].mean(1) * confidence[1].mean(1))
    return doubted


def stands_out(error: Tensor, *, tolerated: float = _TOLERATED_ERROR) -> Tensor:
    """(E,) bool: errors above ``tolerated`` and five times the lower third's; NaN (not judged) never stands out."""
    # The median would already be a wrong pair's where half of the pairs touch wrong ones.
    return error > (_TOLERATED_RATIO * error.nanquantile(1 / 3)).clamp(min=tolerated)


def without_extent(points: tuple[Tensor, Tensor]) -> Tensor:
    """(E,) bool: pairs one of whose pointmaps, (E, P, 3) each, is a single place; their scale could be anything."""
    empty = []
    for told in points:
        spread = (told - told.mean(1, keepdim=True)).norm(dim=-1).median(1).values
        empty.append(spread <= _LEAST_EXTENT * told.norm(dim=-1).median(1).values)
    return empty[0] | empty[1]


def _references(
    edges: Tensor, points: tuple[Tensor, Tensor], confidence: tuple[Tensor, Tensor], num_frames: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(N, P, 3) references of unit size, (E, 2, 4, 4) similarities onto them, (E, 2) median relative misfits."""
    shown_by, trust = torch.stack(points, 1), torch.stack(confidence, 1)
    references = shown_by.new_zeros(num_frames, *points[0].shape[1:])
    to_reference = torch.eye(4, dtype=references.dtype, device=references.device).repeat(len(edges), 2, 1, 1)
    error = references.new_zeros(len(edges), 2)
    members = [(edges == frame).nonzero().unbind(1) for frame in range(num_frames)]
    misfits = [_misfits(_unit_size(shown_by[pair, side]), trust[pair, side]) for pair, side in members]
    close = _usual(torch.cat([_to_the_nearest(misfit) for misfit in misfits]))
    for frame, ((pair, side), misfit) in enumerate(zip(members, misfits, strict=True)):
        # Most agree with the reference; of several the one that the others are nearest to. Where most of what is told
        # of a frame is wrong, the wrong seldom agree.
        agreeing = misfit < close
        medoid = (agreeing.sum(1) - (misfit * agreeing).sum(1) / misfit.max().clamp(min=1e-12)).argmax()
        original, weight = shown_by[pair, side], trust[pair, side]
        references[frame] = _unit_size(original[medoid][None])[0]
        target = references[frame].expand_as(original)
        fitted = similarity(original, target, weight)
        to_reference[pair, side] = fitted
        error[pair, side] = _misfit(fitted, original, target, weight > 0)
    return references, to_reference, error


def _misfits(shown: Tensor, weight: Tensor) -> Tensor:
    """(K, K) median distances between (K, P, 3) shapes of unit size, each best laid onto each other."""
    first, second = torch.triu_indices(len(shown), len(shown), offset=1, device=shown.device)
    misfit = shown.new_zeros(len(shown), len(shown))
    if len(shown) < 2:
        return misfit
    fitted = similarity(shown[first], shown[second], weight[first])
    misfit[first, second] = misfit[second, first] = _misfit(fitted, shown[first], shown[second], weight[first] > 0)
    return misfit


def _to_the_nearest(misfit: Tensor) -> Tensor:
    """(K,) misfit of each shape to the one most alike; of a shape alone there is nothing to say, (0,)."""
    return misfit.topk(2, dim=1, largest=False).values[:, 1] if len(misfit) > 1 else misfit.new_zeros(0)


def _usual(nearest: Tensor) -> float:
    """How far shapes lie apart that show the same."""
    usual = float(nearest.quantile(1 / 3)) if len(nearest) else 0.0
    return max(_TOLERATED_RATIO * usual, _TOLERATED_ERROR)


def _unit_size(points: Tensor) -> Tensor:
    """(K, P, 3) moved to mean zero and scaled to median distance one from it."""
    centred = points - points.mean(1, keepdim=True)
    return centred / centred.norm(dim=-1).median(1).values.clamp(min=1e-12)[:, None, None]


def _misfit(transform: Tensor, source: Tensor, target: Tensor, counts: Tensor | None = None) -> Tensor:
    """(K,) median distance between (K, P, 3) moved source points and target points, where (K, P) says they count."""
    distance = (transform_points(transform, source) - target).norm(dim=-1)
    if counts is not None and not bool(counts.all()):
        # A frame that is ignored altogether says nothing against anybody.
        distance = torch.where(counts | ~counts.any(1, keepdim=True), distance, torch.nan)
    return distance.nanmedian(1).values


def _cycle_error(edges: Tensor, carried: Tensor, members: Tensor, home: Tensor) -> Tensor:
    """(C,) median distance by which points come back displaced from each cycle.

    Args:
        edges: (E, 2).
        carried: (E, 4, 4) from the reference of view 1's frame to that of view 0's.
        members: (C, 3) first, second (or -1) and closing pair of each cycle.
        home: (C, P, 3) points of the reference where each cycle starts.
    """
    # Upwards: from the lower frame's reference to the higher's.
    upwards = torch.where((edges[:, 0] > edges[:, 1])[:, None, None], carried, invert(carried))
    loop = upwards[members[:, 0]]
    through = (members[:, 1] >= 0)[:, None, None]
    loop = torch.where(through, upwards[members[:, 1].clamp(min=0)] @ loop, loop)
    error = _misfit(invert(upwards[members[:, 2]]) @ loop, home, home)
    return torch.nan_to_num(error, nan=torch.inf)


def _broken(error: Tensor) -> Tensor:
    """(C,) bool: cycles that do not close. What is usual is what the best fifth shows: a few wrong pairs break many."""
    return error > (_TOLERATED_RATIO * error.quantile(0.2)).clamp(min=_TOLERATED_ERROR)


def _outvoted(members: Tensor, broken: Tensor, score: Tensor) -> Tensor:
    """(E,) bool: pairs taken out, one after the other, until none is left that breaks most of its cycles.

    Args:
        members: (C, 3) pairs of each cycle, -1 for none.
        broken: (C,) bool.
        score: (E,) confidence; of two pairs that break the same share of cycles the less confident one goes.
    """
    pairs = len(score)
    out = torch.zeros(pairs, dtype=torch.bool, device=members.device)
    alive = torch.ones_like(broken)
    while True:
        seen, bad = (
            torch.bincount(members[kept].flatten() + 1, minlength=pairs + 1)[1:].double()
            for kept in (alive, alive & broken)
        )
        share = torch.where(seen > 0, bad / seen.clamp(min=1), 0.0)
        worst = share.max()
        if worst <= 0.5:
            return out
        candidates = (share == worst).nonzero()[:, 0]
        taken = candidates[score[candidates].argmin()]
        out[taken] = True
        alive &= ~(members == taken).any(1)


def _cycles(edges: Tensor, usable: list[bool], seed: int) -> tuple[list[tuple[int, int, int]], list[int]]:
    """Closed chains of two or three usable pairs, as (first, second or -1, closing), and the lowest frame of each."""
    between: dict[tuple[int, int], list[int]] = {}
    for index, (i, j) in enumerate(edges.tolist()):
        if i != j and usable[index]:
            between.setdefault((min(i, j), max(i, j)), []).append(index)
    chains = [(a, -1, b) for pairs in between.values() for a, b in combinations(pairs, 2)]
    starts = [low for (low, _), pairs in between.items() for _ in combinations(pairs, 2)]
    higher: dict[int, list[int]] = {}
    for low, high in between:
        higher.setdefault(low, []).append(high)
    for low, above in higher.items():
        for middle, high in combinations(sorted(above), 2):
            if (middle, high) in between:
                triangle = product(between[low, middle], between[middle, high], between[low, high])
                chains.extend(triangle)
                starts.extend([low] * (len(chains) - len(starts)))
    if len(chains) > _MOST_CYCLES:
        chosen = torch.randperm(len(chains), generator=torch.Generator().manual_seed(seed))[:_MOST_CYCLES].tolist()
        chains, starts = [chains[c] for c in chosen], [starts[c] for c in chosen]
    return chains, starts
