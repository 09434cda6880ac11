"""``stereo4d pair``: two images into pointmaps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from stereo4d.types import PairPrediction, View


def pair(
    image0: str,
    image1: str,
    *,
    out: str,
    weights: str = "embedded",
    size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    matches: bool = False,
    time: list[float] | None = None,
    quiet: bool = False,
) -> None:
    """Predict the 3D points of two images, both in the first image's camera, and store them as .npz.

    The file holds ``pointmap0`` and ``pointmap1`` (H, W, 3) and ``confidence0`` and ``confidence1`` (H, W), float32; of
    a network that describes pixels also ``descriptors0`` and ``descriptors1`` (H, W, K) of unit length, and
    ``descriptor_confidence0`` and ``descriptor_confidence1`` (H, W).

    Args:
        image0: first image file.
        image1: second image file.
        out: the .npz file to write.
        weights: 'embedded', an installed predictor such as 'classical', a .pth or .safetensors file, published weights
            by their name once they are here (see: stereo4d weights list), or a folder with model.safetensors and
            config.json.
        size: long side at which the predictor sees the images, in pixels; by default what it was trained at.
        device: cpu, cuda, or auto.
        precision: exact (float32), bf16, auto (bf16 where the processor has it), or fast (heads in it, too).
        seed: same seed, same points.
        matches: also store 'matches' (M, 4), x and y of pixels of the first image as it is given and of those of the
            second that show the same, and 'match_scores' (M,), more is better.
        time: also store where points are at these times, 0 being that of the first image and 1 that of the second:
            'motion0' and 'motion1' (T, H, W, 3), from the pixel's own time, in the first image's camera,
            'motion_confidence0' and 'motion_confidence1' (T, H, W), and 'times' (T,); for weights with a motion head.
        quiet: print nothing.
    """
    from stereo4d.data.transforms import open_image, prepare_image
    from stereo4d.network.precision import resolve_device
    from stereo4d.video.head_maps import asked_of_pair, motion_of_pair
    from stereo4d.video.predictors import load_predictor

    pictures = [open_image(image0), open_image(image1)]
    predictor = load_predictor(weights, device=resolve_device(device), precision=precision)
    side = predictor.traits.size if size is None else size
    view0, view1 = (prepare_image(picture, side, patch_size=predictor.traits.patch_size) for picture in pictures)
    prediction = predictor.predict_images(view0.image[None], view1.image[None], seed=seed, **asked_of_pair(time))
    arrays = _maps_of(prediction)
    if time:
        arrays |= motion_of_pair(prediction, time)
    if matches:
        arrays |= _matches_of(prediction, view0, view1)
    _write(Path(out), arrays)
    if not quiet:
        shapes = " and ".join("x".join(map(str, arrays[name].shape[:2])) for name in ("pointmap0", "pointmap1"))
        print(f"{out}: pointmaps of {shapes} pixels (height x width), in the camera of {image0}, scale unknown")
        if matches:
            print(f"{len(arrays['matches'])} matches")


def _maps_of(prediction: PairPrediction) -> dict[str, np.ndarray]:
    """Pointmaps and confidence of a single pair, and descriptors where there are any, each without the batch axis."""
    from stereo4d.downstream.matching import DESCRIPTORS

    names = ("pointmap0", "pointmap1", "confidence0", "confidence1")
    maps = {name: getattr(prediction, name) for name in names} | dict(prediction.extras.get(DESCRIPTORS, {}))
    return {name: value[0].numpy() for name, value in maps.items()}


def _matches_of(prediction: PairPrediction, view0: View, view1: View) -> dict[str, np.ndarray]:
    """``matches`` (M, 4) in pixels of the images as they were given, and ``match_scores`` (M,)."""
    import numpy as np

    from stereo4d.downstream.matching import fast_reciprocal_matches, match_pair

    found = match_pair(prediction, descriptor_matcher=fast_reciprocal_matches)
    found = found.to_original(view0.to_original, view1.to_original)
    return {"matches": np.concatenate([found.pixels0, found.pixels1], axis=1), "match_scores": found.score}


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    """Store arrays as .npz, whole or not at all."""
    import numpy as np

    from stereo4d.storage import atomic_file

    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
