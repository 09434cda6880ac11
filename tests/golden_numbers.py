"""Reference numbers of the DUSt3R family: synthetic weights drawn by a rule, small networks, stored outputs.

The arrays in ``tests/golden`` were computed by the published implementations on synthetic images and weights.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stereo4d.network.stereo import StereoConfig, StereoNetwork
from stereo4d.network.weights import empty_network

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = {"enc": 1e-5, "dec": 3e-5, "internal": 1e-4, "confidence": 5e-5, "pointmap": 1e-4, "exact": 1e-7}
"""Absolute and relative, on CPU in float32: what a second implementation reached, with room for rounding."""


def load(name: str) -> Mapping[str, np.ndarray]:
    """The arrays of a golden file."""
    return np.load(GOLDEN / f"{name}.npz")


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """The synthetic weight of an official key: seeded by its name. A copy, that a test may change."""
    return _drawn(name, shape).clone()


@cache
def _drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    canonical = re.sub(r"scratch\.layer_rn\.(\d)\.", lambda match: f"scratch.layer{int(match[1]) + 1}_rn.", name)
    count = int(np.prod(shape))
    bits = np.random.PCG64(zlib.crc32(canonical.encode())).random_raw(count)
    uniform = 2 * ((bits >> np.uint64(11)) * 2.0**-53) - 1
    if canonical == "mask_token":
        values = 0.5 * uniform
    elif len(shape) == 1:
        values = 1 + 0.25 * uniform if canonical.endswith(".weight") else 0.1 * uniform
    else:
        values = uniform * np.sqrt(3 / (count / shape[0]))
    if canonical.endswith("dpt.head.4.weight"):
        values = values * 0.2
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def small_config(head: str, **options: object) -> StereoConfig:
    """The small network that the goldens were computed with."""
    return StereoConfig(
        img_size=(64, 96),
        enc_embed_dim=64,
        enc_depth=3,
        enc_num_heads=4,
        dec_embed_dim=48,
        dec_depth=4 if head == "linear" else 12,
        dec_num_heads=4,
        head_type=head,
        **{"landscape_only": False, **options},  # type: ignore[arg-type]
    )


def drawn_network(config: StereoConfig) -> StereoNetwork:
    """A network with drawn weights."""
    network = empty_network(config)
    state = {name: drawn(name, tuple(value.shape)) for name, value in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    return network.eval()


def as_input(images: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) in [-1, 1]."""
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


def assert_close(ours: Tensor, reference: np.ndarray, kind: str) -> None:
    """Within the tolerance of this kind of array."""
    tolerance = TOLERANCE[kind]
    np.testing.assert_allclose(ours.numpy(), reference, rtol=tolerance, atol=tolerance)
