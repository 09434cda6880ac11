"""Pieces of work of the alignment benchmark, done and measured one after the other in a process of their own.

``benchmarks/alignment.py`` starts it and writes requests to its stdin, one a line: ``{"work": "ours", ...}`` and the
like, other entries being the arguments. For each a line on stdout says what was measured, as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch
from alignment_scenes import Told, load_scene, make_scene
from stereo4d_plugins.solvers.adam import descend
from stereo4d_plugins.solvers.adam_objective import ByAutograd, WrittenOut
from torch import Tensor

from stereo4d.alignment import AlignmentProblem, align, recipe
from stereo4d.alignment.depth import dense_depth
from stereo4d.alignment.grid import scene_size
from stereo4d.alignment.initialise import initialise
from stereo4d.alignment.problem import Cameras, components, normalise_scale
from stereo4d.alignment.solver import ReweightedLeastSquares
from stereo4d.alignment.survey import survey
from stereo4d.alignment.trust import trusted_pairs
from stereo4d.evaluation.metrics import absolute_trajectory_error, align_trajectory, path_length
from stereo4d.geometry.camera import unproject
from stereo4d.geometry.rigid import similarity, transform_points
from stereo4d.types import PairPrediction

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
TERMS = {"by autograd": ByAutograd, "written out": WrittenOut}
Seconds = dict[str, float]


def make(folder: str, **scene: Any) -> dict[str, Any]:
    """Write a scene into a folder."""
    told: dict[str, Any] = {name: scene.pop(name) for name in Told.__dataclass_fields__ if name in scene}
    scene["dtype"] = getattr(torch, scene.get("dtype", "float32"))
    made = make_scene(**scene, told=Told(**told), folder=Path(folder))
    good = made.edges[~made.garbage]
    return {"edges": len(made.edges), "good pairs join all frames": len(components(good, len(made.truth.depth))) == 1}


def problem_in(folder: str) -> tuple[AlignmentProblem, Tensor]:
    """The problem of a scene, and (N, 4, 4) the true cameras; of the stored golden scene if the folder is "golden"."""
    if folder != "golden":
        scene = load_scene(Path(folder))
        return scene.problem(), scene.truth.cam2world
    stored = {name: torch.from_numpy(array) for name, array in np.load(GOLDEN / "align_scene.npz").items()}
    told = PairPrediction(stored["pts3d_1"], stored["conf_1"], stored["pts3d_2"], stored["conf_2"])
    return AlignmentProblem(stored["edges"], told, 5, shared_focal=False), stored["gt_c2w"]


def ours(folder: str) -> dict[str, Any]:
    """Align with what ships, start and dense depth included."""
    problem, truth = problem_in(folder)
    with timed_parts() as parts:
        began = time.perf_counter()
        result = align(problem)
        seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "parts": parts | {"the rest": seconds - sum(parts.values())},
        "iterations": result.iterations,
        "reason": result.reason,
        "pairs": len(result.pairs),
        "start loss": result.start_loss,
        "loss": result.final_loss,
        **camera_errors(result.cam2world, truth),
    }


def adam(folder: str, *, steps: int, terms: str = "written out", start: str = "all pairs") -> dict[str, Any]:
    """Adam from a start of ours; all pairs take part, since the family drops none."""
    problem, truth = problem_in(folder)
    began = time.perf_counter()
    cameras = initialise(survey(problem)) if start == "all pairs" else start_from_trusted(problem)
    depth, _ = dense_depth(problem, cameras, floor=1e-4 * scene_size(problem, cameras))
    started = time.perf_counter()
    state, losses = descend(problem, cameras, depth=depth, iterations=steps, terms=TERMS[terms])
    ended = time.perf_counter()
    return {
        "seconds": ended - began,
        "parts": {"start": started - began, "steps": ended - started},
        "iterations": steps,
        "start loss": losses[0],
        "loss": losses[-1],
        "start errors": camera_errors(cameras.cam2world, truth),
        **camera_errors(state.cam2world, truth),
    }


def start_from_trusted(problem: AlignmentProblem) -> Cameras:
    """Cameras by the pairs that we trust, and all pairs registered to what these cameras see."""
    seen = survey(problem)
    pairs = trusted_pairs(seen)
    believed, cameras = problem.restricted(pairs), initialise(seen.of(pairs))
    depth, _ = dense_depth(believed, cameras, floor=1e-4 * scene_size(believed, cameras))
    world = transform_points(cameras.cam2world, unproject(depth.double(), cameras.intrinsics)).flatten(1, 2)[:, ::7]
    told = problem.prediction
    source = torch.cat([told.pointmap0.flatten(1, 2)[:, ::7], told.pointmap1.flatten(1, 2)[:, ::7]], dim=1).double()
    weight = torch.cat([told.confidence0.flatten(1)[:, ::7], told.confidence1.flatten(1)[:, ::7]], dim=1).double()
    target = torch.cat([world[problem.edges[:, 0]], world[problem.edges[:, 1]]], dim=1)
    found = Cameras(cameras.cam2world, cameras.intrinsics, similarity(source, target, weight))
    return found.rescaled(normalise_scale(found.pair2world))


def camera_errors(cam2world: Tensor, truth: Tensor) -> dict[str, float]:
    """ATE as a share of the path, and the mean distance of centres in the truth's unit, both after a similarity."""
    found = cam2world.double()
    away = (align_trajectory(found, truth) - truth)[:, :3, 3].norm(dim=-1)
    return {
        "trajectory error": absolute_trajectory_error(found, truth) / path_length(truth),
        "centre error": float(away.mean()),
    }


@contextmanager
def timed_parts() -> Iterator[Seconds]:
    """Seconds spent in each of the recipe's steps, without what a step calls of the others, and in the solver."""
    spent: Seconds = {}
    inner = [0.0]

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(work)
        def measured(*args: Any, **kwargs: Any) -> Any:
            inner.append(0.0)
            began = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                whole = time.perf_counter() - began
                spent[name] = spent.get(name, 0.0) + whole - inner.pop()
                inner[-1] += whole

        return measured

    # Whatever the recipe is made of: its steps are the functions that it takes from the other modules or has itself.
    steps = {
        name: value
        for name, value in vars(recipe).items()
        if isinstance(value, FunctionType)
        and name not in ("align", "one_thread", "dataclass", "field", "contextmanager")
    }
    solve = ReweightedLeastSquares.solve
    try:
        for name, step in steps.items():
            setattr(recipe, name, timed(name, step))
        ReweightedLeastSquares.solve = timed("solver", solve)  # type: ignore[method-assign]
        yield spent
    finally:
        ReweightedLeastSquares.solve = solve  # type: ignore[method-assign]
        for name, step in steps.items():
            setattr(recipe, name, step)


def warm_up() -> None:
    """Both ways meet libraries that are loaded."""
    problem = make_scene(4, 12, 16).problem()
    align(problem)
    descend(problem, initialise(survey(problem)), iterations=2)


def main() -> None:
    known: dict[str, Callable[..., dict[str, Any]]] = {"make": make, "ours": ours, "adam": adam}
    warm = False
    for line in sys.stdin:
        request = json.loads(line)
        work = known[request.pop("work")]
        if work is not make and not warm:
            warm_up()
            warm = True
        torch.set_num_threads(request.pop("threads", 1))
        request.pop("run", None)  # tells repetitions apart
        measured = work(**request)
        # Kilobytes on Linux, bytes on macOS.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        print(json.dumps(measured | {"peak memory": peak}), flush=True)


if __name__ == "__main__":
    main()
