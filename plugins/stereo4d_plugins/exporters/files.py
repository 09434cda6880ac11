"""Small files that several formats are made of.

Content is put together in memory and written at once: libraries that write to disk themselves hide why that failed.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def write_npy(path: Path, array: np.ndarray) -> None:
    """Write one array as ``.npy``."""
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(array), allow_pickle=False)
    path.write_bytes(content.getbuffer())


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write a picture: (H, W, 3) uint8 in colour, or (H, W) uint8 in grey."""
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, format="PNG")
    path.write_bytes(content.getbuffer())


def write_rows(path: Path, rows: np.ndarray) -> None:
    """Write (R, K) numbers as text, a row a line; float32 numbers read back the same."""
    path.write_text("".join(" ".join(f"{value:.9g}" for value in row) + "\n" for row in rows), encoding="ascii")
