"""The options that shape a network, named as the published checkpoints name them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from stereo4d.errors import CheckpointError, UsageError

Mode = tuple[str, float, float]
"""(kind, lowest, highest) of an output activation."""


@dataclass(frozen=True)
class StereoConfig:
    """Constructor options of a two-view network."""

    img_size: tuple[int, int] = (224, 224)
    """(height, width) it was trained at, in pixels; any multiple of the patch size runs."""
    patch_size: int = 16
    enc_embed_dim: int = 768
    enc_depth: int = 12
    enc_num_heads: int = 12
    dec_embed_dim: int = 512
    dec_depth: int = 8
    dec_num_heads: int = 16
    mlp_ratio: float = 4
    pos_embed: str = "RoPE100"
    """``RoPE`` and the base of its frequencies."""
    norm_im2_in_dec: bool = True
    """Normalise the other view's tokens before they are attended to."""
    output_mode: str = "pts3d"
    head_type: str = "linear"
    """Entry point of group ``stereo4d.heads``."""
    depth_mode: Mode = ("exp", -math.inf, math.inf)
    conf_mode: Mode = ("exp", 1.0, math.inf)
    landscape_only: bool = True
    """Images are stored landscape, and so are the outputs (training); False: everything is upright (inference)."""
    patch_embed_cls: str = "PatchEmbedDust3R"
    freeze: str = "none"
    head_options: Mapping[str, Any] = field(default_factory=dict)
    """Further options of the head."""

    @property
    def rope_base(self) -> float:
        """The base of the rotary frequencies."""
        try:
            return float(self.pos_embed.removeprefix("RoPE")) if self.pos_embed.startswith("RoPE") else _no_rope(self)
        except ValueError:
            return _no_rope(self)

    def upright(self) -> StereoConfig:
        """The same network for inference, where every image is upright; parameters are identical."""
        return replace(self, patch_embed_cls="PatchEmbedDust3R", landscape_only=False)

    def to_json(self) -> dict[str, Any]:
        """Plain values that strict JSON can hold; infinities become the strings ``"inf"`` and ``"-inf"``."""
        return {item.name: plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_json(cls, options: Mapping[str, Any]) -> StereoConfig:
        """Read options as found in checkpoints; what is absent has the published default.

        Raises:
            CheckpointError: an option is unknown.
        """
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(options) - known - {"mask_ratio"})  # completion training alone uses the mask ratio
        if unknown:
            raise CheckpointError(f"unknown network options {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        values = {name: value for name, value in options.items() if name in known}
        values.setdefault("pos_embed", "cosine")
        if "img_size" in values:
            size = values["img_size"]
            values["img_size"] = (size, size) if isinstance(size, int) else tuple(size)
        if "depth_mode" in values:
            values["depth_mode"] = read_mode(values["depth_mode"], (-math.inf, math.inf))
        if "conf_mode" in values:
            values["conf_mode"] = read_mode(values["conf_mode"], (1.0, math.inf))
        return cls(**values)


def read_mode(value: Any, bounds: tuple[float, float]) -> Mode:
    """An activation mode from a file: infinities may be floats, strings or null (which means the default bound).

    Raises:
        CheckpointError: it is not (kind, lowest, highest).
    """
    try:
        kind, low, high = value
        numbers = [
            default if bound is None else float(bound) for bound, default in zip((low, high), bounds, strict=True)
        ]
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"activation mode {value!r} is not (kind, lowest, highest), like ('exp', 1, inf)"
        ) from error
    return str(kind), numbers[0], numbers[1]


def _no_rope(config: StereoConfig) -> float:
    raise UsageError(f"pos_embed {config.pos_embed!r}: a two-view network needs rotary positions, such as 'RoPE100'")


def plain(value: Any) -> Any:
    """The value as strict JSON can hold it: tuples as lists, infinities as the strings ``"inf"`` and ``"-inf"``."""
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return value
