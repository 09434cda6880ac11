import json
from pathlib import Path

import numpy as np
import pytest

from stereo4d.errors import GraphError
from stereo4d.video.graph_kinds import KINDS
from stereo4d.video.pair_graph import both_ways, goes_by_similarity, most_pairs, pair_graph, window_graph
from stereo4d.video.retrieval import farthest_frames

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "align_graphs.json").read_text())


def name_of(case):
    """What the reference takes as two arguments is one name here."""
    return ",".join([case["graph"], *([case["kw"]["prefilter"]] if "prefilter" in case["kw"] else [])])


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{case['code']}-{case['n']}-{name_of(case)}")
def test_named_graphs_are_those_of_the_family_both_ways(case):
    # one-way lists and MonST3R's pair of the reference with itself are its accidents: compare without them
    edges = pair_graph(name_of(case), case["n"])
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


@pytest.mark.parametrize(
    "name",
    [
        *("swing-3", "swin-3-cyclic", "swin-3-4", "", "swin--3", "swin-3-noncyclic-4", "complete-2", "oneref--1"),
        *("complete,", "complete,seq", "complete,win3", "complete, seq3", "seq3", ",seq3", "complete,seq-3"),
        *("retrieval", "retrieval-3", "retrieval-0-3", "retrieval-3-2-noncyclic", "retrieval-3-x"),
    ],
)
def test_an_unknown_graph_is_refused_with_the_known_ones(name):
    with pytest.raises(GraphError, match=r"is not understood; there are complete, oneref\[-R\], swin"):
        pair_graph(name, 4)


def test_a_reference_frame_out_of_range_is_refused():
    with pytest.raises(GraphError, match="frames 0 to 3"):
        pair_graph("oneref-4", 4)


def test_several_filters_all_hold():
    edges = pair_graph("complete,seq5,cyc2", 8)
    assert set(edges) == {(i, j) for i in range(8) for j in range(8) if 0 < abs(i - j) <= 2}


def test_a_filter_that_leaves_frames_alone_is_refused():
    with pytest.raises(GraphError, match=r"'swinskip_start-3-noncyclic,seq2' leaves frames 1, 3 of 5"):
        pair_graph("swinskip_start-3-noncyclic,seq2", 5)


@pytest.mark.parametrize("name", [case["graph"] for case in GOLDEN])
def test_the_most_pairs_of_a_graph_that_looks_at_no_frame_are_its_pairs(name):
    assert most_pairs(name, 9) == len(pair_graph(name, 9))
    assert not goes_by_similarity(name)


def test_every_kind_is_told_to_people():
    with pytest.raises(GraphError) as refusal:
        pair_graph("?", 4)
    assert all(word in str(refusal.value) for word in KINDS)


# --- retrieval ----------------------------------------------------------------------------------------------------


def walk_there_and_back(num_frames):
    """Likeness of the frames of a camera that walks along a line and back again, N x N; places are far apart."""
    half = (num_frames - 1) / 2
    place = half - np.abs(np.arange(num_frames) - half)
    return np.exp(-np.square(place[:, None] - place[None]))


def test_retrieval_joins_the_frames_that_see_a_place_again():
    edges = pair_graph("retrieval-1-2", 12, similarity=walk_there_and_back(12))
    assert {(i, 11 - i) for i in range(12)} <= set(edges)


@pytest.mark.parametrize("seed", range(40))
def test_retrieval_graphs_hang_together_both_ways_and_hold_what_they_promise(seed):
    random = np.random.default_rng(seed)
    frames, anchors, neighbours = random.integers(2, 15), random.integers(1, 6), random.integers(0, 5)
    likeness = random.random((frames, frames))
    likeness += likeness.T
    name = f"retrieval-{anchors}-{neighbours}"
    edges = set(pair_graph(name, frames, similarity=likeness))  # refuses graphs that fall apart
    assert edges == {(j, i) for i, j in edges}
    assert all(i != j for i, j in edges)
    assert len(edges) <= most_pairs(name, frames) <= frames * (frames - 1)
    chosen = farthest_frames(likeness, anchors)
    assert {(a, b) for a in chosen for b in chosen if a != b} <= edges
    for frame in range(frames):
        alike = sorted((other for other in range(frames) if other != frame), key=lambda other: -likeness[frame, other])
        assert {(frame, other) for other in alike[:neighbours]} <= edges
        assert frame in chosen or (frame, max(chosen, key=lambda anchor: likeness[frame, anchor])) in edges


def test_anchors_are_the_frame_most_like_all_others_and_then_those_least_like_the_chosen():
    # three groups: 0 1 2, 3 4, 5; inside a group alike
    group = np.array([0, 0, 0, 1, 1, 2])
    likeness = np.where(group[:, None] == group[None], 1.0, 0.2)
    likeness[5, 3:5] = likeness[3:5, 5] = 0.1
    assert farthest_frames(likeness, 3) == [0, 3, 5]
    assert sorted(farthest_frames(likeness, 9)) == list(range(6))


def test_frames_that_all_look_alike_are_paired_with_those_close_in_time():
    edges = pair_graph("retrieval-1-2", 6, similarity=np.ones((6, 6)))
    assert {(2, 1), (2, 3), (4, 3), (4, 5)} <= set(edges)


def test_a_filter_holds_for_retrieval_too():
    edges = pair_graph("retrieval-2-3,seq4", 12, similarity=walk_there_and_back(12))
    assert max(abs(i - j) for i, j in edges) <= 4
    assert len(edges) <= most_pairs("retrieval-2-3,seq4", 12)


@pytest.mark.parametrize("likeness", [None, np.ones((3, 3))])
def test_retrieval_without_the_likeness_of_these_frames_says_who_knows_it(likeness):
    with pytest.raises(GraphError, match=r"retrieval-2-1 goes by how alike frames look, .* stereo4d reconstruct"):
        pair_graph("retrieval-2-1", 4, similarity=likeness)


def test_the_page_on_pairs_names_every_kind():
    page = (Path(__file__).parents[2] / "docs" / "pairs.md").read_text(encoding="utf-8")
    assert [word for word in KINDS if f"| `{word}" not in page] == []
