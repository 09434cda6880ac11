import json
from pathlib import Path

import pytest

from stereo4d.errors import GraphError
from stereo4d.video.pair_graph import both_ways, pair_graph, window_graph

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "align_graphs.json").read_text())


def golden_cases():
    """Graphs of the reference as users get them: no prefilter, which stereo4d does not offer."""
    return [case for case in GOLDEN if "prefilter" not in case["kw"]]


@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: f"{case['code']}-{case['n']}-{case['graph']}")
def test_named_graphs_are_those_of_the_family_both_ways(case):
    # one-way lists and MonST3R's pair of the reference with itself are its accidents: compare without them
    edges = pair_graph(case["graph"], case["n"])
    if case["edges"] is None:  # the large one is stored as a count
        assert len(edges) == case["count"] == case["unique"]
        return
    expected = {tuple(edge) for edge in case["edges"] if edge[0] != edge[1]}
    assert set(edges) == set(both_ways(expected))


def test_a_window_graph_pairs_every_frame_with_its_neighbours_both_ways():
    edges = window_graph(5, 2)
    assert set(edges) == {(i, j) for i in range(5) for j in range(5) if 0 < abs(i - j) <= 2}
    assert len(edges) == len(set(edges))


def test_edges_come_in_an_order_that_visits_frames_from_first_to_last():
    assert [max(edge) for edge in window_graph(9, 3)] == sorted(max(edge) for edge in window_graph(9, 3))


def test_a_single_frame_is_paired_with_itself():
    assert pair_graph("swin-3-noncyclic", 1) == [(0, 0)]


def test_a_window_that_reaches_around_the_ring_pairs_no_frame_with_itself():
    assert set(pair_graph("swin-3", 3)) == {(i, j) for i in range(3) for j in range(3) if i != j}


def test_a_graph_that_leaves_frames_alone_says_which_and_what_to_do():
    with pytest.raises(GraphError, match=r"'swinskip_start-1-noncyclic' leaves frames 1, 3 of 5 .* raise its window"):
        pair_graph("swinskip_start-1-noncyclic", 5)


def test_a_window_of_zero_leaves_everybody_alone():
    with pytest.raises(GraphError, match="leaves frames 1, 2 of 3"):
        pair_graph("swin-0-noncyclic", 3)


@pytest.mark.parametrize("name", ["swing-3", "swin-3-cyclic", "swin-3-4", "", "swin--3"])
def test_an_unknown_graph_is_refused_with_the_known_ones(name):
    with pytest.raises(GraphError, match=r"is not understood; there are complete, oneref\[-R\], swin"):
        pair_graph(name, 4)


def test_a_reference_frame_out_of_range_is_refused():
    with pytest.raises(GraphError, match="frames 0 to 3"):
        pair_graph("oneref-4", 4)
