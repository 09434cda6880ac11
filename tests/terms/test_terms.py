"""Terms: Jacobians by finite differences, what each of them measures, and numbers of the reference."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from stereo4d_plugins.terms.acceleration import Acceleration
from stereo4d_plugins.terms.flow import Fading, FlowTerm
from stereo4d_plugins.terms.still import Still

from stereo4d.alignment.ego_flow import ego_flow
from stereo4d.alignment.terms import ClipEvidence, FlowCells, TermState, load_terms
from stereo4d.errors import AlignmentError, UsageError
from stereo4d.geometry.camera import pixel_grid
from stereo4d.geometry.rigid import rotation_from_vector
from tests.terms.states import moved, random_state

GOLDEN = Path(__file__).parents[1] / "golden"
PAIRS = torch.tensor([[0, 1], [0, 2], [1, 0], [2, 3]])
GRID = (3, 4)


def flow_term(**options: float) -> FlowTerm:
    random = torch.Generator().manual_seed(5)
    flow = 3 * torch.randn(len(PAIRS), 12, 2, generator=random)
    return FlowTerm(FlowCells(PAIRS, flow, torch.rand(len(PAIRS), 12, generator=random), GRID), 16.0, **options)


TERMS = [
    flow_term(most=100.0),
    Acceleration(torch.tensor([0.0, 1.0, 1.5, 3.0]).double()),
    Still(4, translation_weight=0.7),
]


@pytest.mark.parametrize("term", TERMS, ids=lambda term: type(term).__name__)
def test_jacobians_are_those_of_finite_differences(term):
    state = random_state(4, GRID, seed=3)
    chosen = torch.arange(len(term.groups))
    said, step, h = term.at(state, chosen), torch.zeros(4, 9).double(), 1e-6
    still = torch.zeros_like(state.depth)
    for group, frames in enumerate(term.groups.tolist()):
        for place, frame in enumerate(frames):
            for unknown in range(9):
                ends = []
                for sign in (1, -1):
                    changed = step.clone()
                    changed[frame, unknown] = sign * h
                    ends.append(term.at(moved(state, changed, still), chosen).value[group])
                expected = (ends[0] - ends[1]) / (2 * h)
                found = said.jacobian[group, ..., 9 * place + unknown]
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    if said.by_depth is not None:
        ends = [term.at(moved(state, step, still + sign * h), chosen).value for sign in (1, -1)]
        torch.testing.assert_close(said.by_depth, (ends[0] - ends[1]) / (2 * h), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in np.load(GOLDEN / "align_monst3r.npz").items()}


def test_ego_flow_is_that_of_the_reference(golden):
    first, second = golden["edges"].unbind(1)
    height, width = golden["im_depth"].shape[1:]
    lens = golden["gt_K"].float().repeat(4, 1, 1)
    pixels = pixel_grid(height, width).reshape(1, -1, 2).expand(len(first), -1, -1)
    poses = golden["im_poses"].float()
    flow, ahead = ego_flow(
        pixels, golden["im_depth"][first].flatten(1), (lens[first], lens[second]), (poses[first], poses[second])
    )
    expected = golden["ego_flow_ij"].flatten(2).transpose(1, 2)
    assert (ahead > 0).all()
    torch.testing.assert_close(flow, expected, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("weight", [1.0, 0.1, 0.0])
def test_the_prior_for_still_cameras_is_that_of_the_reference(golden, weight):
    term = Still(4, weight=1.0, translation_weight=weight)
    poses = golden["im_poses"].double()
    state = TermState(poses, golden["gt_K"].repeat(4, 1, 1), torch.ones(4, 1).double(), torch.zeros(4, 1, 2), (1, 1), 1)
    total = float(term.at(state, torch.arange(3)).norms().sum())
    results = json.loads((GOLDEN / "align_monst3r.json").read_text())
    assert total == pytest.approx(results[f"smooth_sum_transw{weight}"], rel=1e-5)


def steady_state(times: torch.Tensor) -> TermState:
    turn = rotation_from_vector(times[:, None] * torch.tensor([0.1, -0.2, 0.05]).double())
    cam2world = torch.eye(4).double().repeat(len(times), 1, 1)
    cam2world[:, :3, :3] = turn
    cam2world[:, :3, 3] = times[:, None] * torch.tensor([1.0, 0.5, 2.0]).double()
    ones = torch.ones(len(times), 1).double()
    return TermState(
        cam2world, torch.eye(3).double().repeat(len(times), 1, 1), ones, torch.zeros(len(times), 1, 2), (1, 1), 2
    )


def test_a_steady_path_has_no_acceleration_however_fast_and_however_its_frames_are_spaced():
    times = torch.tensor([0.0, 1.0, 1.5, 3.0, 3.1]).double()
    said = Acceleration(times).at(steady_state(times), torch.arange(3))
    assert said.norms().max() < 1e-9
    # A prior for still cameras sees much in the same path.
    assert Still(5).at(steady_state(times), torch.arange(4)).norms()[:, 1].min() > 0.2


def test_acceleration_does_not_change_with_the_scale_of_the_world():
    state = random_state(4)
    cam2world = state.cam2world.clone()
    cam2world[:, :3, 3] *= 7
    larger = TermState(cam2world, state.intrinsics, 7 * state.depth, state.pixels, state.grid, 7 * state.size)
    term = Acceleration(torch.arange(4).double())
    torch.testing.assert_close(
        term.at(larger, torch.arange(2)).value, term.at(state, torch.arange(2)).value, rtol=1e-9, atol=1e-9
    )


def test_flow_that_is_far_off_or_behind_the_camera_costs_a_fixed_amount_and_pulls_nothing():
    state = random_state(4, GRID)
    behind = state.cam2world.clone()
    behind[1, :3, :3] = behind[1, :3, :3] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0])).double()
    state = TermState(behind, state.intrinsics, state.depth, state.pixels, state.grid, state.size)
    said = flow_term(most=0.5, fades=1e9).at(state, torch.tensor([0]))
    assert torch.isfinite(said.value).all()
    torch.testing.assert_close(said.norms(), torch.full((1, 12), 8.0).double())
    assert not said.jacobian.any()
    assert said.by_depth is not None
    assert not said.by_depth.any()


def test_flow_of_other_surfaces_counts_less_and_less_and_never_outweighs_what_agrees():
    lengths = torch.tensor([0.1, 1.0, 10.0, 1000.0]).double()
    direction = torch.tensor([0.6, -0.8]).double()
    residual = (lengths[:, None] * direction).requires_grad_()
    fading = Fading(residual, 3.0)
    found = fading.value()
    expected = lengths / (1 + lengths / 3)
    torch.testing.assert_close(found, expected[:, None] * direction)
    assert float(found[-1].detach().norm()) < 3
    slopes = fading.slopes(torch.eye(2).double().expand(4, 2, 2))
    for row in range(4):
        (by_autograd,) = torch.autograd.grad(found[row] @ direction, residual, retain_graph=True)
        torch.testing.assert_close(direction @ slopes[row].detach(), by_autograd[row])
    pull = (slopes.detach() @ direction).norm(dim=-1)
    assert (pull.diff() < 0).all()
    assert pull[-1] < 1e-4


def test_larger_cells_take_the_mean_of_the_flow_that_counts():
    flow = torch.zeros(1, 12, 2)
    flow[0, [0, 1, 4, 5], 0] = torch.tensor([1.0, 3.0, 100.0, 5.0])
    weight = torch.ones(1, 12)
    weight[0, 4] = 0
    cells = FlowCells(torch.tensor([[0, 1]]), flow, weight, GRID).coarsened((1, 2))
    assert cells.flow[0, 0].tolist() == [3.0, 0.0]
    assert cells.weight[0].tolist() == [0.75, 1.0]
    with pytest.raises(AlignmentError, match="3x4 cells, which do not make 2x3"):
        FlowCells(torch.tensor([[0, 1]]), flow, weight, GRID).coarsened((2, 3))


def test_terms_come_by_name_with_their_weight_or_not_at_all():
    evidence = ClipEvidence(4, torch.arange(4).double(), (12, 16), flow_term().cells)
    terms = load_terms(["flow=2.5", "acceleration", "still=0.5"], evidence)
    assert [type(term).__name__ for term in terms] == ["FlowTerm", "Acceleration", "Still"]
    assert terms[0].weight == 2.5
    assert terms[1].weight == Acceleration(torch.arange(4)).weight
    assert load_terms(["flow", "acceleration"], ClipEvidence(2, torch.arange(2).double(), (12, 16))) == ()


@pytest.mark.parametrize(
    ("entry", "why"),
    [("speed", "'speed' is not installed; there are .*flow"), ("flow=-1", "above 0"), ("flow=x", "above 0")],
)
def test_terms_that_cannot_be_are_refused_by_name(entry, why):
    with pytest.raises(UsageError, match=f"--terms {entry}: .*{why}"):
        load_terms([entry], ClipEvidence(4, torch.arange(4).double(), (12, 16), flow_term().cells))
