"""What ``stereo4d evaluate`` does with pairs: of synthetic worlds of several kinds, and of another renderer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stereo4d.data.synthetic.worlds import Worlds
    from stereo4d.evaluation.clip_runs import Ours
    from stereo4d.evaluation.pair_columns import PairSource

PAIRS = 1024
"""Of each column, unless the user says otherwise."""
BATCH = 16
TRAINED = ("indoor", "corridor", "tabletop", "park")
"""Kinds of the rich world that the shipped recipes train on; the others are held out."""
HELD_OUT = ("street", "figures")


@dataclass(frozen=True)
class PairOptions:
    """Which pairs shall be measured."""

    pairs: int | None = None
    """How many pairs of each column, by default 1024; rounded up to batches of 16."""
    kinds: list[str] | None = None
    """Kinds of the rich world that the weights were trained on, a column of the table; none leaves it out."""
    held_out: list[str] | None = None
    """Kinds that they were not trained on, another column."""
    world: str | None = None
    """Another world instead of all these: the class path of a Worlds, or a YAML file with class_path and init_args."""
    plot: Path | None = None
    """Picture to draw error against confidence into."""

    @property
    def names_worlds(self) -> bool:
        """Whether it says of which worlds pairs shall be."""
        return any(option is not None for option in (self.kinds, self.held_out, self.world))

    @property
    def given(self) -> bool:
        """Whether anything is asked for that only pairs have."""
        return self.names_worlds or self.pairs is not None or self.plot is not None


def evaluate_pairs(benchmark: str, asked: PairOptions, ours: Ours, *, quiet: bool, json: bool) -> int:
    """Print a table of errors on pairs beside what guesses would score; every pair is by itself, as two images are.

    Args:
        benchmark: "synthetic" or "mujoco".
        asked: which pairs.
        ours: how they are predicted.
        quiet: show no progress.
        json: print one JSON object instead of a table.
    """
    from stereo4d.cli.common import print_json
    from stereo4d.errors import UsageError
    from stereo4d.evaluation.calibration import check_plot, draw_calibration
    from stereo4d.evaluation.pair_columns import MOTION_TIMES, column_table, measure_column
    from stereo4d.network.precision import resolve_device
    from stereo4d.progress import Progress
    from stereo4d.video.predictors import load_predictor

    pairs = PAIRS if asked.pairs is None else asked.pairs
    if pairs < 1:
        raise UsageError(f"--pairs {pairs}: at least one pair is needed")
    if asked.plot is not None:
        check_plot()
    predictor = load_predictor(ours.weights, device=resolve_device(ours.device), precision=ours.precision)
    size, patch = predictor.traits.size, predictor.traits.patch_size
    # The network's own resolution, in the aspect ratio 3:2 that most of its training pairs have.
    height = round(size * 2 / 3 / patch) * patch
    times = MOTION_TIMES if predictor.traits.takes_times else ()
    sources = _mujoco(height, size, times) if benchmark == "mujoco" else _synthetic(_worlds(asked), height, size, times)
    progress = Progress(quiet=quiet or json)
    count = -(-pairs // BATCH)
    columns = [
        measure_column(predictor, name, source, count, times=times, progress=progress)
        for name, source in sources.items()
    ]
    found = {column.name: column.calibration for column in columns}
    if asked.plot is not None:
        draw_calibration(asked.plot, found)
    if json:
        # the first column's figures stand at the top as well, where they always stood
        every = {column.name: column.as_dict() for column in columns}
        print_json({**columns[0].as_dict()["figures"], "columns": every})
    else:
        what = "MuJoCo" if benchmark == "mujoco" else "synthetic"
        each = " of each column" if len(columns) > 1 else ""
        print(f"{count * BATCH} held-out {what} pairs{each} of {size}x{height}, weights {ours.weights}\n")
        print(column_table(columns))
    return 0


def _worlds(asked: PairOptions) -> dict[str, Worlds]:
    """The worlds of each column."""
    from stereo4d.data.synthetic.rich import RichWorlds
    from stereo4d.data.synthetic.world import WorldConfig
    from stereo4d.errors import UsageError

    if asked.world is not None:
        if asked.kinds is not None or asked.held_out is not None:
            raise UsageError(f"--world {asked.world} is the only column; --kinds and --held-out are of the rich world")
        return {asked.world: _world(asked.world)}
    kinds = tuple(TRAINED if asked.kinds is None else asked.kinds)
    held_out = tuple([kind for kind in HELD_OUT if kind not in kinds] if asked.held_out is None else asked.held_out)
    if both := sorted({*kinds} & {*held_out}):
        raise UsageError(f"--kinds and --held-out both name {', '.join(both)}; a kind is either trained on or held out")
    rich = {f"rich: {', '.join(kinds)}": kinds, f"rich, held out: {', '.join(held_out)}": held_out}
    return {"plain rooms": WorldConfig(), **{name: RichWorlds(chosen) for name, chosen in rich.items() if chosen}}


def _world(name: str) -> Worlds:
    """A world by class path, or from a YAML file with class_path and init_args."""
    from jsonargparse import ArgumentError, ArgumentParser
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from stereo4d.data.synthetic.worlds import Worlds
    from stereo4d.errors import UsageError

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Worlds, "world")
    build = parser.instantiate if hasattr(parser, "instantiate") else parser.instantiate_classes
    try:
        said = OmegaConf.to_container(OmegaConf.load(name)) if Path(name).is_file() else {"class_path": name}
        return build(parser.parse_object({"world": said})).world
    except (ArgumentError, OmegaConfBaseException, OSError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UsageError(
            f"--world {name}: neither the class path of a Worlds nor a YAML file of one ({reason})"
        ) from error


def _synthetic(worlds: dict[str, Worlds], height: int, width: int, times: tuple[float, ...]) -> dict[str, PairSource]:
    from stereo4d.data.module import BatchRecipe

    return {name: BatchRecipe(world, BATCH, ((height, width),), at_times=times) for name, world in worlds.items()}


def _mujoco(height: int, width: int, times: tuple[float, ...]) -> dict[str, PairSource]:
    from stereo4d.evaluation.mujoco_pairs import MujocoPairs

    return {"MuJoCo": MujocoPairs(BATCH, height, width, times)}
