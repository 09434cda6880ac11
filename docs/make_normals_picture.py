"""The picture of docs/heads.md: ``python docs/make_normals_picture.py SCENE``.

SCENE is a folder that ``stereo4d reconstruct`` made with weights that have the page's normals head. Writes
``docs/pictures/head-normals.png``: frames of the clip above the normals that the head says, as colours.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from stereo4d import Scene

SHOWN = 4  # frames
LARGER = 2  # times


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description="Frames of a scene above the normals that a head says of them.")
    parser.add_argument("scene", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "pictures" / "head-normals.png")
    chosen = parser.parse_args()
    scene = Scene.load(chosen.scene)
    normals = scene.maps["normals.normal"]
    columns = []
    for frame in np.linspace(0, len(scene) - 1, SHOWN).round().astype(int):
        colours = (255 * (np.asarray(normals[frame], np.float32) / 2 + 0.5)).clip(0, 255).astype(np.uint8)
        columns.append(np.concatenate([scene.rgb[frame], colours]))
    picture = Image.fromarray(np.concatenate(columns, 1))
    larger = picture.resize((LARGER * picture.width, LARGER * picture.height), Image.Resampling.LANCZOS)
    larger.quantize(128).save(chosen.out, optimize=True)


if __name__ == "__main__":
    main()
