"""The options that shape a cross-view completion network, named as the published checkpoints name them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from stereo4d.errors import CheckpointError, UsageError
from stereo4d.network.config import BackboneConfig, read_backbone_options
from stereo4d.network.positions import COSINE


@dataclass(frozen=True)
class CompletionConfig(BackboneConfig):
    """Constructor options of a cross-view completion network (CroCo)."""

    mask_ratio: float = 0.9
    """Share of the first image's patches that training hides; 0 <= ratio < 1."""

    def __post_init__(self) -> None:
        if self.pos_embed != COSINE and not re.fullmatch(r"RoPE\d+(\.\d+)?", str(self.pos_embed)):
            raise UsageError(
                f"pos_embed {self.pos_embed!r}: a completion network has '{COSINE}' positions, or rotary ones, such as "
                "'RoPE100'"
            )
        if len(self.img_size) != 2 or min(self.img_size) < self.patch_size:
            raise UsageError(
                f"img_size {self.img_size} must be (height, width) in pixels, each at least one patch of "
                f"{self.patch_size}"
            )
        if not 0 <= self.mask_ratio < 1:
            raise UsageError(f"mask_ratio {self.mask_ratio} must be at least 0 and less than 1")

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches at ``img_size``."""
        return self.img_size[0] // self.patch_size, self.img_size[1] // self.patch_size

    @classmethod
    def from_json(cls, options: Mapping[str, Any]) -> CompletionConfig:
        """Read options as found in checkpoints; what is absent has the published default, cosine positions among them.

        Raises:
            CheckpointError: an option is unknown, or a value is not of the form it should have.
        """
        known = [item.name for item in fields(cls)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise CheckpointError(
                f"a completion network has no options {', '.join(unknown)}; it has: {', '.join(known)}"
            )
        values = dict(options)
        read_backbone_options(values)
        return cls(**values)
