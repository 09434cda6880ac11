"""``stereo4d check-data``: is the data what it is taken for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stereo4d.errors import InputError, UsageError

if TYPE_CHECKING:
    from stereo4d.data_checks import Finding


def check_data(
    config: Path, *, pairs: int = 24, save: Path | None = None, viewer: str = "rerun", json: bool = False
) -> None:
    """Look at the data of a recipe: pairs, files, depth, cameras, tracks, what training will see; a line each.

    Where cameras or depth do not fit the images, the convention under which they do is named. The exit code is 1 if
    something is wrong.

    Args:
        config: a file for stereo4d fit, or its data part alone.
        pairs: of each part of the mixture, spread over all of them; 0 looks at every pair.
        save: write some pairs of each part to this file, for a person to look at.
        viewer: an installed viewer, which writes it.
        json: print one JSON object instead of lines.
    """
    from dataclasses import asdict

    from stereo4d.cli.common import print_json
    from stereo4d.data.mixed_pairs import MixedPairs
    from stereo4d.data_checks import check_parts
    from stereo4d.viewing import load_viewer

    if pairs < 0:
        raise UsageError(f"--pairs {pairs}: give a number of pairs, or 0 for all")
    shown = None if save is None else load_viewer(viewer)
    if shown is not None and save is not None and save.suffix != shown.suffix:
        raise UsageError(f"--save {save}: the {viewer} viewer writes {shown.suffix} files")
    module = read_data(config)
    if not isinstance(module, MixedPairs):
        raise UsageError(
            f"{config}: its data are {type(module).__name__}, which make their own truth; what is checked are the "
            "parts of stereo4d.data.mixed_pairs.MixedPairs"
        )
    if not any(module.parts.values()):
        raise UsageError(f"{config}: neither train nor val nor test has a part; there is nothing to check")
    tell = _silent if json else _print
    looked = check_parts(module.parts, module.shapes[0], pairs=pairs or None, keep=4 if save else 0, tell=tell)
    if shown is not None and save is not None and looked.pairs:
        shown.write_pairs(looked.pairs, save)
    failed = [finding for finding in looked.findings if finding.verdict == "failed"]
    if json:
        print_json({"passed": not failed, "findings": [asdict(finding) for finding in looked.findings]})
    if failed:
        more = f" (and {len(failed) - 1} more of {len(looked.findings)} findings)" if len(failed) > 1 else ""
        reason = failed[0].said.partition("; ")[0]
        raise InputError(f"{failed[0].part}: {reason} [check {failed[0].check!r}]{more}")


def read_data(config: Path) -> Any:
    """The data module that a recipe describes.

    Args:
        config: a file for ``stereo4d fit``, of which only ``data`` is read, or one with that part alone.

    Raises:
        InputError: it cannot be read.
        UsageError: it describes no data, or something in it is not known.
    """
    from jsonargparse import ArgumentParser

    from stereo4d.data.mixed_pairs import MixedPairs
    from stereo4d.data.module import SyntheticPairs

    parser = ArgumentParser(parser_mode="omegaconf+", exit_on_error=False)
    parser.add_subclass_arguments((MixedPairs, SyntheticPairs), "data", required=True)
    try:
        # by the name that it has had since jsonargparse 4.49, which warns of the other
        build = parser.instantiate if hasattr(parser, "instantiate") else parser.instantiate_classes
        return build(parser.parse_object({"data": _data_part(config)}))["data"]
    except (InputError, UsageError):
        raise
    except Exception as error:  # jsonargparse's own, and those of classes that it builds
        raise UsageError(f"{config}: {' '.join(str(error).split())}") from error


def _data_part(config: Path) -> Any:
    """What the file says under ``data``, or as a whole."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        content = OmegaConf.to_container(OmegaConf.load(config), resolve=False)
        if isinstance(content, Mapping) and "data" in content:
            return OmegaConf.to_container(OmegaConf.load(config), resolve=True)["data"]  # type: ignore[call-overload, index]
    except FileNotFoundError as error:
        raise InputError(f"{config}: no such file") from error
    except (OSError, ValueError, OmegaConfBaseException) as error:
        raise InputError(f"{config}: not a YAML file that can be read: {' '.join(str(error).split())}") from error
    except Exception as error:  # of the YAML parser, whose errors have no base that omegaconf tells of
        raise InputError(f"{config}: not a YAML file: {' '.join(str(error).split())}") from error
    if isinstance(content, Mapping) and "class_path" in content:
        return content
    raise UsageError(f"{config}: has no 'data'; give a file for stereo4d fit, or one with class_path and init_args")


def _print(finding: Finding) -> None:
    mark = "FAILED" if finding.verdict == "failed" else finding.verdict
    print(f"{mark:<8}{finding.part}: {finding.check:<9}{finding.said}", flush=True)


def _silent(finding: Finding) -> None:
    """Nothing: all is told at the end."""
