import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stereo4d.errors import ShapeError
from stereo4d.geometry.camera import pinhole, unproject
from stereo4d.geometry.pointmap import estimate_focal, shared_focal, weighted_median

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = ("exact", "exact_wide", "noisy", "outliers", "offcentre_pp", "negative_depth")


@pytest.mark.parametrize("case", CASES)
def test_focal_equals_the_stored_reference(case):
    expected = json.loads((GOLDEN / "align_misc.json").read_text())[case]["weiszfeld"]
    pointmap = torch.from_numpy(np.load(GOLDEN / "align_misc.npz")[f"focal_{case}"])[None]
    assert estimate_focal(pointmap).item() == pytest.approx(expected, rel=1e-4)


def test_focal_with_the_true_principal_point_equals_the_stored_reference():
    expected = json.loads((GOLDEN / "align_misc.json").read_text())["offcentre_pp"]
    pointmap = torch.from_numpy(np.load(GOLDEN / "align_misc.npz")["focal_offcentre_pp"])[None]
    found = [estimate_focal(pointmap, principal_point=(16 + du, 12 + dv)).item() for du in (-3, 3) for dv in (-3, 3)]
    assert min(abs(focal - expected["weiszfeld_true_pp"]) for focal in found) < 1e-3


def pointmap_of(focal: float, height: int = 12, width: int = 16) -> torch.Tensor:
    depth = 1 + torch.rand(1, height, width, generator=torch.Generator().manual_seed(0))
    return unproject(depth, pinhole(torch.tensor([focal]), height, width))


def test_confidence_weighs_the_focal():
    right, wrong = pointmap_of(14.0), pointmap_of(30.0)
    mixed, confidence = right.clone(), torch.ones(1, 12, 16)
    mixed[:, :, :11] = wrong[:, :, :11]
    confidence[:, :, :11] = 1e-6
    assert estimate_focal(mixed, confidence).item() == pytest.approx(14.0, rel=1e-3)
    assert estimate_focal(mixed).item() != pytest.approx(14.0, rel=1e-2)


def test_a_pointmap_without_a_focal_gives_nan_not_a_number_from_nowhere():
    assert estimate_focal(torch.zeros(2, 8, 8, 3)).isnan().all()
    mirrored = pointmap_of(14.0) * torch.tensor([-1.0, -1.0, 1.0])
    assert estimate_focal(mirrored).isnan().all()


def test_a_minority_of_confidently_wrong_pointmaps_does_not_move_the_shared_focal():
    pointmaps = torch.cat([pointmap_of(f) for f in (20.0, 20.0, 20.0, 44.0, 50.0)])
    confidence = torch.tensor([1.0, 1.0, 1.0, 1.4, 1.4])[:, None, None].expand(5, 12, 16)
    assert shared_focal(pointmaps, confidence) == pytest.approx(20.0, rel=1e-4)
    assert shared_focal(torch.zeros(2, 12, 16, 3), confidence[:2]) is None


def test_weighted_median_follows_the_weight():
    values = torch.tensor([3.0, 1.0, 2.0])
    assert weighted_median(values, torch.ones(3)) == 2.0
    assert weighted_median(values, torch.tensor([5.0, 1.0, 1.0])) == 3.0


def test_focal_refuses_shapes_that_do_not_fit():
    with pytest.raises(ShapeError, match="confidence"):
        estimate_focal(torch.ones(1, 4, 4, 3), torch.ones(1, 4, 5))
