"""Pictures of a scene as the viewer shows it: ``python docs/make_pictures.py SCENE --name demo``.

Writes ``NAME.png`` (the cloud beside RGB, depth and confidence at one time), ``NAME-times.png`` (the cloud at three
times) and, where the folder holds ``alignment.rrd``, ``NAME-alignment.png`` (the window after the last iteration, and
the cameras on their way there). Needs a Vulkan driver; a software one will do (Debian: mesa-vulkan-drivers).
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw
from stereo4d_plugins.viewers.alignment_look import CAMERAS
from stereo4d_plugins.viewers.rerun_process import HeadlessViewer

from stereo4d import Scene
from stereo4d.cli.view import find_alignment, find_recording
from stereo4d.storage import atomic_file
from stereo4d.viewing import load_viewer

BACKGROUND = (10, 11, 15)
GAP = 6
LABELS = ("RGB", "depth", "confidence")
WINDOW = (1280, 800)
MENU_HEIGHT = 36
ON_THE_WAY = 5  # iterations before the last that are shown
LARGEST = 400_000  # bytes of a picture


def main() -> None:
    """Render the pictures that the command line asks for."""
    parser = argparse.ArgumentParser(description="Render pictures of a scene folder.")
    parser.add_argument("scene", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "pictures")
    parser.add_argument("--name", default="demo")
    chosen = parser.parse_args()
    viewer = load_viewer("rerun")
    pictures = scene_pictures(Scene.load(chosen.scene), find_recording(chosen.scene, viewer))
    if (chosen.scene / f"alignment{viewer.suffix}").is_file():
        pictures |= {"-alignment": alignment_picture(find_alignment(chosen.scene, viewer))}
    for suffix, picture in pictures.items():
        print(save_small(picture, chosen.out / f"{chosen.name}{suffix}.png", width=1500 if "times" in suffix else 1200))


def scene_pictures(scene: Scene, recording: Path) -> dict[str, Image.Image]:
    """The cloud beside the images at one time, and the cloud at three times."""
    first, middle, last = (int(scene.frame_indices[i]) for i in (0, len(scene) // 2, -1))
    with HeadlessViewer(recording, size=(1600, 1200)) as viewer:
        clouds = []
        for frame in (first, last, middle):
            viewer.go_to(frame)
            clouds.append(shot(viewer, "4D"))
        images = trimmed([shot(viewer, name) for name in ("RGB", "Depth", "Confidence")])
        complain(viewer)
    start, end, cloud = trimmed(clouds, margin=30)
    overview = beside(cloud, [labelled(*pair) for pair in zip(images, LABELS, strict=True)])
    times = row([labelled(start, f"frame {first}"), labelled(cloud, f"frame {middle}"), labelled(end, f"frame {last}")])
    return {"": overview, "-times": times}


def alignment_picture(recording: Path) -> Image.Image:
    """The window after the last iteration, and beneath it the cameras at the start, on their way and at the end."""
    with HeadlessViewer(recording, size=WINDOW) as viewer:
        cameras = {}
        last = viewer.go_to(None)
        for iteration in sorted({*range(min(ON_THE_WAY, last)), last}):
            viewer.go_to(iteration)
            cameras[iteration] = shot(viewer, CAMERAS)
        window = shot(viewer, None)
        complain(viewer)
    window = window.crop((0, round(MENU_HEIGHT * window.height / WINDOW[1]), *window.size))
    width = (window.width - GAP * (len(cameras) - 1)) // len(cameras)
    small = [scaled(view, width) for view in trimmed(list(cameras.values()), margin=30)]
    return above(window, row([labelled(view, f"iteration {i}") for view, i in zip(small, cameras, strict=True)]))


def complain(viewer: HeadlessViewer) -> None:
    """End with what the views complain about, if anything."""
    if problems := viewer.problems():
        raise SystemExit("the viewer complains: " + "; ".join(problems))


def shot(viewer: HeadlessViewer, view: str | None) -> Image.Image:
    """One view of the viewer, or the whole window."""
    return Image.open(io.BytesIO(viewer.picture(view))).convert("RGB")


def trimmed(pictures: Sequence[Image.Image], *, margin: int = 0) -> list[Image.Image]:
    """Pictures of one size without the border that is empty in all of them."""
    boxes = []
    for picture in pictures:
        empty = Image.new("RGB", picture.size, picture.getpixel((2, 2)))
        box = ImageChops.difference(picture, empty).convert("L").point(lambda level: 255 * (level > 3)).getbbox()
        boxes.append(box or (0, 0, *picture.size))
    left, top, right, bottom = zip(*boxes, strict=True)
    width, height = pictures[0].size
    outer = (
        *(max(min(left) - margin, 0), max(min(top) - margin, 0)),
        *(min(max(right) + margin, width), min(max(bottom) + margin, height)),
    )
    return [picture.crop(outer) for picture in pictures]


def beside(large: Image.Image, column: Sequence[Image.Image]) -> Image.Image:
    """A large picture with a column of small ones at its right, as high as the large one."""
    height = (large.height - GAP * (len(column) - 1)) // len(column)
    width = max(round(picture.width * height / picture.height) for picture in column)
    width = min(width, large.width // 2)
    canvas = Image.new("RGB", (large.width + GAP + width, large.height), BACKGROUND)
    canvas.paste(large, (0, 0))
    for i, picture in enumerate(column):
        small = picture.copy()
        scale = min(width / small.width, height / small.height)
        small = small.resize((round(small.width * scale), round(small.height * scale)), Image.Resampling.LANCZOS)
        canvas.paste(small, (large.width + GAP, i * (height + GAP)))
    return canvas


def scaled(picture: Image.Image, width: int) -> Image.Image:
    """The picture as wide as asked for."""
    return picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)


def above(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """Two pictures, one above the other."""
    canvas = Image.new("RGB", (max(upper.width, lower.width), upper.height + GAP + lower.height), BACKGROUND)
    canvas.paste(upper, (0, 0))
    canvas.paste(lower, (0, upper.height + GAP))
    return canvas


def row(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one height side by side."""
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    canvas = Image.new("RGB", (width, pictures[0].height), BACKGROUND)
    position = 0
    for picture in pictures:
        canvas.paste(picture, (position, 0))
        position += picture.width + GAP
    return canvas


def labelled(picture: Image.Image, text: str) -> Image.Image:
    """The picture with a caption in its lower left corner."""
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    size = max(12, picture.height // 22)
    box = draw.textbbox((size // 2, picture.height - 2 * size), text, font_size=size)
    draw.rectangle((box[0] - size // 3, box[1] - size // 4, box[2] + size // 3, box[3] + size // 4), fill=BACKGROUND)
    draw.text((size // 2, picture.height - 2 * size), text, fill=(235, 235, 235), font_size=size)
    return picture


def save_small(picture: Image.Image, path: Path, *, width: int) -> str:
    """Save as PNG, narrower and with fewer colours until it is small enough for a repository."""
    while True:
        size = (width, round(picture.height * width / picture.width))
        small = picture.resize(size, Image.Resampling.LANCZOS)
        content = io.BytesIO()
        small.quantize(256, dither=Image.Dither.NONE, kmeans=2).save(content, "PNG", optimize=True)
        if content.tell() <= LARGEST:
            break
        width = round(0.9 * width)
    with atomic_file(path) as partial:
        partial.write_bytes(content.getvalue())
    return f"{path} {size[0]}x{size[1]} {content.tell() / 1000:.0f} kB"


if __name__ == "__main__":
    main()
