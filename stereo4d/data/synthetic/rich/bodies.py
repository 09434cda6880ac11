"""What stands and moves in a rich world: primitives, each a unit shape under an affine map that changes with time.

A body hangs on a root that travels, sways and spins, over two joints that swing like pendulums: enough for limbs,
doors and toys. A stretch that comes and goes makes it non-rigid. All maps are affine, so casting unit shapes is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stereo4d.data.synthetic.world import rotation_from_vector

JOINTS = 2


@dataclass(frozen=True)
class Bodies:
    """K primitives in each of B worlds; times in clip time, lengths in metres."""

    shape: Tensor
    """(B, K) int64: which of ``shapes.SHAPES``."""
    form: Tensor
    """(B, K): the shape's own number, see ``shapes``."""
    present: Tensor
    """(B, K) bool."""
    half: Tensor
    """(B, K, 3): half extents at rest, along the primitive's own axes."""
    turned: Tensor
    """(B, K, 3, 3): orientation in the frame of its last joint."""
    placed: Tensor
    """(B, K, 3): centre in the frame of its last joint."""
    pivot: Tensor
    """(B, K, 2, 3): where a joint sits in the frame before it."""
    hinge: Tensor
    """(B, K, 2, 3): unit axis of a joint."""
    bend: Tensor
    """(B, K, 2, 3): angle at rest, amplitude and phase of the swing, in radians."""
    position: Tensor
    """(B, K, 3): root at time 0, world."""
    velocity: Tensor
    """(B, K, 3): straight travel of the root."""
    sway: Tensor
    """(B, K, 3): amplitude of a sine added to it."""
    rotation: Tensor
    """(B, K, 3, 3): orientation of the root at time 0."""
    spin: Tensor
    """(B, K, 3): rotation vector of the root per unit of time, world axes."""
    stretch: Tensor
    """(B, K, 3, 3): added to the identity at full swing, in the primitive's own axes."""
    rate: Tensor
    """(B, K): swings per unit of time."""
    phase: Tensor
    """(B, K): of all that swings."""

    @property
    def moving(self) -> Tensor:
        """(B, K) bool: bodies that move or change their form."""
        swing = self.bend[..., 1].abs().sum(-1) + self.stretch.abs().sum((-1, -2))
        return (self.velocity.abs().sum(-1) + self.sway.abs().sum(-1) + self.spin.abs().sum(-1) + swing) > 0

    def maps(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """How unit shapes lie in the world.

        Args:
            time: (B,) clip time, any real number.

        Returns:
            (B, K, 3, 3) linear parts and (B, K, 3) centres: world point = linear @ unit point + centre.
        """
        t = time[:, None]
        angle = 2 * torch.pi * self.rate * t + self.phase
        sine = torch.sin(angle)[..., None]
        rotation = rotation_from_vector(self.spin * t[..., None]) @ self.rotation
        origin = self.position + self.velocity * t[..., None] + self.sway * (sine - torch.sin(self.phase)[..., None])
        for joint in range(JOINTS):
            rest, swing, late = self.bend[..., joint, :].unbind(-1)
            origin = origin + (rotation @ self.pivot[..., joint, :, None])[..., 0]
            turn = rest + swing * torch.sin(angle + late)
            rotation = rotation @ rotation_from_vector(self.hinge[..., joint, :] * turn[..., None])
        origin = origin + (rotation @ self.placed[..., None])[..., 0]
        still = torch.eye(3, dtype=sine.dtype, device=sine.device)
        linear = rotation @ self.turned @ (still + sine[..., None] * self.stretch)
        return linear * self.half[..., None, :], origin
