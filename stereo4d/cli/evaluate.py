"""``stereo4d evaluate``: measure weights on data with truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from stereo4d.types import PairPrediction


def evaluate(
    benchmark: Literal["synthetic"],
    *,
    weights: str = "embedded",
    pairs: int = 512,
    device: str = "auto",
    precision: str = "auto",
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Print a table of errors beside what guesses would score.

    Args:
        benchmark: "synthetic": held-out pairs of the synthetic world, always the same ones.
        weights: A name, a weights file or a folder with model.safetensors and config.json.
        pairs: How many pairs; rounded up to batches of 16.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, exact (float32) or bf16.
        quiet: Show no progress.
        json: Print one JSON object instead of a table.
    """
    import torch

    from stereo4d.cli.common import print_json
    from stereo4d.data.module import HELD_OUT, BatchRecipe
    from stereo4d.data.synthetic.world import WorldConfig
    from stereo4d.errors import UsageError
    from stereo4d.evaluation.pairs import join_figures, pair_figures, table
    from stereo4d.network.precision import resolve_device
    from stereo4d.network.weights import load_model
    from stereo4d.progress import Progress

    if pairs < 1:
        raise UsageError(f"pairs={pairs}: at least one pair is needed")
    place = resolve_device(device)
    network = load_model(weights, device=place, precision=precision)
    size = max(network.config.img_size)
    # The network's own resolution, in the aspect ratio 3:2 that most of its training pairs have.
    height = round(size * 2 / 3 / network.config.patch_size) * network.config.patch_size
    recipe = BatchRecipe(WorldConfig(), 16, ((height, size),))
    batches = []
    count = -(-pairs // recipe.batch_size)
    with Progress(quiet=quiet or json).stage("evaluate", count, "batch") as stage, torch.inference_mode():
        for number in range(count):
            batch = recipe.make(HELD_OUT + 1_000_000 + number, "cpu")
            prediction = network(batch.image0.to(place), batch.image1.to(place))
            batches.append(pair_figures(_on_cpu(prediction), batch))
            stage.advance()
    figures = join_figures(batches)
    if json:
        print_json({key: figure.row() for key, figure in figures.items()})
    else:
        print(f"{count * recipe.batch_size} held-out synthetic pairs of {size}x{height}, weights {weights}\n")
        print(table(figures))
    return 0


def _on_cpu(prediction: PairPrediction) -> PairPrediction:
    """The same maps where the truth is."""
    return replace(
        prediction,
        pointmap0=prediction.pointmap0.cpu(),
        confidence0=prediction.confidence0.cpu(),
        pointmap1=prediction.pointmap1.cpu(),
        confidence1=prediction.confidence1.cpu(),
    )
