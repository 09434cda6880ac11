"""Long clips in windows: memory and time as clips grow, accuracy beside one solve, loops that take drift away.

    python benchmarks/long_video.py                 # all rows
    python benchmarks/long_video.py memory --frames 250 1000 --size 160 224

Rows: ``memory`` (peak memory and time of clips of several lengths in windows of one size), ``accuracy`` (windows beside
one solve of all frames), ``loop`` (a circle with drift, with and without pairs that close it), ``large`` (65 frames
288x512 from disk, beside Adam extrapolated from 20 steps). Every piece of work runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from alignment_scenes import Told, cast_rays, furnish, handheld_path, predict_pair
from alignment_scenes import Truth as RoomTruth
from torch import Tensor

from stereo4d.evaluation.metrics import absolute_trajectory_error, path_length
from stereo4d.geometry.camera import pinhole, unproject
from stereo4d.geometry.rigid import invert, rotation_from_vector
from stereo4d.storage import save_arrays
from stereo4d.video.options import AlignmentOptions, StoredOptions
from stereo4d.video.pair_graph import pair_graph
from stereo4d.video.prediction_files import PREDICTED

SHARD = 48
DRIFT = 0.004
"""Radians, and share of the distance, by which every pair of neighbours is turned and shrunk to the same side."""


def make(
    folder: str,
    frames: int,
    size: tuple[int, int],
    graph: str,
    path: str = "handheld",
    noise: float = 0.004,
    drift: float = 0.0,
    closing: int = 0,
) -> dict[str, Any]:
    """Write a clip's pair predictions in half precision, shard by shard, and the true cameras."""
    cam2world = handheld_path(frames) if path == "handheld" else circle(frames)
    intrinsics = pinhole(torch.full((frames,), 0.85 * max(size), dtype=torch.float64), *size)
    furniture = furnish(cam2world[:, :3, 3], 0)
    depth = torch.stack([cast_rays(cam2world[n], intrinsics[n], *size, furniture) for n in range(frames)])
    edges = torch.tensor(pair_graph(graph, frames))
    loops = [(k, frames - 1 - k) for k in range(closing)]
    closed = torch.tensor([edge for i, j in loops for edge in ((i, j), (j, i))]).reshape(-1, 2).long()
    own = unproject(depth, intrinsics.float())
    truth = RoomTruth(cam2world, intrinsics, depth)
    into = Path(folder)
    for number, rows in enumerate(torch.cat([edges, closed]).split(SHARD)):
        said = []
        for edge in rows:
            apart = int(edge[1] - edge[0])
            # A pair that closes a loop sees the place as well as neighbours do.
            spread = noise if abs(apart) < frames // 2 else noise / (1 + 0.5 * abs(apart)) * 1.5
            pair = predict_pair(truth, own, edge, False, False, Told(noise=spread), 0)
            said.append((*pair[:2], drifted(pair[2], drift * (apart if abs(apart) < frames // 2 else 0)), pair[3]))
        arrays = {
            name: torch.stack(values).half() for name, values in zip(PREDICTED, zip(*said, strict=True), strict=True)
        }
        save_arrays(into / f"pairs-{number:05d}.safetensors", {"edges": rows, **arrays})
    save_arrays(into.with_suffix(".truth"), {"cam2world": cam2world})
    return {"pairs": len(edges) + len(closed)}


def drifted(points: Tensor, share: float) -> Tensor:
    """(H, W, 3) points of view 1, a little turned and shrunk about view 0."""
    turn = rotation_from_vector(torch.tensor([0.3 * share, share, 0.0]))
    return math.exp(-share) * points @ turn.T


def circle(frames: int) -> Tensor:
    """(N, 4, 4) once round the middle of the room, looking outwards a little, back to where it began."""
    angle = torch.linspace(0, 2 * torch.pi, frames, dtype=torch.float64)
    cam2world = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    cam2world[:, :3, :3] = rotation_from_vector(torch.stack([0 * angle, angle, 0 * angle], dim=1))
    cam2world[:, 0, 3], cam2world[:, 2, 3] = 1.2 * angle.sin(), 1.2 * (angle.cos() - 1)
    return cam2world


def solve(folder: str, out: str, window: int | None, overlap: int | None = None) -> dict[str, Any]:
    """Align stored pairs, the scene folder included."""
    from stereo4d.storage import map_arrays
    from stereo4d.video.realign import align_stored

    told: dict[str, Any] = {"window": window, "overlap": overlap}
    if "motion" in {entry.name for entry in fields(AlignmentOptions)}:
        told["motion"] = "off"
    began, worked = time.perf_counter(), time.process_time()
    scene = align_stored(folder, out, options=StoredOptions(alignment=AlignmentOptions(**told)), overwrite=True)
    seconds, worked = time.perf_counter() - began, time.process_time() - worked
    truth = torch.from_numpy(map_arrays(Path(folder).with_suffix(".truth"))["cam2world"].copy())
    found = torch.from_numpy(scene.cam2world).double()
    stages = scene.manifest["stages"]
    size = float(torch.from_numpy(scene.depth[:8].astype("float32")).median())
    return {
        "seconds": seconds,
        "processor seconds": worked,
        "alignment seconds": stages["alignment"]["seconds"],
        "alignment peak": stages["alignment"]["peak_memory_bytes"],
        "peak": max(stage["peak_memory_bytes"] for stage in stages.values()),
        "trajectory error": absolute_trajectory_error(found, truth) / path_length(truth),
        "end to start": end_to_start(found, truth, size),
        "windows": len(scene.manifest["alignment"].get("windows", [0])),
        "loops": [loop["believed"] for loop in scene.manifest["alignment"].get("loops", [])],
    }


def end_to_start(found: Tensor, truth: Tensor, size: float) -> float:
    """How far the last camera is from where the first one says it is, as a share of the scene's size."""
    ends, true = invert(found[0]) @ found[-1], invert(truth[0]) @ truth[-1]
    scale = (found[1:, :3, 3] - found[:-1, :3, 3]).norm(dim=-1).sum() / path_length(truth)
    return float((ends[:3, 3] - scale * true[:3, 3]).norm()) / size


def adam_step_seconds(frames: int, size: tuple[int, int], graph: str, steps: int) -> dict[str, Any]:
    """Seconds a step of Adam takes on all pixels of such a clip, predictions in memory."""
    from alignment_scenes import make_scene
    from stereo4d_plugins.solvers.adam import descend

    from stereo4d.alignment.initialise import initialise
    from stereo4d.alignment.survey import survey

    problem = make_scene(frames, *size, graph=graph, dtype=torch.float16).problem()
    cameras = initialise(survey(problem))
    began = time.perf_counter()
    descend(problem, cameras, iterations=steps)
    return {"seconds a step": (time.perf_counter() - began) / steps}


def apart(work: str, **told: Any) -> dict[str, Any]:
    """A piece of work in a process of its own."""
    argv = [sys.executable, __file__, "--work", work, json.dumps(told)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def row_memory(place: Path, frames: list[int], size: tuple[int, int], window: int) -> None:
    """Peak memory and time of clips of several lengths."""
    measured = []
    for count in frames:
        folder = place / f"clip-{count}"
        made = apart("make", folder=str(folder), frames=count, size=size, graph="swin-2-noncyclic")
        found = apart("solve", folder=str(folder), out=str(place / "out"), window=window)
        measured.append((count, found))
        print(f"{count} frames {size}, {made['pairs']} pairs, windows of {window}: {shown(found)}", flush=True)
        if count == min(frames):  # all at once takes as much memory as there are frames
            whole = apart("solve", folder=str(folder), out=str(place / "out"), window=count)
            print(f"{count} frames at once: {shown(whole)}", flush=True)
            ratio = found["trajectory error"] / whole["trajectory error"]
            print(f"trajectory error in windows over that of one solve: {ratio:.2f}", flush=True)
        shutil.rmtree(folder)
        shutil.rmtree(place / "out")
    (short, first), (long, last) = measured[0], measured[-1]
    if short != long:
        for name in ("alignment peak", "peak"):
            print(f"{name}: {last[name] / first[name]:.2f} times that of {short} frames", flush=True)
        for name in ("alignment seconds", "processor seconds"):
            power = math.log(last[name] / first[name]) / math.log(long / short)
            print(f"{name} grow as frames to the power {power:.2f}", flush=True)


def row_accuracy(place: Path, frames: int, size: tuple[int, int], window: int) -> None:
    """Windows beside one solve."""
    for noise in (0.004, 0.02):
        folder = place / f"clip-{noise}"
        apart("make", folder=str(folder), frames=frames, size=size, graph="swin-3-noncyclic", noise=noise)
        errors = []
        for length in (frames, window):
            found = apart("solve", folder=str(folder), out=str(place / "out"), window=length)
            errors.append(found["trajectory error"])
            print(f"{frames} frames {size}, noise {noise}, window {length}: {shown(found)}", flush=True)
        print(f"trajectory error in windows over that of one solve: {errors[1] / errors[0]:.2f}", flush=True)


def row_loop(place: Path, frames: int, size: tuple[int, int], window: int) -> None:
    """A circle with drift, with and without pairs that close it."""
    errors = []
    for closing in (0, 3):
        folder = place / f"circle-{closing}"
        told = {"path": "circle", "drift": DRIFT, "closing": closing, "graph": "swin-2-noncyclic"}
        apart("make", folder=str(folder), frames=frames, size=size, **told)
        found = apart("solve", folder=str(folder), out=str(place / "out"), window=window)
        errors.append(found["end to start"])
        print(f"{frames} frames {size}, {closing} loops: {shown(found)}", flush=True)
    print(f"end-to-start error with loops over that without: {errors[1] / errors[0]:.3f}", flush=True)


def row_large(place: Path, frames: int, size: tuple[int, int], steps: int) -> None:
    """MonST3R's case, predictions from disk, beside Adam."""
    graph = "swinstride-5-noncyclic"
    folder = place / "large"
    made = apart("make", folder=str(folder), frames=frames, size=size, graph=graph)
    found = apart("solve", folder=str(folder), out=str(place / "out"), window=None)
    print(f"{frames} frames {size}, {made['pairs']} pairs: {shown(found)}", flush=True)
    if steps:
        step = apart("adam_step_seconds", frames=frames, size=size, graph=graph, steps=steps)["seconds a step"]
        ratio = 300 * step / found["alignment seconds"]
        print(f"Adam, 300 steps from {steps}: {300 * step:.0f} s, {ratio:.0f} times as long", flush=True)


def shown(found: dict[str, Any]) -> str:
    """A measurement in words."""
    words = {name: f"{value / 2**20:.0f} MiB" if "peak" in name else value for name, value in found.items()}
    return ", ".join(f"{name} {v:.3g}" if isinstance(v, float) else f"{name} {v}" for name, v in words.items())


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        torch.set_num_threads(1)
        work = {"make": make, "solve": solve, "adam_step_seconds": adam_step_seconds}[sys.argv[2]]
        print(json.dumps(work(**json.loads(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", default=["memory", "accuracy", "loop", "large"])
    parser.add_argument("--frames", type=int, nargs="+", help="of the clips, instead of the row's own")
    parser.add_argument("--size", type=int, nargs=2, help="height and width, instead of the row's own")
    parser.add_argument("--window", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20, help="of Adam; 0 leaves it out")
    asked = parser.parse_args()
    size = tuple(asked.size) if asked.size else None
    with tempfile.TemporaryDirectory(prefix="long-video-") as name:
        place = Path(name)
        if "memory" in asked.rows:
            row_memory(place, asked.frames or [250, 1000], size or (160, 224), asked.window)
        if "accuracy" in asked.rows:
            row_accuracy(place, (asked.frames or [120])[0], size or (48, 64), asked.window)
        if "loop" in asked.rows:
            row_loop(place, (asked.frames or [300])[0], size or (48, 64), asked.window)
        if "large" in asked.rows:
            row_large(place, (asked.frames or [65])[0], size or (288, 512), asked.steps)


if __name__ == "__main__":
    main()
