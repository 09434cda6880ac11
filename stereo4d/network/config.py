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
class BackboneConfig:
    """Constructor options that every network of the family has."""

    img_size: tuple[int, int] = (224, 224)
    """(height, width) it was trained at, in pixels; with rotary positions any multiple of the patch size runs."""
    patch_size: int = 16
    enc_embed_dim: int = 768
    enc_depth: int = 12
    enc_num_heads: int = 12
    dec_embed_dim: int = 512
    dec_depth: int = 8
    dec_num_heads: int = 16
    mlp_ratio: float = 4
    pos_embed: str = "RoPE100"
    """``RoPE`` and the base of its frequencies, or ``cosine`` (CroCo v1)."""
    norm_im2_in_dec: bool = True
    """Normalise the other view's tokens before they are attended to."""

    @property
    def rope_base(self) -> float:
        """The base of the rotary frequencies.

        Raises:
            UsageError: the positions are not rotary.
        """
        try:
            return float(self.pos_embed.removeprefix("RoPE")) if self.pos_embed.startswith("RoPE") else _no_rope(self)
        except ValueError:
            return _no_rope(self)

    def to_json(self) -> dict[str, Any]:
        """Plain values that strict JSON can hold; infinities become the strings ``"inf"`` and ``"-inf"``."""
        return {item.name: plain(getattr(self, item.name)) for item in fields(self)}


@dataclass(frozen=True)
class HeadChoice:
    """A head that stands beside the main one."""

    head_type: str
    """Entry point of group ``stereo4d.heads``."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the head."""
    shared: bool = False
    """One set of weights serves both views; otherwise each view has its own."""


@dataclass(frozen=True)
class StereoConfig(BackboneConfig):
    """Constructor options of a two-view network."""

    output_mode: str = "pts3d"
    """What the main head writes, as published: ``pts3d``, or ``pts3d+desc24`` with descriptors of 24 channels."""
    head_type: str = "linear"
    """The main head: an entry point of group ``stereo4d.heads``."""
    depth_mode: Mode = ("exp", -math.inf, math.inf)
    conf_mode: Mode = ("exp", 1.0, math.inf)
    landscape_only: bool = True
    """Images are stored landscape, and so are the outputs (training); False: everything is upright (inference)."""
    patch_embed_cls: str = "PatchEmbedDust3R"
    freeze: str = "none"
    """What does not learn; see ``network.stereo.FROZEN_PARTS``."""
    head_options: Mapping[str, Any] = field(default_factory=dict)
    """Further options of the main head."""
    heads: Mapping[str, HeadChoice] = field(default_factory=dict)
    """Heads beside the main one, by name; the name begins their keys in weights files."""

    def upright(self) -> StereoConfig:
        """The same network for inference, where every image is upright; parameters are identical."""
        return replace(self, patch_embed_cls="PatchEmbedDust3R", landscape_only=False)

    @classmethod
    def from_json(cls, options: Mapping[str, Any]) -> StereoConfig:
        """Read options as found in checkpoints; what is absent has the published default.

        Options that the network does not know are the main head's, which refuses what it does not know either.

        Raises:
            CheckpointError: a value is not of the form it should have.
        """
        known = {item.name for item in fields(cls)}
        values = {name: value for name, value in options.items() if name in known}
        # completion training alone uses the mask ratio
        rest = {name: value for name, value in options.items() if name not in known | {"mask_ratio"}}
        values["head_options"] = {**_mapping(values, "head_options"), **rest}
        values["heads"] = {
            name: choice if isinstance(choice, HeadChoice) else _head_choice(name, choice)
            for name, choice in _mapping(values, "heads").items()
        }
        read_backbone_options(values)
        if "depth_mode" in values:
            values["depth_mode"] = read_mode(values["depth_mode"], (-math.inf, math.inf))
        if "conf_mode" in values:
            values["conf_mode"] = read_mode(values["conf_mode"], (1.0, math.inf))
        return cls(**values)


def read_backbone_options(values: dict[str, Any]) -> None:
    """Bring options of the backbone as found in files to the form that the config has, in place."""
    values.setdefault("pos_embed", "cosine")  # the published default, where a file does not say
    if "img_size" in values:
        size = values["img_size"]
        values["img_size"] = (size, size) if isinstance(size, int) else tuple(size)


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = values.get(name, {})
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{name} {value!r} must be options by name")
    return value


def _head_choice(name: str, choice: Any) -> HeadChoice:
    try:
        return HeadChoice(**choice)
    except TypeError as error:
        known = ", ".join(item.name for item in fields(HeadChoice))
        raise CheckpointError(f"heads.{name} {choice!r} must be a mapping with head_type, of: {known}") from error


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


def _no_rope(config: BackboneConfig) -> float:
    raise UsageError(f"pos_embed {config.pos_embed!r}: a two-view network needs rotary positions, such as 'RoPE100'")


def plain(value: Any) -> Any:
    """The value as strict JSON can hold it: tuples as lists, infinities as the strings ``"inf"`` and ``"-inf"``."""
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, HeadChoice):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    return value
