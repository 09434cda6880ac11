"""``stereo4d weights``: what is published, what a file is, from publisher to machine, from any format to one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from stereo4d.network.weights import CheckpointInfo
    from stereo4d.network.weights.catalogue import Published


def list_weights(*, json: bool = False) -> None:
    """List published weights: name, size, licence, resolution, heads, source, and whether they are here.

    Args:
        json: print one JSON object instead of lines.
    """
    from stereo4d.cli.common import print_json
    from stereo4d.network.weights.listing import listing

    entries = listing()
    if json:
        print_json({"weights": entries})
        return
    for entry in entries:
        print("\n".join(_lines_of(entry)))
    print("Fetch with: stereo4d weights fetch NAME. A name works wherever a path of weights does, once it is here.")


def show(file: str, *, json: bool = False) -> None:
    """Show what a weights file is, without running anything in it; of a predictor without weights, say so.

    Args:
        file: 'embedded', a .pth or .safetensors file, a folder with model.safetensors and config.json, a published name
            that has been fetched, or the name of an installed predictor.
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


def fetch(
    name: str, *, accept_licence: bool = False, folder: str | None = None, quiet: bool = False, json: bool = False
) -> None:
    """Bring published weights to this machine: gone on with where a cut left them, size and checksum compared.

    Args:
        name: of published weights, see: stereo4d weights list.
        accept_licence: the licence is read and accepted; it is asked for once. On a terminal there is a question.
        folder: put the files into FOLDER/NAME; by default into the hub's cache (HF_HOME), and what is not on the hub
            into the folder that STEREO4D_WEIGHTS names, or ~/.cache/stereo4d/weights.
        quiet: no progress.
        json: print one JSON object instead of lines.
    """
    from stereo4d.cli.common import print_json
    from stereo4d.network.weights.checkpoint import file_sha256
    from stereo4d.network.weights.fetching import fetch as bring
    from stereo4d.progress import Progress

    ask = _ask if sys.stdin.isatty() and sys.stderr.isatty() else None
    path = bring(name, accept_licence=accept_licence, ask=ask, folder=folder, progress=Progress(quiet=quiet))
    found = {"name": name, "path": str(path), "bytes": path.stat().st_size, "sha256": file_sha256(path)}
    if json:
        print_json(found)
    else:
        print(f"{name}: {path}\n{found['bytes']:,} bytes, sha256 {found['sha256']}")


def convert(
    file: str,
    out: str,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Rewrite weights of any format as a folder with safetensors, config and card; no code in them is run.

    Args:
        file: any weights that can be read: a file, a folder or a name.
        out: the folder to write.
        dtype: of the numbers; float16 takes half the room.
        overwrite: replace what is in the folder.
        json: print one JSON object instead of lines.
    """
    from stereo4d.cli.common import print_json
    from stereo4d.network.weights.converting import convert as rewrite

    path = rewrite(file, out, dtype=dtype, overwrite=overwrite)
    if json:
        print_json({"path": str(path), "bytes": path.stat().st_size})
    else:
        print(f"{path}: {path.stat().st_size:,} bytes of {dtype}")


ACTIONS: Mapping[str, Callable[..., int | None]] = {
    "list": list_weights,
    "show": show,
    "fetch": fetch,
    "convert": convert,
}
"""What may follow ``stereo4d weights``."""


def _ask(published: Published) -> bool:
    """Show a licence and ask, on a terminal."""
    print(f"{published.name}, {published.title}, from {published.source}", file=sys.stderr)
    print(f"licence: {published.licence}", file=sys.stderr)
    print("Accept this licence? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _lines_of(entry: Mapping[str, Any]) -> list[str]:
    """The lines of ``weights list`` about one of them."""
    size = f"{'' if entry['bytes_are_exact'] else 'about '}{entry['bytes'] / 1e9:.2f} GB"
    width, height = entry["resolution"]
    return [
        f"{entry['name']:<22}{entry['title']}",
        f"    {size}, up to {width}x{height}, heads: {', '.join(entry['heads'])}; {entry['source']}",
        f"    licence: {entry['licence']}",
        f"    {'here: ' + entry['path'] if entry['path'] else 'not here'}",
    ]


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
    lines += ["", "config as its tensors tell; the file does not say" if info.config_inferred else "config as stored"]
    lines += [f"  {name:<20} {value}" for name, value in info.config.items()]
    if info.card:
        lines += ["", "card"]
        lines += [f"  {name:<20} {value}" for name, value in info.card.items()]
    return lines
