"""Which predictor ``--weights`` means: an installed one by its name, else a network from a weights file."""

from __future__ import annotations

import torch

from stereo4d import registry
from stereo4d.network.precision import choose
from stereo4d.network.weights.names import EMBEDDED, resolve
from stereo4d.video.network_predictor import NetworkPredictor
from stereo4d.video.predictor import GROUP, Predictor


def is_installed(weights: str) -> bool:
    """Whether it is the name of an installed predictor; ``"embedded"`` is a network whatever is installed."""
    return weights != EMBEDDED and weights in registry.installed(GROUP)


def load_predictor(weights: str, *, device: torch.device | str = "cpu", precision: str = "auto") -> Predictor:
    """The predictor that a name or path means; cheap, whatever is heavy waits until it is needed.

    Args:
        weights: the name of an installed predictor (a file or folder of that name is ``./name``), ``"embedded"``, a
            ``.pth`` or ``.safetensors`` file, a folder with ``model.safetensors``, or the name of a published model
            that has been fetched.
        device: where a network shall run.
        precision: what a network shall compute in; see ``network.precision.choose``.

    Raises:
        CheckpointError: there is no such predictor or file, or the file cannot be used.
        PluginError: the entry point names something else, or cannot be imported.
        UsageError: there is no such precision.
    """
    if is_installed(weights):
        choose(precision, torch.device(device))
        return registry.load_class(GROUP, weights, Predictor)()
    check_is_there(weights)
    return NetworkPredictor(weights, device=torch.device(device), precision=precision)


def check_is_there(weights: str) -> None:
    """Make sure that a name or path means something.

    Raises:
        CheckpointError: it is neither a name nor a path that exists, or the file of that name has not been fetched.
    """
    if not is_installed(weights):
        resolve(weights, also=list(registry.installed(GROUP)))
