import pytest
import torch

from stereo4d.alignment.normal_equations import Unknowns, frame_system
from stereo4d.geometry.rigid import rotation_from_vector


def small_frame(pairs: int = 3, pixels: int = 7):
    """One camera with its pixels' depths, and the points, similarities and weights of its pairs."""
    random = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    frame = {"rotation": rotation_from_vector(draw(3)), "translation": draw(3), "focal": torch.tensor(20.0).double()}
    frame |= {"offset": 8 * draw(pixels, 2), "depth": 2 + draw(pixels).abs()}
    pair = {"points": draw(pairs, pixels, 3) + 2, "rotation": rotation_from_vector(draw(pairs, 3))}
    pair |= {"scale": draw(pairs).exp(), "translation": draw(pairs, 3), "weight": draw(pairs, pixels).abs()}
    return frame, pair


def residual(unknown: torch.Tensor, frame: dict, pair: dict, relative: float) -> torch.Tensor:
    """(K, P, 3) residuals after a step: 7 + 7K unknowns of frame and pairs, then P log-depths.

    Each pair's are divided by a power of what the step makes of its scale."""
    pairs = len(pair["scale"])
    own, told, log_depth = unknown[:7], unknown[7 : 7 + 7 * pairs].reshape(pairs, 7), unknown[7 + 7 * pairs :]
    depth = frame["depth"] * log_depth.exp()
    flat = frame["offset"] / (frame["focal"] * own[6].exp())
    rays = torch.cat([flat, torch.ones_like(flat[:, :1])], -1)
    rotation = rotation_from_vector(own[:3]) @ frame["rotation"]
    world = depth[:, None] * rays @ rotation.T + frame["translation"] + own[3:6]
    linear = (pair["scale"] * told[:, 6].exp())[:, None, None] * (rotation_from_vector(told[:, :3]) @ pair["rotation"])
    distance = world - pair["points"] @ linear.transpose(1, 2) - (pair["translation"] + told[:, 3:6])[:, None]
    return distance * (-relative * told[:, 6]).exp()[:, None, None]


@pytest.mark.parametrize("relative", [0.0, 1.0, 0.3])
def test_the_reduced_system_equals_the_schur_complement_of_the_written_out_jacobian(relative):
    frame, pair = small_frame()
    pairs, pixels = pair["weight"].shape
    zero = torch.zeros(7 + 7 * pairs + pixels, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: residual(x, frame, pair, relative), zero).flatten(0, 2)
    weight = pair["weight"][..., None].expand(-1, -1, 3).flatten()
    normal, gradient = (
        jacobian.T @ (weight[:, None] * jacobian),
        jacobian.T @ (weight * residual(zero, frame, pair, relative).flatten()),
    )
    kept, depths = slice(0, 7 + 7 * pairs), slice(7 + 7 * pairs, None)
    gain = normal[kept, depths] @ torch.linalg.inv(normal[depths, depths])

    flat = frame["offset"] / frame["focal"]
    y = frame["depth"][:, None] * torch.cat([flat, torch.ones_like(flat[:, :1])], -1) @ frame["rotation"].T
    q = pair["points"] @ (pair["scale"][:, None, None] * pair["rotation"]).transpose(1, 2)
    distance = residual(zero, frame, pair, relative)
    system = frame_system(
        y,
        frame["depth"][:, None] * frame["rotation"][:, 2],
        q,
        q + relative * distance,
        distance,
        pair["weight"],
        torch.ones(pixels, dtype=torch.bool),
    )
    torch.testing.assert_close(system.matrix, normal[kept, kept] - gain @ normal[depths, kept])
    torch.testing.assert_close(system.gradient, gradient[kept] - gain @ gradient[depths])
    torch.testing.assert_close(system.curvature, normal.diagonal()[kept])


def test_a_depth_that_may_not_move_is_not_eliminated():
    _, pair = small_frame()
    y, q = torch.randn(7, 3).double(), torch.randn(3, 7, 3).double()
    held = frame_system(y, y, q, q, q, pair["weight"], torch.zeros(7, dtype=torch.bool))
    torch.testing.assert_close(held.matrix.diagonal(), held.curvature)


def test_every_unknown_has_one_column():
    for shared in (True, False):
        unknowns = Unknowns(num_frames=4, num_pairs=5, shared_focal=shared)
        assert unknowns.size == 6 * 3 + (1 if shared else 4) + 7 * 5
        seen = torch.cat([unknowns.columns(frame, torch.arange(5)) for frame in range(4)]).unique()
        # The pose of frame 0 stands past the end.
        assert seen.tolist() == list(range(unknowns.size + 6))
