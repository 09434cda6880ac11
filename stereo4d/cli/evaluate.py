"""``stereo4d evaluate``: measure weights on data with truth, and beside other programs."""

from __future__ import annotations

from typing import Literal

from stereo4d.cli.evaluate_clips import ClipOptions
from stereo4d.cli.evaluate_pairs import PairOptions


def evaluate(
    benchmark: Literal["synthetic", "mujoco", "agreement"],
    *,
    weights: str = "embedded",
    data: str | None = None,
    peer: str | None = None,
    of_pairs: PairOptions,
    of_clips: ClipOptions,
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
        of_pairs: which pairs, where pairs are measured.
        of_clips: which clips, where whole clips are.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, exact (float32), bf16 or fast.
        seed: Same seed, same reconstruction.
        quiet: Show no progress.
        json: Print one JSON object instead of a table.
    """
    from stereo4d.cli.evaluate_clips import evaluate_agreement, evaluate_clips
    from stereo4d.cli.evaluate_pairs import evaluate_pairs
    from stereo4d.evaluation.clip_runs import Ours
    from stereo4d.video.predictors import is_installed

    ours = Ours(weights, device, precision, seed)
    of_clips.check()
    if benchmark == "agreement":
        source = _clip_to_agree_on(data, of_pairs, of_clips)
        return evaluate_agreement(source, ours, peer or "colmap", frames=of_clips.frames, quiet=quiet, json=json)
    _check_made_data(benchmark, data, peer, of_pairs, of_clips)
    whole_clips = of_clips.clips is not None or peer is not None
    # Installed predictors, such as 'classical', live on whole clips: of them pairs are measured only where asked for.
    if benchmark == "mujoco" or (not whole_clips and (of_pairs.given or not is_installed(weights))):
        return evaluate_pairs(benchmark, of_pairs, ours, quiet=quiet, json=json)
    return evaluate_clips(ours, peer, of_clips, quiet=quiet, json=json)


def _clip_to_agree_on(data: str | None, of_pairs: PairOptions, of_clips: ClipOptions) -> str:
    """The user's clip.

    Raises:
        UsageError: there is none, or options are given that only made data has.
    """
    from stereo4d.errors import UsageError

    if data is None:
        raise UsageError("evaluate agreement compares camera paths on a clip of yours: name it with --data")
    if of_pairs.given or of_clips.clips is not None or of_clips.out is not None:
        raise UsageError("--clips, --out, --pairs and what goes with pairs are of made data, not of agreement")
    return data


def _check_made_data(
    benchmark: str, data: str | None, peer: str | None, of_pairs: PairOptions, of_clips: ClipOptions
) -> None:
    """See that the options of a benchmark that makes its data go together.

    Raises:
        UsageError: they do not.
    """
    from stereo4d.errors import UsageError

    if data is not None:
        raise UsageError(f"--data {data}: evaluate {benchmark} makes its data itself; only agreement takes --data")
    whole_clips = of_clips.clips is not None or peer is not None
    if benchmark == "mujoco" and (whole_clips or of_clips.out is not None or of_pairs.names_worlds):
        raise UsageError("evaluate mujoco measures pairs of one kind: it takes --pairs and --plot only")
    if whole_clips and of_pairs.given:
        raise UsageError(
            "with --peer and --clips whole clips are measured; leave out --pairs, --kinds, --held-out, --world, --plot"
        )
