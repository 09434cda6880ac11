"""``stereo4d weights``: what a weights file is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from stereo4d.network.weights import CheckpointInfo


def weights(action: Literal["show"], file: str, *, json: bool = False) -> None:
    """Show what a weights file is, without running anything in it; of a predictor without weights, say so.

    Args:
        action: show.
        file: 'embedded', a .pth or .safetensors file, a folder with model.safetensors and config.json, or the name of
            an installed predictor.
        json: print one JSON object instead of lines.
    """
    from dataclasses import asdict

    from stereo4d.cli.common import print_json
    from stereo4d.network.weights import inspect
    from stereo4d.video.predictors import check_is_there, is_installed, load_predictor

    if is_installed(file):
        identity = load_predictor(file).identity(file)
        if json:
            print_json(asdict(identity))
        else:
            print(f"{identity.name}: no weights, an installed predictor of {identity.version}, {identity.licence}")
        return
    check_is_there(file)
    info = inspect(file)
    if json:
        print_json(asdict(info))
    else:
        print("\n".join(describe(info)))


def describe(info: CheckpointInfo) -> list[str]:
    """The lines of ``weights show``."""
    lines = [
        f"file        {info.path}",
        f"name        {info.name}",
        f"family      {info.family}, stored as {info.format}",
        f"licence     {info.licence}",
        f"sha256      {info.sha256}",
        f"size        {info.bytes / 1e6:.1f} MB, {info.parameters:,} parameters, {' and '.join(info.dtypes)}",
        "",
        "part of the network     keys   parameters",
    ]
    lines += [f"  {name:<20} {count['keys']:>6} {count['parameters']:>12,}" for name, count in info.groups.items()]
    lines += ["", "config as stored"]
    lines += [f"  {name:<20} {value}" for name, value in info.config.items()]
    if info.card:
        lines += ["", "card"]
        lines += [f"  {name:<20} {value}" for name, value in info.card.items()]
    return lines
