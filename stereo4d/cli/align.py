"""``stereo4d align``: stored pair predictions into a 4D scene."""

from __future__ import annotations

from pathlib import Path

from stereo4d.video.options import StoredOptions


def align(
    pairs: list[str],
    *,
    out: str,
    options: StoredOptions,
    layout: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Align stored pair predictions in space and time, without video and without network.

    Args:
        pairs: a scene folder, its pairs folder, or .safetensors files of pairs of one clip.
        out: scene folder.
        options: how.
        layout: also write the scene as other programs lay it out, into a folder of that name in the scene folder:
            monst3r, or another format of stereo4d export.
        overwrite: replace a finished scene.
        quiet: show no progress and print nothing.
        json: print one JSON object instead of lines.
    """
    from stereo4d.cli.common import DONE, print_json
    from stereo4d.cli.layout import check_layout, write_layout
    from stereo4d.cli.scene_report import scene_lines, scene_report
    from stereo4d.progress import Progress
    from stereo4d.video.realign import align_stored

    check_layout(layout, Path(out), overwrite=overwrite)
    try:
        scene = align_stored(pairs, out, options=options, overwrite=overwrite, progress=Progress(quiet=quiet or json))
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{pairs[0]}: interrupted; {out} is unfinished; run the same command again") from stop
    laid_out = write_layout(scene, layout, Path(out), overwrite=overwrite)
    if json:
        print_json(scene_report(scene, Path(out), laid_out))
    elif not quiet:
        print("\n".join(scene_lines(scene, Path(out), laid_out)))
    return DONE
