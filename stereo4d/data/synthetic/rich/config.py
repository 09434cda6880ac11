"""The knobs of the rich world. In YAML: ``world: {class_path: stereo4d.data.synthetic.rich.RichWorlds}``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from stereo4d.data.synthetic.rich.kinds import KINDS
from stereo4d.data.synthetic.worlds import Scenes, Worlds
from stereo4d.errors import UsageError

Range = tuple[float, float]


@dataclass(frozen=True)
class Things:
    """What stands and moves; lengths as shares of what the kind of place asks for, times in clip time [0, 1]."""

    moving_share: float = 0.45
    """Chance that a prop or a door moves; figures always do."""
    soft_share: float = 0.25
    """Of moving props, how many stretch and shear."""
    stretch: float = 0.3
    """Largest relative change of their form."""
    travel: float = 1.2
    """Largest straight travel of a prop, metres; of small ones, less."""
    turn: float = 2.5
    """Largest rotation, radians."""
    amount: float = 1.0
    """Factor on the number of props and structures."""
    figures: float = 1.0
    """Factor on the number of figures."""


@dataclass(frozen=True)
class Cameras:
    """How cameras move and see."""

    wander: float = 0.5
    """Share that travels anywhere and looks at a moving point."""
    forward: float = 0.2
    """Share that travels where it looks."""
    turn: float = 0.15
    """Share that only rotates."""
    still: float = 0.15
    """Share that does not move."""
    travel: Range = (0.1, 1.6)
    """Travel over the clip, metres, log-uniform; in wide places up to three times as far."""
    field_of_view: Range = (0.6, 1.7)
    """Along the longer side, radians."""
    roll: float = 0.08
    """Standard deviation, radians."""


@dataclass(frozen=True)
class Surfaces:
    """How surfaces look."""

    flat_share: float = 0.15
    """Without any texture."""
    repeat_share: float = 0.4
    """Bricks, tiles, stripes, dots, pebbles; the rest are noises from smooth to fine."""
    shiny_share: float = 0.25
    """With highlights and a reflection of the sky."""
    contrast: Range = (0.08, 0.45)


@dataclass(frozen=True)
class Light:
    """Lamps in rooms, a sun outside."""

    ambient: Range = (0.25, 0.75)
    """Share of the light that has no direction."""
    shadows: float = 0.85
    """Share of worlds with cast shadows."""
    haze: float = 0.4
    """Share of open places with haze."""


@dataclass(frozen=True)
class Picture:
    """What cameras do to pictures; colour only, the truth stays that of the frame's time."""

    exposure: float = 0.2
    """Largest relative change of brightness, each image its own."""
    colour: float = 0.06
    """Largest relative change of each channel."""
    gamma: float = 0.15
    """Largest change of the exponent."""
    noise: float = 0.03
    """Largest standard deviation of pixel noise in [0, 1]."""
    blur_share: float = 0.3
    """Images slightly out of focus."""
    motion_blur_share: float = 0.2
    shutter: float = 0.04
    """Longest exposure, clip time."""
    compression_share: float = 0.4
    quality: Range = (25.0, 90.0)
    """Of compressed images, as JPEG counts it."""


@dataclass(frozen=True)
class RichWorlds(Worlds):
    """Draws rich worlds: many shapes, figures and doors, soft things, lights and shadows, rooms and open places."""

    kinds: tuple[str, ...] = tuple(KINDS)
    """Kinds of place, equally often; name fewer to hold others out, or one to ask for it alone."""
    things: Things = field(default_factory=Things)
    cameras: Cameras = field(default_factory=Cameras)
    surfaces: Surfaces = field(default_factory=Surfaces)
    light: Light = field(default_factory=Light)
    picture: Picture = field(default_factory=Picture)
    pair_gap: Range = (0.04, 1.0)
    """Range of the time between the two images of a pair, log-uniform."""

    def __post_init__(self) -> None:
        """Refuse kinds that nobody knows."""
        unknown = [name for name in self.kinds if name not in KINDS]
        if unknown or not self.kinds:
            raise UsageError(f"kinds={list(self.kinds)}: name at least one of {', '.join(KINDS)}")

    def steady(self) -> RichWorlds:
        """The same worlds with pictures that differ in noise and motion blur alone."""
        alike = replace(
            self.picture,
            noise=self.picture.noise / 4,
            exposure=0.0,
            colour=0.0,
            gamma=0.0,
            blur_share=0.0,
            compression_share=0.0,
        )
        return replace(self, picture=alike)

    def scenes(self, batch: int, *, seed: int, device: torch.device | str) -> Scenes:
        """B rich worlds."""
        from stereo4d.data.synthetic.rich.scenes import draw_scenes

        return draw_scenes(self, batch, seed=seed, device=device)
