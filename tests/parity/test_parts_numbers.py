"""Rotary positions, output activations and the rule that draws test weights, against stored numbers."""

import hashlib

import numpy as np
import pytest
import torch
from stereo4d_heads.activation import confidence_from_raw, points_from_raw

from stereo4d.network.layers import Rotary2D
from tests.golden_numbers import assert_close, drawn, load


@pytest.mark.parametrize("case", ["d16", "d64", "d12", "f10000"])
def test_rotary_positions_equal_the_reference(case: str) -> None:
    golden = load("rope2d")
    tokens = torch.from_numpy(golden[f"{case}/tokens"])
    positions = torch.from_numpy(golden[f"{case}/positions"]).long()
    table = Rotary2D(tokens.shape[-1], float(golden[f"{case}/freq"])).table(positions)
    rotated = table.rotate(tokens.transpose(1, 2)).transpose(1, 2)
    np.testing.assert_allclose(rotated.numpy(), golden[f"{case}/out"], rtol=1e-6, atol=1e-7)


def test_rotary_positions_of_half_precision_tokens_lose_only_the_rounding_of_the_result() -> None:
    golden = load("rope2d")
    tokens = torch.from_numpy(golden["d64/tokens"]).transpose(1, 2).bfloat16()
    table = Rotary2D(64).table(torch.from_numpy(golden["d64/positions"]).long())
    exact = table.rotate(tokens.float())
    assert table.rotate(tokens).dtype == torch.bfloat16
    assert torch.equal(table.rotate(tokens), exact.bfloat16())


@pytest.mark.parametrize("kind", ["exp", "square", "linear"])
def test_points_equal_the_reference(kind: str) -> None:
    golden = load("postprocess_and_sincos")
    raw = torch.from_numpy(golden["post/raw"]).movedim(1, -1)
    points = points_from_raw(raw[..., :3], (kind, -np.inf, np.inf))
    np.testing.assert_allclose(points.numpy(), golden[f"post/pts3d_{kind}"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("kind", "low", "high"), [("exp", 1, np.inf), ("exp", 0, 10), ("sigmoid", 1, 3)])
def test_confidence_equals_the_reference(kind: str, low: float, high: float) -> None:
    golden = load("postprocess_and_sincos")
    bound = "inf" if high == np.inf else str(high)
    confidence = confidence_from_raw(torch.from_numpy(golden["post/raw"])[:, 3], (kind, low, high))
    np.testing.assert_allclose(confidence.numpy(), golden[f"post/conf_{kind}_{low}_{bound}"], rtol=1e-6, atol=1e-7)


def test_drawn_weights_are_the_bytes_of_the_rule() -> None:
    golden = load("weight_rule_probe")
    names = [key.removesuffix("/shape") for key in golden if key.endswith("/shape")]
    assert len(names) == 10
    for name in names:
        values = drawn(name, tuple(golden[f"{name}/shape"].tolist())).numpy()
        assert hashlib.sha256(values.tobytes()).digest() == golden[f"{name}/sha256"].tobytes()
        assert_close(torch.from_numpy(values.reshape(-1)[:8].copy()), golden[f"{name}/first8"], "exact")
