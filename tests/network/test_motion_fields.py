"""Motion fields of what a network predicted: by head, of both views, as the head wrote it."""

from __future__ import annotations

import pytest
import torch

from stereo4d.errors import UsageError
from stereo4d.network.config import HeadChoice
from stereo4d.network.motion_fields import motion_fields
from stereo4d.network.stereo import StereoNetwork
from tests.golden_numbers import drawn_network, small_config

NARROW = {"feature_dim": 6, "last_dim": 4, "layer_dims": [4, 6, 8, 8]}
TIMES = torch.tensor([[0.25, 0.75], [0.5, 0.1]])


@pytest.fixture(scope="module")
def network() -> StereoNetwork:
    heads = {"motion": HeadChoice("motion", {"embed_dim": 16, **NARROW}), "again": HeadChoice("dpt", NARROW)}
    return drawn_network(small_config("dpt", head_options=NARROW, heads=heads))


@torch.no_grad()
def test_fields_say_what_the_motion_head_wrote_of_both_views(network: StereoNetwork) -> None:
    image0, image1 = torch.randn(2, 2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    prediction = network(image0, image1, times=TIMES)
    fields = motion_fields(network, prediction, TIMES)
    assert set(fields) == {"motion"}  # the other head says nothing of motion
    for view, (field, points) in enumerate(
        zip(fields["motion"], (prediction.pointmap0, prediction.pointmap1), strict=True)
    ):
        assert field.own_time == view
        assert torch.equal(field.own_points, points)
        assert torch.equal(field.displacement(TIMES), prediction.extras["motion"][f"displacement{view}"])
        assert torch.equal(field.confidence(TIMES), prediction.extras["motion"][f"confidence{view}"])
        assert not field.displacement(torch.full((2, 1), float(view))).any()
    # view 0 was asked up to 0.75 in the first pair, and starts at 0; view 1 ends at 1
    with pytest.raises(UsageError, match=r"from 0 to 0\.75"):
        fields["motion"][0].points(torch.ones(2, 1))
    with pytest.raises(UsageError, match=r"from 0\.25 to 1"):
        fields["motion"][1].points(torch.zeros(2, 1))


@torch.no_grad()
def test_without_query_times_there_are_no_fields(network: StereoNetwork) -> None:
    image0, image1 = torch.randn(2, 1, 3, 32, 48)
    assert motion_fields(network, network(image0, image1), None) == {}
