"""RAFT (Teed and Deng 2020) in torchvision's implementation (BSD), with weights from a file that the user has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stereo4d.errors import CheckpointError
from stereo4d.video.flow import Flow

_LEAST_SIDE = 128  # the coarsest of its correlations must still hold more than one place
_STRIDE = 8
_SECONDS_PER_WEIGHT = 1e-11  # and pixel, for 20 updates: 51e-6 s a pixel measured of the large one, 15e-6 of the small


class Raft(Flow):
    """Recurrent refinement over all pairs of places; small or large, as the weights are."""

    def __init__(self, weights: str | Path, *, device: torch.device | str | None = None, updates: int = 20) -> None:
        """Load the weights; nothing in the file is executed, and nothing is downloaded.

        Args:
            weights: a state dict of torchvision's ``raft_large`` or ``raft_small``, ``.pth`` or ``.safetensors``.
            device: where to work; None takes the GPU if there is one.
            updates: rounds of refinement; MonST3R takes 20.

        Raises:
            CheckpointError: the file is not that.
        """
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._network = _network_for(_state(Path(weights)), Path(weights)).to(self._device).eval()
        self._updates = updates
        self.seconds_per_pixel = _SECONDS_PER_WEIGHT * sum(value.numel() for value in self._network.parameters())

    def flow(self, image0: np.ndarray, image1: np.ndarray) -> np.ndarray:
        """See ``Flow.flow``."""
        height, width = image0.shape[:2]
        size = tuple(max(_LEAST_SIDE, -(-side // _STRIDE) * _STRIDE) for side in (height, width))
        images = [_prepared(image, size, self._device) for image in (image0, image1)]
        with torch.inference_mode():
            found = self._network(*images, num_flow_updates=self._updates)[-1]
            found = nn.functional.interpolate(found, (height, width), mode="bilinear", align_corners=False)
        scale = np.array([width / size[1], height / size[0]], np.float32)
        return found[0].permute(1, 2, 0).float().cpu().numpy() * scale


def _prepared(image: np.ndarray, size: tuple[int, ...], device: torch.device) -> Tensor:
    """(1, 3, h, w) in [-1, 1], brought to a size that the network takes."""
    tensor = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1)[None].float() / 127.5 - 1
    return nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False)


def _state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken or hostile file makes of a reader
        reason = str(error).split("\n")[0]
        raise CheckpointError(f"{path}: cannot be read as weights of RAFT ({reason}); check the file") from error
    if not (isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())):
        raise CheckpointError(f"{path}: holds no state dict; save that of torchvision's raft_large or raft_small")
    return state


def _network_for(state: dict[str, Tensor], path: Path) -> nn.Module:
    """RAFT of the size that a state dict is of, with its weights."""
    from torchvision.models.optical_flow import raft_large, raft_small

    for build in (raft_large, raft_small):
        network = build(weights=None, progress=False)
        shapes = {name: value.shape for name, value in network.state_dict().items()}
        if shapes == {name: value.shape for name, value in state.items()}:
            network.load_state_dict(state)
            return network
    raise CheckpointError(
        f"{path}: its {len(state)} tensors are neither those of torchvision's raft_large nor of raft_small; weights of "
        "other implementations have other names: convert them to torchvision's"
    )
