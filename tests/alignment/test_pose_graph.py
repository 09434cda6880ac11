"""All windows moved together: loops bring a drifted chain back, and loops that nothing agrees with fade out."""

import torch

from stereo4d.alignment.pose_graph import Links, deviations_between, halfway, solve_pose_graph
from stereo4d.geometry.rigid import invert, rotation_from_vector

ONE = torch.ones(1, dtype=torch.float64)


def step(spread: float, generator: torch.Generator) -> torch.Tensor:
    """(4, 4) a random similarity, near the identity where the spread is small."""
    drawn = spread * torch.randn(7, generator=generator, dtype=torch.float64)
    move = torch.eye(4, dtype=torch.float64)
    move[:3, :3] = drawn[6].exp() * rotation_from_vector(drawn[:3])
    move[:3, 3] = drawn[3:6]
    return move


def chain(windows: int = 12, *, noise: float = 0.0, loops: tuple[tuple[int, int], ...] = (), false: int = 0):
    """The truth, the start along the chain, and the links; the last ``false`` loops are plainly wrong."""
    generator = torch.Generator().manual_seed(0)
    truth = [torch.eye(4, dtype=torch.float64)]
    for _ in range(windows - 1):
        truth.append(truth[-1] @ step(0.5, generator))
    ends = [(k, k + 1) for k in range(windows - 1)] + list(loops)
    told = []
    for number, (a, b) in enumerate(ends):
        exact = invert(truth[a]) @ truth[b]
        wrong = number >= len(ends) - false
        spread = 1.0 if wrong else noise if number < windows - 1 else 0.0
        told.append(exact @ step(spread, generator))
    start = [truth[0]]
    for measured in told[: windows - 1]:
        start.append(start[-1] @ measured)
    doubtful = torch.arange(len(ends)) >= windows - 1
    links = Links(torch.tensor(ends), torch.stack(told), torch.ones(len(ends), dtype=torch.float64), doubtful)
    held = torch.zeros(windows, 7, dtype=torch.bool)
    held[0] = True
    return torch.stack(truth), torch.stack(start), links, held


def end_error(world: torch.Tensor, truth: torch.Tensor) -> float:
    return float(deviations_between(truth[-1:], world[-1:], ONE).norm())


def test_a_chain_without_loops_stays_as_it_is():
    _, start, links, held = chain(noise=0.03)
    found = solve_pose_graph(start, torch.ones(12, dtype=torch.float64), links, held)
    torch.testing.assert_close(found.world, start)
    assert bool(found.believed.all())


def test_a_loop_brings_the_end_of_a_drifted_chain_back():
    truth, start, links, held = chain(noise=0.03, loops=((0, 11), (1, 11)))
    found = solve_pose_graph(start, torch.ones(12, dtype=torch.float64), links, held)
    assert end_error(found.world, truth) < end_error(start, truth) / 5
    torch.testing.assert_close(found.world[0], truth[0])


def test_a_loop_that_nothing_agrees_with_loses_its_weight():
    truth, start, links, held = chain(noise=0.03, loops=((0, 11), (1, 11), (2, 7)), false=1)
    found = solve_pose_graph(start, torch.ones(12, dtype=torch.float64), links, held)
    assert found.believed.tolist() == [True] * 13 + [False]
    assert end_error(found.world, truth) < end_error(start, truth) / 5


def test_what_is_held_does_not_move():
    _, start, links, held = chain(noise=0.03, loops=((0, 11),))
    held[5], held[7, 6] = True, True
    found = solve_pose_graph(start, torch.ones(12, dtype=torch.float64), links, held)
    torch.testing.assert_close(found.world[5], start[5])
    torch.testing.assert_close(found.world[7, 0, :3].norm(), start[7, 0, :3].norm())
    assert float((found.world[7] - start[7]).abs().max()) > 1e-4


def test_halfway_is_as_far_from_either_side():
    generator = torch.Generator().manual_seed(1)
    first = step(0.5, generator)
    second = first @ step(0.02, generator)
    middle = halfway(first, second, 1.0)
    apart = [float(deviations_between(side[None], middle[None], ONE).norm()) for side in (first, second)]
    assert abs(apart[0] - apart[1]) < 1e-2 * apart[0]
