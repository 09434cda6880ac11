from dataclasses import replace

import pytest
import torch

from stereo4d.alignment.normal_equations import Seen, frame_systems
from stereo4d.geometry.rigid import rotation_from_vector


def small_frame(pairs: int = 3, pixels: int = 7):
    """One camera with its pixels' depths, and the points, similarities and weights of its pairs."""
    random = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    frame = {
        "rotation": rotation_from_vector(draw(3)),
        "translation": draw(3),
        "focal": torch.tensor([20.0, 23.0]).double(),
    }
    frame |= {"pixel": 8 * draw(pixels, 2), "centre": draw(2), "depth": 2 + draw(pixels).abs()}
    frame |= {"known": (2 + draw(pixels).abs()) * (draw(pixels) > 0), "known_weight": draw(pixels).abs()}
    pair = {"points": draw(pairs, pixels, 3) + 2, "rotation": rotation_from_vector(draw(pairs, 3))}
    pair |= {"scale": draw(pairs).exp(), "translation": draw(pairs, 3), "weight": draw(pairs, pixels).abs()}
    frame["known_weight"] = torch.where(frame["known"] > 0, frame["known_weight"], 0.0)
    return frame, pair


def residuals(unknown: torch.Tensor, frame: dict, pair: dict, relative: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(K, P, 3) residuals after a step: 9 + 7K unknowns of frame and pairs, then P log-depths; (P,) of known depth.

    Each pair's are divided by a power of what the step makes of its scale."""
    pairs = len(pair["scale"])
    own, told, log_depth = unknown[:9], unknown[9 : 9 + 7 * pairs].reshape(pairs, 7), unknown[9 + 7 * pairs :]
    depth = frame["depth"] * log_depth.exp()
    flat = (frame["pixel"] - frame["centre"] - own[7:9]) / (frame["focal"] * own[6].exp())
    rays = torch.cat([flat, torch.ones_like(flat[:, :1])], -1)
    rotation = rotation_from_vector(own[:3]) @ frame["rotation"]
    world = depth[:, None] * rays @ rotation.T + frame["translation"] + own[3:6]
    # A rotation of the camera turns its rays about its centre.
    linear = (pair["scale"] * told[:, 6].exp())[:, None, None] * (rotation_from_vector(told[:, :3]) @ pair["rotation"])
    distance = world - pair["points"] @ linear.transpose(1, 2) - (pair["translation"] + told[:, 3:6])[:, None]
    return distance * (-relative * told[:, 6]).exp()[:, None, None], depth - frame["known"]


def seen_of(frame: dict, pair: dict, relative: float) -> Seen:
    pixels = frame["pixel"]
    flat = ((pixels - frame["centre"]) / frame["focal"]).T
    rays = torch.cat([flat, torch.ones_like(flat[:1])])
    return Seen(
        frame=torch.zeros(len(pair["scale"]), dtype=torch.int64),
        y=(frame["depth"] * (frame["rotation"] @ rays))[None],
        depth=frame["depth"][None],
        rays=flat[None],
        q=((pair["scale"][:, None, None] * pair["rotation"]) @ pair["points"].transpose(1, 2)),
        shift=pair["translation"] - frame["translation"],
        weight=pair["weight"],
        known_weight=frame["known_weight"][None],
        known_depth=frame["known"][None],
        free=torch.ones(1, len(pixels), dtype=torch.bool),
        rotation=frame["rotation"][None],
        focal=frame["focal"].double()[None],
        relative=relative,
    )


@pytest.mark.parametrize("relative", [0.0, 1.0, 0.3])
def test_the_reduced_system_equals_the_schur_complement_of_the_written_out_jacobian(relative):
    frame, pair = small_frame()
    pairs, pixels = pair["weight"].shape
    zero = torch.zeros(9 + 7 * pairs + pixels, dtype=torch.float64)

    def stacked(x: torch.Tensor) -> torch.Tensor:
        told, known = residuals(x, frame, pair, relative)
        return torch.cat([told.flatten(), known])

    jacobian = torch.autograd.functional.jacobian(stacked, zero)
    weight = torch.cat([pair["weight"][..., None].expand(-1, -1, 3).flatten(), frame["known_weight"]])
    normal, gradient = jacobian.T @ (weight[:, None] * jacobian), jacobian.T @ (weight * stacked(zero))
    kept, depths = slice(0, 9 + 7 * pairs), slice(9 + 7 * pairs, None)
    gain = normal[kept, depths] @ torch.linalg.inv(normal[depths, depths])

    (system,) = frame_systems(seen_of(frame, pair, relative))
    torch.testing.assert_close(system.matrix, normal[kept, kept] - gain @ normal[depths, kept])
    torch.testing.assert_close(system.gradient, gradient[kept] - gain @ gradient[depths])
    torch.testing.assert_close(system.curvature, normal.diagonal()[kept])


def test_a_depth_that_may_not_move_is_not_eliminated():
    frame, pair = small_frame()
    seen = seen_of(frame, pair, 0.0)
    (held,) = frame_systems(replace(seen, free=torch.zeros_like(seen.free)))
    torch.testing.assert_close(held.matrix.diagonal(), held.curvature)


def test_frames_worked_on_together_give_what_each_gives_alone():
    frame, pair = small_frame()
    alone = seen_of(frame, pair, 1.0)
    parts = {
        name: torch.cat([getattr(alone, name)] * 2)
        for name in ("y", "depth", "rays", "q", "shift", "weight", "known_weight", "known_depth", "free", "rotation")
    }
    both = Seen(frame=torch.tensor([0, 0, 0, 1, 1, 1]), focal=alone.focal.repeat(2, 1), relative=1.0, **parts)
    (expected,) = frame_systems(alone)
    for system in frame_systems(both):
        torch.testing.assert_close(system.matrix, expected.matrix)
        torch.testing.assert_close(system.gradient, expected.gradient)
