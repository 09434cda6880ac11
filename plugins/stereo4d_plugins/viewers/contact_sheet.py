"""Contact sheets: a few frames of a clip side by side, as pictures or coloured by what is measured in them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

PAPER = (18, 20, 28)
INK = (225, 225, 225)
UNKNOWN = (95, 95, 105)  # no value; no colour of the colour map
TILE_AREA = 34_000  # pixels
BEST_SHAPE = 2.4  # width over height of the whole
GAP = 8
MOST_CELLS = 2500  # of one frame; finer grids would only look like noise, and fill the file


@dataclass(frozen=True)
class ContactSheet:
    """Where the chosen frames lie on a sheet; every sheet of one clip has the same places."""

    frames: tuple[int, ...]
    """Positions in the clip."""
    tile: tuple[int, int]
    """(height, width) of one frame on the sheet."""
    columns: int

    @classmethod
    def of(cls, num_frames: int, image_size: tuple[int, int], *, most: int = 8) -> ContactSheet:
        """Lay out at most so many frames, evenly spread over the clip.

        Args:
            num_frames: of the clip.
            image_size: (H, W) of its images; only their ratio counts.
            most: how many frames to choose.
        """
        chosen = np.unique(np.linspace(0, num_frames - 1, min(num_frames, most)).round().astype(int))
        ratio = image_size[1] / image_size[0]
        height = max(round((TILE_AREA / ratio) ** 0.5), 1)
        tile = (height, max(round(height * ratio), 1))

        def off(columns: int) -> float:
            """How far a sheet of so many columns is from the best shape, as a ratio's logarithm."""
            return abs(float(np.log(columns * ratio / -(-len(chosen) // columns) / BEST_SHAPE)))

        full = [columns for columns in range(1, len(chosen) + 1) if len(chosen) % columns == 0 or len(chosen) < 5]
        return cls(tuple(chosen.tolist()), tile, min(full, key=off))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the sheet, without a colour bar."""
        rows = -(-len(self.frames) // self.columns)
        return rows * (self.tile[0] + self._caption + GAP), self.columns * (self.tile[1] + GAP) - GAP

    @property
    def _caption(self) -> int:
        """Height of a line of text; "frame 100: 0.87 %" is 7 times as wide."""
        return max(min(self.tile[0] // 6, self.tile[1] // 7), 8)

    def pictures(self, rgb: np.ndarray) -> np.ndarray:
        """The sheet of a clip's own images.

        Args:
            rgb: (N, H, W, 3) uint8.

        Returns:
            (height, width, 3) uint8, empty where ``shares`` has its colour bar, so that both are shown at one scale.
        """
        area = (self.tile[1], self.tile[0])
        tiles = [cv2.resize(np.ascontiguousarray(rgb[i]), area, interpolation=cv2.INTER_AREA) for i in self.frames]
        sheet = self._paste(tiles, [f"frame {i}" for i in self.frames])
        return np.concatenate([sheet, np.full((self._caption, sheet.shape[1], 3), PAPER, np.uint8)])

    def shares(self, values: np.ndarray, top: float) -> np.ndarray:
        """The sheet of measured shares, with medians in percent, and a colour bar beneath.

        Args:
            values: (N, h, w) shares of a whole; NaN where there is none. The grid may be coarser than the images.
            top: where the colours end.

        Returns:
            (height, width, 3) uint8.
        """
        tiles, captions = [], []
        for i in self.frames:
            # Pixels stay visible as squares: the grid is part of what is shown.
            area = (self.tile[1], self.tile[0])
            tiles.append(cv2.resize(colored(coarse(values[i]), top), area, interpolation=cv2.INTER_NEAREST_EXACT))
            known = values[i][np.isfinite(values[i])]
            captions.append(f"frame {i}: {percent(float(np.median(known)))}" if len(known) else f"frame {i}")
        return np.concatenate([self._paste(tiles, captions), self._color_bar(top)])

    def _paste(self, tiles: list[np.ndarray], captions: list[str]) -> np.ndarray:
        sheet = Image.new("RGB", self.size[::-1], PAPER)
        draw = ImageDraw.Draw(sheet)
        for place, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
            row, column = divmod(place, self.columns)
            left, top = column * (self.tile[1] + GAP), row * (self.tile[0] + self._caption + GAP)
            draw.text((left, top + self._caption / 2), caption, fill=INK, font_size=0.8 * self._caption, anchor="lm")
            sheet.paste(Image.fromarray(tile), (left, top + self._caption))
        return np.asarray(sheet)

    def _color_bar(self, top: float) -> np.ndarray:
        """The colour map from 0 to ``top``, as wide as the sheet."""
        height, width = self._caption, self.size[1]
        strip = Image.new("RGB", (width, height), PAPER)
        draw = ImageDraw.Draw(strip)
        texts = ("0", f"{percent(top)} of the scene's size")
        first, last = (draw.textlength(text, font_size=0.8 * height) for text in texts)
        left, right = round(first) + GAP, width - round(last) - GAP
        draw.text((0, height / 2), texts[0], fill=INK, font_size=0.8 * height, anchor="lm")
        draw.text((width, height / 2), texts[1], fill=INK, font_size=0.8 * height, anchor="rm")
        if right > left:
            ramp = np.tile(np.linspace(0, 1, right - left), (height * 2 // 3, 1))
            strip.paste(Image.fromarray(colored(ramp, 1.0)), (left, height // 6))
        return np.asarray(strip)


def colored(values: np.ndarray, top: float) -> np.ndarray:
    """(h, w, 3) uint8 of values (h, w): dark at 0, bright at ``top`` and above, grey where there is none."""
    known = np.isfinite(values)
    levels = np.round(255 * np.clip(np.where(known, values, 0) / top, 0, 1)).astype(np.uint8)
    # In inferno equal steps look equal, and lightness alone tells the order.
    colors = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    colors[~known] = UNKNOWN
    return colors


def coarse(values: np.ndarray) -> np.ndarray:
    """Means of the known values in equal blocks of (h, w), at most ``MOST_CELLS`` of them; NaN where none is known."""
    size = max(int(np.ceil((values.size / MOST_CELLS) ** 0.5)), 1)
    padding = [(0, -length % size) for length in values.shape]
    padded = np.pad(np.where(np.isfinite(values), values, np.nan), padding, constant_values=np.nan)
    blocks = padded.reshape(padded.shape[0] // size, size, padded.shape[1] // size, size)
    counts = np.isfinite(blocks).sum((1, 3))
    return np.where(counts > 0, np.nansum(blocks, (1, 3)) / np.maximum(counts, 1), np.nan)


def percent(share: float) -> str:
    """A share in percent, to two digits."""
    return f"{float(f'{100 * share:.2g}'):g} %"
