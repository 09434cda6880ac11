"""``stereo4d pair``: two images into pointmaps."""

from __future__ import annotations

from pathlib import Path


def pair(
    image0: str,
    image1: str,
    *,
    out: str,
    weights: str = "embedded",
    size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    quiet: bool = False,
) -> None:
    """Predict the 3D points of two images, both in the first image's camera, and store them as .npz.

    The file holds ``pointmap0`` and ``pointmap1`` (H, W, 3) and ``confidence0`` and ``confidence1`` (H, W), float32.

    Args:
        image0: first image file.
        image1: second image file.
        out: the .npz file to write.
        weights: 'embedded', a .pth or .safetensors file, or a folder with model.safetensors and config.json.
        size: long side at which the network sees the images, in pixels; by default what it was trained at.
        device: cpu, cuda, or auto.
        precision: exact (float32), bf16, or auto (bf16 where the processor has it).
        quiet: print nothing.
    """
    import numpy as np
    import torch

    from stereo4d.data.transforms import open_image, prepare_image
    from stereo4d.network.precision import resolve_device
    from stereo4d.network.weights import load_model
    from stereo4d.storage import atomic_file

    pictures = [open_image(image0), open_image(image1)]
    place = resolve_device(device)
    network = load_model(weights, device=place, precision=precision)
    side = max(network.config.img_size) if size is None else size
    views = [prepare_image(picture, side, patch_size=network.config.patch_size) for picture in pictures]
    with torch.inference_mode():
        prediction = network(*(view.image[None].to(place) for view in views))
    names = ("pointmap0", "pointmap1", "confidence0", "confidence1")
    arrays = {name: getattr(prediction, name)[0].float().cpu().numpy() for name in names}
    with atomic_file(Path(out)) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    if not quiet:
        shapes = " and ".join("x".join(map(str, arrays[name].shape[:2])) for name in names[:2])
        print(f"{out}: pointmaps of {shapes} pixels (height x width), in the camera of {image0}, scale unknown")
