"""stereo4d: video in, 4D out.

The names below are the public ones. They are looked up when first used, so that ``import stereo4d`` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stereo4d.downstream.matching import match_pair as match_pair
    from stereo4d.errors import Stereo4DError as Stereo4DError
    from stereo4d.network.stereo import StereoNetwork as StereoNetwork
    from stereo4d.network.weights import load_completion as load_completion
    from stereo4d.network.weights import load_model as load_model
    from stereo4d.types import PairPrediction as PairPrediction
    from stereo4d.types import Scene as Scene
    from stereo4d.types import View as View
    from stereo4d.video.known_files import KnownFiles as KnownFiles
    from stereo4d.video.options import AlignmentOptions as AlignmentOptions
    from stereo4d.video.options import StoredOptions as StoredOptions
    from stereo4d.video.pipeline import reconstruct as reconstruct
    from stereo4d.video.realign import align_stored as align_stored

__version__ = "0.1.0"

_HOME = {
    "AlignmentOptions": "stereo4d.video.options",
    "KnownFiles": "stereo4d.video.known_files",
    "PairPrediction": "stereo4d.types",
    "Scene": "stereo4d.types",
    "Stereo4DError": "stereo4d.errors",
    "StereoNetwork": "stereo4d.network.stereo",
    "StoredOptions": "stereo4d.video.options",
    "View": "stereo4d.types",
    "align_stored": "stereo4d.video.realign",
    "load_completion": "stereo4d.network.weights",
    "load_model": "stereo4d.network.weights",
    "match_pair": "stereo4d.downstream.matching",
    "reconstruct": "stereo4d.video.pipeline",
}

__all__ = [
    "AlignmentOptions",
    "KnownFiles",
    "PairPrediction",
    "Scene",
    "Stereo4DError",
    "StereoNetwork",
    "StoredOptions",
    "View",
    "__version__",
    "align_stored",
    "load_completion",
    "load_model",
    "match_pair",
    "reconstruct",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'stereo4d' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)
