"""The network computes what the published implementation computes."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from stereo4d.network.stereo import Encoded, StereoNetwork
from stereo4d.types import PairPrediction
from tests.golden_numbers import as_input, assert_close, drawn_network, load, small_config

MANYAR = {"patch_embed_cls": "ManyAR_PatchEmbed", "landscape_only": True}
CASES = [
    ("dust3r_linear", "landscape", "linear", {}),
    ("dust3r_linear", "portrait", "linear", {}),
    ("dust3r_linear", "different_shapes", "linear", {}),
    ("dust3r_linear_manyar", "mixed", "linear", MANYAR),
    ("dust3r_linear_manyar", "all_portrait", "linear", MANYAR),
    ("dust3r_dpt", "landscape", "dpt", {}),
    ("dust3r_dpt", "odd_grid", "dpt", {}),
    ("dust3r_dpt_portrait_internals", "portrait", "dpt", {}),
    ("dust3r_dpt_manyar", "mixed", "dpt", MANYAR),
]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def encode(network: StereoNetwork, golden: dict[str, np.ndarray], case: str, view: int) -> Encoded:
    shape = torch.from_numpy(golden[f"{case}/true_shape{view}"])
    return network.encode(as_input(golden[f"{case}/img{view}"]), shape)


def assert_prediction(prediction: PairPrediction, golden: dict[str, np.ndarray], case: str) -> None:
    assert_close(prediction.pointmap0, golden[f"{case}/pred1_pts3d"], "pointmap")
    assert_close(prediction.confidence0, golden[f"{case}/pred1_conf"], "confidence")
    assert_close(prediction.pointmap1, golden[f"{case}/pred2_pts3d_in_other_view"], "pointmap")
    assert_close(prediction.confidence1, golden[f"{case}/pred2_conf"], "confidence")


@pytest.mark.parametrize(("file", "case", "head", "options"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_every_stage_equals_the_reference(file: str, case: str, head: str, options: dict[str, object]) -> None:
    golden = load(file)
    network = drawn_network(small_config(head, **options))
    views = [encode(network, golden, case, view) for view in (1, 2)]
    for view, lists in enumerate(network.decode(*views), start=1):
        assert_close(lists[0], golden[f"{case}/enc{view}"], "enc")
        assert (views[view - 1].tokens == lists[0]).all()
        if f"{case}/pos{view}" in golden:
            assert (views[view - 1].positions.numpy() == golden[f"{case}/pos{view}"]).all()
        if f"{case}/dec{view}" in golden:
            assert_close(torch.stack(lists[1:]), golden[f"{case}/dec{view}"], "dec")
    assert_prediction(network.predict_encoded(*views), golden, case)
    shapes = [torch.from_numpy(golden[f"{case}/true_shape{view}"]) for view in (1, 2)]
    images = [as_input(golden[f"{case}/img{view}"]) for view in (1, 2)]
    assert_prediction(network(*images, *shapes), golden, case)


def test_features_encoded_once_serve_both_directions() -> None:
    golden = load("dust3r_linear")
    network = drawn_network(small_config("linear"))
    once = network.encode(as_input(golden["symmetrized/img1"]))
    assert_prediction(network.predict_encoded(once.select([0, 1]), once.select([1, 0])), golden, "symmetrized")


def test_inside_the_dpt_head_every_map_equals_the_reference() -> None:
    golden = load("dust3r_dpt_portrait_internals")
    images = load("dust3r_dpt")
    network = drawn_network(small_config("dpt"))
    dpt = network.get_submodule("downstream_head1.dpt")
    parts = {f"act_postprocess{i}": f"act_postprocess.{i}" for i in range(4)}
    parts |= {f"layer_rn{i}": f"scratch.layer{i + 1}_rn" for i in range(4)}
    parts |= {f"refinenet{i}": f"scratch.refinenet{i}" for i in range(1, 5)}
    parts |= {f"head{i}": f"head.{i}" for i in range(3)} | {"raw": "head.4"}
    seen: dict[str, torch.Tensor] = {}
    for name, path in parts.items():
        # cloned: the activation after head.2 may work in place
        dpt.get_submodule(path).register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out.clone()}))
    network(as_input(images["odd_grid/img1"]), as_input(images["odd_grid/img2"]))
    for name, maps in seen.items():
        assert tuple(maps.shape) == tuple(golden[f"odd_grid_internals/{name}_shape"])
        step = 1 if name == "raw" else maps.shape[1] // 8
        assert_close(maps[:, ::step], golden[f"odd_grid_internals/{name}"], "internal")
    assert len(seen) == 16
