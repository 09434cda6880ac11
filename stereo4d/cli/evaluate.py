"""``stereo4d evaluate``: measure weights on data with truth, and beside other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def evaluate(
    benchmark: Literal["synthetic", "mujoco", "agreement"],
    *,
    weights: str = "embedded",
    data: str | None = None,
    peer: str | None = None,
    pairs: int | None = None,
    kinds: list[str] | None = None,
    held_out: list[str] | None = None,
    world: str | None = None,
    plot: Path | None = None,
    clips: int | None = None,
    frames: int = 24,
    width: int = 512,
    height: int = 288,
    out: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Print a table of errors, beside what guesses or other programs would score.

    Args:
        benchmark: "synthetic": held-out pairs or clips of the synthetic worlds, always the same ones; "mujoco": pairs
            that another renderer makes, which needs the extra of that name; "agreement": the camera path of a clip of
            yours beside a peer's.
        weights: A name (see: stereo4d weights list), a weights file, a folder with model.safetensors and config.json,
            or 'classical' for no weights.
        data: The video, folder or glob of images that "agreement" looks at.
        peer: A program to compare with on whole clips, for example 'colmap', which needs the extra of that name.
        pairs: How many pairs of each column, by default 1024; rounded up to batches of 16.
        kinds: Kinds of the rich world that the weights were trained on, a column of the table; none leaves it out.
        held_out: Kinds that they were not trained on, another column.
        world: Another world instead of all these: the class path of a Worlds, or a YAML file with class_path and
            init_args.
        plot: Picture to draw error against confidence into.
        clips: Whole clips instead of pairs, so many static and so many dynamic ones; 8 where only clips make sense.
        frames: Frames of a clip.
        width: Width of synthetic clips in pixels, even.
        height: Height of synthetic clips in pixels, even.
        out: Folder that keeps synthetic clips and what was measured on them; what is there is not measured again.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, exact (float32), bf16 or fast.
        seed: Same seed, same reconstruction.
        quiet: Show no progress.
        json: Print one JSON object instead of a table.
    """
    from stereo4d.cli.evaluate_clips import evaluate_agreement, evaluate_clips, synthetic_clips
    from stereo4d.cli.evaluate_pairs import Asked, evaluate_pairs
    from stereo4d.errors import UsageError
    from stereo4d.evaluation.clip_runs import Ours
    from stereo4d.video.predictors import is_installed

    ours = Ours(weights, device, precision, seed)
    if frames < 1 or (clips is not None and clips < 1):
        raise UsageError(f"--frames {frames} --clips {clips}: at least one of each is needed")
    of_pairs = any(option is not None for option in (pairs, kinds, held_out, world, plot))
    if benchmark == "agreement":
        if data is None:
            raise UsageError("evaluate agreement compares camera paths on a clip of yours: name it with --data")
        if of_pairs or clips is not None or out is not None:
            raise UsageError("--clips, --out, --pairs and what goes with pairs are of made data, not of agreement")
        return evaluate_agreement(data, ours, peer or "colmap", frames=frames, quiet=quiet, json=json)
    if data is not None:
        raise UsageError(f"--data {data}: evaluate {benchmark} makes its data itself; only agreement takes --data")
    if benchmark == "mujoco" and any(option is not None for option in (clips, peer, out, kinds, held_out, world)):
        raise UsageError("evaluate mujoco measures pairs of one kind: it takes --pairs and --plot only")
    if benchmark == "mujoco" or (clips is None and peer is None and (of_pairs or not is_installed(weights))):
        asked = Asked(1024 if pairs is None else pairs, kinds, held_out, world, plot, quiet, json)
        return evaluate_pairs(benchmark, asked, weights, device, precision)
    if of_pairs:
        raise UsageError(
            "with --peer and --clips whole clips are measured; leave out --pairs, --kinds, --held-out, --world, --plot"
        )
    wanted = list(synthetic_clips(clips or 8, frames, width, height))
    return evaluate_clips(ours, peer, wanted, out=out, quiet=quiet, json=json)
