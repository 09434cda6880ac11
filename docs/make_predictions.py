"""What weights say of pairs, beside the truth: ``python docs/make_predictions.py [CLIP ...]``.

Writes ``docs/pictures/embedded.png``: two held-out pairs each of plain rooms, of a kind of the rich world that was
trained on, and of one that was not; and of each CLIP pairs of frames. From left to right: view 0, view 1, the true
depth of view 0 (clips: none), the depth that the network says, how confident it is. Near is bright; sky is black.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import stereo4d
from stereo4d.data.module import HELD_OUT
from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.rich import RichWorlds
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.data.synthetic.worlds import Worlds
from stereo4d.video.clip import read_clip
from stereo4d.video.frames import look_at

HEIGHT, WIDTH, GAP = 96, 144, 3
SHOWN = 2  # pairs of each
SKIPPED = 5_000  # held-out seeds that measuring uses
APART = 10  # frames between the two of a clip
WORLDS: dict[str, Worlds] = {
    "plain rooms": WorldConfig(),
    "tabletop": RichWorlds(kinds=("tabletop",)),
    "street (held out)": RichWorlds(kinds=("street",)),
}


def main() -> None:
    """Predict and draw."""
    parser = argparse.ArgumentParser(description="Draw what weights say of pairs, beside the truth.")
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--weights", default="embedded")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "pictures" / "embedded.png")
    chosen = parser.parse_args()
    model = stereo4d.load_model(chosen.weights)
    strips = []
    for name, worlds in WORLDS.items():
        batch = sample_pairs(worlds, SHOWN, HEIGHT, WIDTH, seed=HELD_OUT + SKIPPED)
        truth = torch.where(batch.valid0, batch.pointmap0[..., 2], torch.inf)
        strips += _strips(name, model, batch.image0, batch.image1, truth)
    for clip in chosen.clips:
        source, listing = look_at([str(clip)])
        first = np.linspace(0, max(0, len(listing.times) - APART - 1), SHOWN).round().astype(int)
        frames = read_clip(source, listing, sorted({*first, *(first + APART)}), size=WIDTH)
        images = frames.images(range(len(frames)))
        strips += _strips(clip.stem, model, images[::2][:SHOWN], images[1::2][:SHOWN], None)
    columns = [np.concatenate(strips[column::SHOWN]) for column in range(SHOWN)]
    picture = Image.fromarray(np.concatenate(columns, 1))
    picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.LANCZOS).quantize(192).save(
        chosen.out, optimize=True
    )
    print(f"{chosen.out}: {chosen.out.stat().st_size} bytes")


def _strips(
    name: str, model: torch.nn.Module, image0: Tensor, image1: Tensor, truth: Tensor | None
) -> list[np.ndarray]:
    """A strip for each of (B, 3, H, W) pairs."""
    with torch.inference_mode():
        said = model(image0, image1)
    strips = []
    for number in range(len(image0)):
        depth, confidence = said.pointmap0[number, ..., 2], said.confidence0[number]
        known = torch.full_like(depth, torch.inf) if truth is None else truth[number]
        parts = [((image[number].permute(1, 2, 0) + 1) * 127.5).byte().numpy() for image in (image0, image1)]
        parts += [_grey(value) for value in (1 / known.clamp(min=0.1), 1 / depth.clamp(min=0.1), confidence.log())]
        labelled = Image.fromarray(np.concatenate(parts, 1))
        ImageDraw.Draw(labelled).text((4, 2), name, fill="white", stroke_width=1, stroke_fill="black")
        strips.append(np.pad(np.asarray(labelled), ((0, GAP), (0, GAP), (0, 0)), constant_values=255))
    return strips


def _grey(value: Tensor) -> np.ndarray:
    """(H, W, 3) from black, 0, to white, the largest but for two pixels in a hundred."""
    most = float(value.flatten().quantile(0.98))
    return np.repeat((255 * (value / max(most, 1e-6)).clamp(0, 1)).byte().numpy()[..., None], 3, 2)


if __name__ == "__main__":
    main()
