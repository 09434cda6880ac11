"""Training pairs as a recording: whole, with both views' points in one frame, whatever way images are stored."""

import pytest
import torch

from stereo4d.data.pair_batch import joined
from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.errors import UsageError
from stereo4d.viewing import load_viewer


def test_pairs_become_a_whole_recording_with_a_moment_for_each(tmp_path):
    from rerun.chunk import RrdReader

    batch = sample_pairs(WorldConfig(moving_share=1.0), 2, 32, 48, seed=1, query_times=1, at_times=(1.0,))
    viewer = load_viewer()
    path = viewer.write_pairs([batch, batch.swapped()], tmp_path / "pairs.rrd")
    viewer.check(path)
    chunks = list(RrdReader(path).stream())
    entities = {str(chunk.entity_path) for chunk in chunks}
    for entity in ("/world/view0/points", "/world/view1/points", "/world/motion", "/world/camera1", "/view1/matches"):
        assert entity in entities
    assert sum(chunk.num_rows for chunk in chunks if str(chunk.entity_path) == "/name") == 4


def test_no_pair_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no pair to show"):
        load_viewer().write_pairs([], tmp_path / "pairs.rrd")


def test_a_pair_without_truth_is_shown_too(tmp_path):
    batch = joined([sample_pairs(WorldConfig(), 1, 32, 48, seed=1)])
    nothing = torch.zeros_like(batch.valid0)
    empty = type(batch)(**{**vars(batch), "valid0": nothing, "valid1": nothing})
    viewer = load_viewer()
    viewer.check(viewer.write_pairs([empty], tmp_path / "pairs.rrd"))
