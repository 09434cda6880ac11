"""What the user of a reconstruction can choose."""

from __future__ import annotations

from dataclasses import dataclass, field

from stereo4d.video.frames import Selection

DEFAULT_GRAPH = "swin-3-noncyclic"


@dataclass(frozen=True)
class Options:
    """What the user can choose."""

    weights: str = "embedded"
    """``"embedded"``, a ``.pth`` or ``.safetensors`` file, or a folder with ``model.safetensors``."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:1`` ..."""
    precision: str = "auto"
    """``auto``, ``bf16`` or ``exact`` (float32 all through, and stored so)."""
    graph: str = DEFAULT_GRAPH
    """Name of the pair graph; see ``pair_graph``."""
    size: int | None = None
    """Long side of the network's images in pixels; None takes the size the network was trained at."""
    selection: Selection = field(default_factory=Selection)
    """Which frames are taken."""
    seed: int = 0
    """Same seed, same scene."""
