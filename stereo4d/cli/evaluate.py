"""``stereo4d evaluate``: measure weights on data with truth, and beside other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal


def evaluate(
    benchmark: Literal["synthetic", "agreement"],
    *,
    weights: str = "embedded",
    data: str | None = None,
    peer: str | None = None,
    pairs: int | None = None,
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
        benchmark: "synthetic": held-out pairs or clips of the synthetic world, always the same ones; "agreement": the
            camera path of a clip of yours beside a peer's.
        weights: A name (see: stereo4d weights list), a weights file, a folder with model.safetensors and config.json,
            or 'classical' for no weights.
        data: The video, folder or glob of images that "agreement" looks at.
        peer: A program to compare with on whole clips, for example 'colmap', which needs the extra of that name.
        pairs: How many synthetic pairs, by default 512; rounded up to batches of 16.
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
    from stereo4d.errors import UsageError
    from stereo4d.evaluation.clip_runs import Ours
    from stereo4d.video.predictors import is_installed

    ours = Ours(weights, device, precision, seed)
    if frames < 1 or (clips is not None and clips < 1):
        raise UsageError(f"--frames {frames} --clips {clips}: at least one of each is needed")
    if benchmark == "agreement":
        if data is None:
            raise UsageError("evaluate agreement compares camera paths on a clip of yours: name it with --data")
        if pairs is not None or clips is not None or out is not None:
            raise UsageError("--pairs, --clips and --out are of synthetic data; evaluate agreement has none of them")
        return evaluate_agreement(data, ours, peer or "colmap", frames=frames, quiet=quiet, json=json)
    if data is not None:
        raise UsageError(f"--data {data}: evaluate synthetic makes its data itself; only agreement takes --data")
    if clips is None and peer is None and (pairs is not None or not is_installed(weights)):
        return _evaluate_pairs(512 if pairs is None else pairs, weights, device, precision, quiet=quiet, json=json)
    if pairs is not None:
        raise UsageError(f"--pairs {pairs}: with --peer and --clips whole clips are measured; leave --pairs out")
    wanted = list(synthetic_clips(clips or 8, frames, width, height))
    return evaluate_clips(ours, peer, wanted, out=out, quiet=quiet, json=json)


MOTION_TIMES = (0.0, 0.5, 1.0)
"""Query times at which motion is measured: of each view the other's time, and half of the way."""


def _evaluate_pairs(pairs: int, weights: str, device: str, precision: str, *, quiet: bool, json: bool) -> int:
    """Print a table of errors on pairs beside what guesses would score; every pair is by itself, as two images are."""
    from stereo4d.cli.common import print_json
    from stereo4d.data.module import HELD_OUT, BatchRecipe
    from stereo4d.data.synthetic.world import WorldConfig
    from stereo4d.errors import UsageError
    from stereo4d.evaluation.motion import motion_figures
    from stereo4d.evaluation.pairs import join_figures, pair_figures, table
    from stereo4d.network.precision import resolve_device
    from stereo4d.progress import Progress
    from stereo4d.video.head_maps import MOTION
    from stereo4d.video.predictors import load_predictor

    if pairs < 1:
        raise UsageError(f"pairs={pairs}: at least one pair is needed")
    predictor = load_predictor(weights, device=resolve_device(device), precision=precision)
    size, patch = predictor.traits.size, predictor.traits.patch_size
    # The network's own resolution, in the aspect ratio 3:2 that most of its training pairs have.
    height = round(size * 2 / 3 / patch) * patch
    times = MOTION_TIMES if predictor.traits.takes_times else ()
    recipe = BatchRecipe(WorldConfig(), 16, ((height, size),), at_times=times)
    batches = []
    count = -(-pairs // recipe.batch_size)
    with Progress(quiet=quiet or json).stage("evaluate", count, "batch") as stage:
        for number in range(count):
            batch = recipe.make(HELD_OUT + 1_000_000 + number, "cpu")
            asked: dict[str, Any] = {"query_times": times} if times else {}
            prediction = predictor.predict_images(batch.image0, batch.image1, **asked)
            figures = pair_figures(prediction, batch)
            if MOTION in prediction.extras:
                figures |= motion_figures(prediction.extras[MOTION], prediction, batch)
            batches.append(figures)
            stage.advance()
    joined = join_figures(batches)
    if json:
        print_json({key: figure.row() for key, figure in joined.items()})
    else:
        print(f"{count * recipe.batch_size} held-out synthetic pairs of {size}x{height}, weights {weights}\n")
        print(table(joined))
    return 0
