"""What is drawn anew each time a pair is seen: colours, crops, zoom."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stereo4d.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class ColourJitter:
    """Random brightness, contrast, saturation and hue, as torchvision defines them, in random order.

    Of each view on its own, so that a network does not rely on equal colours.
    """

    brightness: float = 0.5
    """Factors are uniform in [1 - brightness, 1 + brightness]."""
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 0.1
    """Shifts are uniform in [-hue, hue], in turns of the colour circle; at most 0.5."""

    def __post_init__(self) -> None:
        """Refuse what torchvision would."""
        if min(self.brightness, self.contrast, self.saturation, self.hue) < 0 or self.hue > 0.5:
            raise UsageError(f"{self}: all must be >= 0, and hue <= 0.5")

    def __call__(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        """The picture with colours drawn from ``rng``."""
        # torchvision takes seconds to import, which only training can afford
        from torchvision.transforms.v2 import functional

        low = [max(0.0, 1 - width) for width in (self.brightness, self.contrast, self.saturation)]
        high = [1 + width for width in (self.brightness, self.contrast, self.saturation)]
        factors = [*rng.uniform(low, high), rng.uniform(-self.hue, self.hue)]
        steps = (
            functional.adjust_brightness,
            functional.adjust_contrast,
            functional.adjust_saturation,
            functional.adjust_hue,
        )
        widths = (self.brightness, self.contrast, self.saturation, self.hue)
        for step in rng.permutation(len(steps)):
            if widths[step]:
                picture = steps[step](picture, float(factors[step]))
        return picture


@dataclass(frozen=True)
class Augmentation:
    """What training draws for each view of a pair; the defaults are DUSt3R's."""

    crop: int = 16
    """The image is shrunk to up to ``crop - 1`` pixels more than needed, and the middle cut out; 0 or 1: never."""
    focal: float = 1.0
    """Smallest share of the image that is kept before the resize, a zoom; 1: all of it. MonST3R: 0.9."""
    anywhere: bool = False
    """The image is cut out of the resized one anywhere, not of its middle, as CroCo's; the principal point then lies
    anywhere, too, which the intrinsics say."""
    colour: ColourJitter = field(default_factory=ColourJitter)

    def __post_init__(self) -> None:
        """Refuse what leaves nothing of an image."""
        if self.crop < 0 or not 0.1 <= self.focal <= 1:
            raise UsageError(f"crop={self.crop} focal={self.focal}: crop must be >= 0, focal within 0.1 ... 1")


NONE = Augmentation(crop=0, focal=1.0, colour=ColourJitter(0, 0, 0, 0))
"""As data are looked at and measured."""
