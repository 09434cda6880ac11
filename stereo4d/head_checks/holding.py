"""What a head stands: reduced precision, tokens of real networks, files, and other heads beside it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stereo4d.head_checks.lab import Lab, drawn_sum, images, require, tokens
from stereo4d.head_checks.subject import NARROW, dims_of
from stereo4d.head_checks.writing import close, query_times, run
from stereo4d.network.precision import Precision
from stereo4d.network.stereo import StereoNetwork
from stereo4d.network.weights import load_model, save_model

SPREAD = 10.0
"""Of token components: tokens of the published networks, 768 and 1024 wide, have norms up to hundreds."""


def half_precision(lab: Lab) -> str:
    """With encoder and decoder in bfloat16 the head works in float32, and all is finite."""
    network = lab.network()
    network.precision = Precision(reduced=torch.bfloat16)
    _check_plain(_predicted(lab, network), "with encoder and decoder in bfloat16")
    path = lab.folder / "half"
    save_model(lab.network(), path, dtype=torch.float16)
    _check_plain(_predicted(lab, load_model(path)), "from weights stored in float16")
    return "bfloat16 encoder and decoder, weights stored in float16"


def realistic_tokens(lab: Lab) -> str:
    """Tokens as large as those of trained networks, and tokens that are zero, give finite maps and gradients."""
    dims, size = dims_of(NARROW), (48, 80)
    for spread, what in ((SPREAD, f"tokens with components of size {SPREAD:g}"), (0.0, "tokens that are zero")):
        head = lab.head(dims)
        maps = run(head, tokens(dims, size, 2, spread=spread), size)
        _check_plain(maps, f"for {what}")
        loss = drawn_sum({name: value for name, value in maps.items() if value.requires_grad})
        loss.backward()
        broken = [name for name, p in head.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        require(not broken, f"for {what} the gradient of {', '.join(broken[:4])} is not finite; mind norms at zero")
    return f"components of size {SPREAD:g} (a norm of 300 at width 900), and zeros"


def files(lab: Lab) -> str:
    """What is saved with ``save_model`` and loaded with ``load_model`` gives equal maps."""
    before, after = (_predicted(lab, network) for network in (lab.network(), load_model(lab.weights)))
    for name, value in before.items():
        require(
            torch.equal(value, after[name]),
            f"{name} differs after saving and loading; what a head needs beside its options are parameters and buffers",
        )
    return "saved, loaded, equal"


def side_by_side(lab: Lab) -> str:
    """Other heads beside it change nothing of what it says, and it may serve both views with one set of weights."""
    network = lab.network()
    alone = _predicted(lab, network)
    others = {"apart": lab.subject.choice(), "both_views": lab.subject.choice(shared=True)}
    crowd = lab.network(beside=others)
    crowd.load_state_dict(network.state_dict(), strict=False)
    together = _predicted(lab, crowd)
    for name, value in alone.items():
        require(close(together[name], value), f"{name} changes when other heads stand beside it; share no state")
    return f"beside {len(others)} others of its kind, one of which serves both views"


def _predicted(lab: Lab, network: StereoNetwork) -> dict[str, Tensor]:
    """The head's maps of two drawn pairs of portrait images."""
    times = query_times(2) if lab.subject.is_timed else None
    with torch.inference_mode():
        return lab.maps(network(*images((64, 48), 2), times=times))


def _check_plain(maps: Mapping[str, Tensor], where: str) -> None:
    for name, value in maps.items():
        require(value.dtype == torch.float32, f"{name} {where} is {value.dtype}; write float32")
        require(bool(value.isfinite().all()), f"{name} {where} is not finite; bound it before exp, log or division")
