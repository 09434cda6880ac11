import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stereo4d.alignment import AlignmentProblem
from stereo4d.types import PairPrediction

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def golden_results() -> dict:
    """Numbers of the reference implementation on the stored scene."""
    return json.loads((GOLDEN / "align_results.json").read_text())


@pytest.fixture(scope="session")
def golden_scene() -> dict[str, torch.Tensor]:
    """Five cameras on an arc, 24 x 32, with predictions of all 20 directed pairs."""
    return {name: torch.from_numpy(array) for name, array in np.load(GOLDEN / "align_scene.npz").items()}


@pytest.fixture(scope="session")
def golden_problem(golden_scene) -> AlignmentProblem:
    scene = golden_scene
    told = PairPrediction(scene["pts3d_1"], scene["conf_1"], scene["pts3d_2"], scene["conf_2"])
    return AlignmentProblem(scene["edges"], told, 5, shared_focal=False)
