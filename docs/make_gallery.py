"""The gallery of the rich synthetic world: ``python docs/make_gallery.py``, which writes ``pictures/world.png``.

Each row of the picture shows two pairs: view 0, view 1, depth of view 0 (near is bright, sky black) and how far its
points move until view 1 (still things grey, movers by the direction of their motion in view 0's camera).
"""

from __future__ import annotations

import argparse
import colorsys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from stereo4d.data.pair_batch import PairBatch
from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.rich import RichWorlds
from stereo4d.data.synthetic.rich.kinds import KINDS

HEIGHT, WIDTH, GAP = 144, 208, 3
ROWS = 2  # of two pairs, of each kind
LARGEST = 1_500_000  # bytes of the picture


def main() -> None:
    """Render and write the picture."""
    parser = argparse.ArgumentParser(description="Render the gallery of the rich synthetic world.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "pictures" / "world.png")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--seed", type=int, default=3)
    chosen = parser.parse_args()
    rows = []
    for shift, kind in enumerate(chosen.kinds):
        config = RichWorlds(kinds=(kind,))
        batch = sample_pairs(config, 2 * chosen.rows, HEIGHT, WIDTH, seed=chosen.seed + shift, at_times=(1.0,))
        pairs = [_strip(batch, number) for number in range(2 * chosen.rows)]
        labelled = Image.fromarray(pairs[0])
        ImageDraw.Draw(labelled).text((4, 2), kind, fill="white", stroke_width=1, stroke_fill="black")
        pairs[0] = np.asarray(labelled)
        rows += [_beside([pairs[number], pairs[number + 1]], 1) for number in range(0, len(pairs), 2)]
    picture = Image.fromarray(_beside(rows, 0)).quantize(256)
    picture.save(chosen.out, optimize=True)
    size = chosen.out.stat().st_size
    print(f"{chosen.out}: {picture.width}x{picture.height}, {size} bytes")
    if size > LARGEST:
        raise SystemExit(f"larger than {LARGEST} bytes; ask for fewer --rows")


def _beside(parts: list[np.ndarray], axis: int) -> np.ndarray:
    shape = list(parts[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, 255, np.uint8)
    return np.concatenate([piece for part in parts for piece in (part, gap)][:-1], axis)


def _strip(batch: PairBatch, number: int) -> np.ndarray:
    """One pair, from left to right."""
    pictures = [((image[number].permute(1, 2, 0) + 1) * 127.5).byte().numpy() for image in (batch.image0, batch.image1)]
    depth, valid = batch.pointmap0[number, ..., 2], batch.valid0[number]
    near = torch.where(valid, 1 / depth.clamp(min=0.1), 0)
    near = (near / near.flatten().quantile(0.98)).clamp(0, 1).sqrt()
    pictures.append(np.repeat((near * 255).byte().numpy()[..., None], 3, 2))
    pictures.append(_coloured(batch.motion0[number, 0].numpy(), valid.numpy()))
    return _beside(pictures, 1)


def _coloured(motion: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Hue is the direction across the picture, lightness the direction along the optical axis."""
    wheel = np.array([colorsys.hsv_to_rgb(turn / 256, 1, 1) for turn in range(256)])
    far = np.linalg.norm(motion, axis=-1, keepdims=True)
    strength = np.clip(far / max(float(np.quantile(far, 0.99)), 0.05), 0, 1)
    turn = ((np.arctan2(motion[..., 1], motion[..., 0]) / (2 * np.pi)) % 1 * 255).astype(int)
    colour = wheel[turn] * 0.75 + 0.25 * (0.5 - 0.5 * motion[..., 2:] / np.maximum(far, 1e-6))
    mixed = 0.55 * (1 - strength) + colour * strength
    return (np.where(valid[..., None], mixed, 0.0).clip(0, 1) * 255).astype(np.uint8)


if __name__ == "__main__":
    main()
