import pytest
import torch

from stereo4d.alignment.block_system import BlockPattern, frame_ranks, make_layout
from tests.worlds import window_edges

CYCLIC = torch.tensor([(i, (i + o) % 9) for i in range(9) for o in (1, 2)])
COMPLETE = torch.tensor([(i, j) for i in range(5) for j in range(5) if i != j])
GRAPHS = {"window": (window_edges(11, 2), 11), "cyclic": (CYCLIC, 9), "complete": (COMPLETE, 5)}
GRAPHS |= {"one frame": (torch.tensor([[0, 0], [0, 0]]), 1), "two frames": (torch.tensor([[1, 0]]), 2)}


def pieces_of(layout, edges: torch.Tensor, frames: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The unknowns of every frame with its pairs, and a random positive definite matrix for each."""
    generator = torch.Generator().manual_seed(0)
    rows, matrices = [], []
    for frame in range(frames):
        pairs = torch.cat([(edges[:, side] == frame).nonzero()[:, 0] for side in (0, 1)])
        rows.append(torch.cat([layout.pose[frame], layout.lens[frame], layout.pair[pairs].flatten()]))
        root = torch.randn(len(rows[-1]), len(rows[-1]), generator=generator, dtype=torch.float64)
        matrices.append(root @ root.T)
    return rows, matrices


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("graph", GRAPHS)
def test_a_block_system_solves_what_the_whole_matrix_does(graph, shared):
    edges, frames = GRAPHS[graph]
    layout = make_layout(edges, frames, shared_lens=shared)
    rows, matrices = pieces_of(layout, edges, frames)
    whole = torch.zeros(layout.size, layout.size, dtype=torch.float64)
    for row, matrix in zip(rows, matrices, strict=True):
        whole.index_put_((row[:, None], row[None, :]), matrix, accumulate=True)
    generator = torch.Generator().manual_seed(1)
    right, added = torch.randn(2, layout.size, generator=generator, dtype=torch.float64)
    added = added.abs() + 0.1
    held = torch.zeros(layout.size, dtype=torch.bool)
    held[layout.pose[0]] = True
    held[layout.lens[:, 1]] = True
    found = BlockPattern(layout, rows, held).add_up(matrices).solve(right, added)
    free = ~held
    expected = torch.zeros_like(right)
    expected[free] = torch.linalg.solve((whole + added.diag())[free][:, free], right[free])
    torch.testing.assert_close(found, expected)


def test_every_unknown_stands_in_one_place():
    for shared in (True, False):
        edges, frames = GRAPHS["cyclic"]
        layout = make_layout(edges, frames, shared_lens=shared)
        assert layout.size == 6 * 9 + (3 if shared else 27) + 7 * 18
        places = torch.cat([layout.pose.flatten(), layout.lens.flatten(), layout.pair.flatten()]).unique()
        assert places.tolist() == list(range(layout.size))


def test_the_largest_block_does_not_grow_with_the_clip():
    sizes = [max(make_layout(window_edges(n, 3), n, shared_lens=True).block_sizes) for n in (20, 40, 80)]
    assert sizes[0] == sizes[1] == sizes[2]


def test_a_ring_is_put_in_an_order_without_far_pairs():
    rank = frame_ranks(CYCLIC.numpy(), 9)
    assert sorted(rank.tolist()) == list(range(9))
    assert abs(rank[CYCLIC[:, 0]] - rank[CYCLIC[:, 1]]).max() <= 5  # as they come: 8


def test_a_matrix_that_is_not_positive_definite_is_said_to_be_so():
    edges, frames = GRAPHS["window"]
    layout = make_layout(edges, frames, shared_lens=True)
    rows, matrices = pieces_of(layout, edges, frames)
    system = BlockPattern(layout, rows, torch.zeros(layout.size, dtype=torch.bool)).add_up([-m for m in matrices])
    assert system.solve(torch.ones(layout.size).double(), torch.full((layout.size,), 1e-3).double()) is None
