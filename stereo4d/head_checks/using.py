"""A head in use: a clip through the whole pipeline, its maps stored with the pairs, and its scene in the viewer."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from stereo4d.head_checks.lab import BESIDE, Lab, require
from stereo4d.types import PairPrediction, Scene
from stereo4d.video.head_maps import MOTION
from stereo4d.video.pipeline import reconstruct
from stereo4d.video.prediction_files import PREDICTED, read_predictions
from stereo4d.video.workspace import PAIRS_FOLDER, RECORDING
from stereo4d.viewing import load_viewer

SIZE = (48, 64)
PAIRS = 6
"""Of three frames, each with each, both ways."""


def in_the_pipeline(lab: Lab) -> str:
    """A clip becomes a scene, and the stored pairs hold what the head wrote, in its declared shapes."""
    edges, stored = read_predictions(scene_folder(lab) / PAIRS_FOLDER)
    require(len(edges) == PAIRS, f"{len(edges)} pairs are stored, not {PAIRS}")
    maps = maps_stored(lab, stored)
    for output in lab.subject.sample.outputs:
        for view in (0, 1):
            name = f"{output.name}{view}"
            require(name in maps, f"the stored pairs lack {name} (they have {', '.join(sorted(maps)) or 'nothing'})")
            shape = tuple(maps[name].shape)
            fits = (shape[0], *shape[-2 - len(output.shape) :]) == (PAIRS, *SIZE, *output.shape)
            require(
                fits, f"{name} of {PAIRS} pairs is stored as {shape}, by its outputs it is {(*SIZE, *output.shape)}"
            )
    return f"a scene of 3 frames from {PAIRS} pairs, {', '.join(sorted(maps))} stored with them"


def in_the_viewer(lab: Lab) -> str:
    """The scene has the maps that can be shown, and its recording, which holds them, is whole."""
    folder = scene_folder(lab)
    scene, recording = Scene.load(folder), folder / RECORDING
    wanted = [] if lab.subject.is_main or lab.subject.is_timed else lab.subject.sample.outputs
    shown = [output for output in wanted if output.shown_as != "nothing"]
    for output in shown:
        found = scene.maps.get(f"{BESIDE}.{output.name}")
        require(found is not None, f"{output.name} is shown as {output.shown_as}, but the scene has not kept it")
    load_viewer().check(recording)
    told = ", ".join(f"{output.name} as {output.shown_as}" for output in shown) or "nothing but points and confidence"
    return f"{recording.name}, {recording.stat().st_size / 1e3:.0f} kB, shows {told}"


def scene_folder(lab: Lab) -> Path:
    """The scene of the lab's clip, reconstructed when it is first asked for."""
    folder = lab.folder / "scene"
    if not folder.exists():
        reconstruct(lab.clip, folder, weights=lab.weights, device="cpu", graph="complete", size=max(SIZE))
    return folder


def maps_stored(lab: Lab, stored: PairPrediction) -> dict[str, Tensor]:
    """The head's maps among those of stored pairs."""
    if not lab.subject.is_main:
        return dict(stored.extras.get(BESIDE) or (stored.extras.get(MOTION, {}) if lab.subject.is_timed else {}))
    return {name: getattr(stored, name) for name in PREDICTED} | dict(stored.extras.get(lab.further, {}))
