"""Can the files be read: frames of some pairs, opened as training would open them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stereo4d.data.pairing import FramePair
from stereo4d.data.parts import FromFrames
from stereo4d.data.posed_frames import Frame, PosedFrames
from stereo4d.data.reading import read_frame
from stereo4d.data_checks.finding import Finding
from stereo4d.errors import Stereo4DError

SHOWN = 3
"""Of many files with something wrong, so many are named."""
HELD = 24
"""Pairs whose frames are held for further checks: enough to judge by, and little memory."""


@dataclass(frozen=True)
class Opened:
    """What could be read of a part."""

    frames: PosedFrames
    pairs: list[tuple[FramePair, Frame, Frame]]
    """Different frames of pairs, ``HELD`` at most."""
    numbers: list[int]
    """Of pairs both of whose frames can be read."""


def chosen_pairs(count: int, wanted: int | None) -> list[int]:
    """Numbers of pairs, spread evenly over all."""
    if wanted is None or wanted >= count:
        return list(range(count))
    return np.linspace(0, count - 1, wanted).round().astype(int).tolist()


def check_files(part: FromFrames, numbers: list[int], label: str, rng: np.random.Generator) -> tuple[Finding, Opened]:
    """Read both frames of pairs.

    Args:
        part: whose.
        numbers: of the pairs.
        label: names the part.
        rng: for pairs that are drawn when asked for.
    """
    reasons: dict[tuple[str, int], str] = {}
    read: set[tuple[str, int]] = set()
    held: list[tuple[FramePair, Frame, Frame]] = []
    whole: list[int] = []
    for number in numbers:
        pair = part.pairing.settle(part.frames, part.table[number], rng)
        found: list[Frame | None] = []
        for index in (pair.first, pair.second):
            place = (pair.scene, index)
            if place in reasons:
                continue
            if place in read and len(held) >= HELD:
                found.append(None)
                continue
            frame, reason = _frame(part.frames, *place)
            if reason:
                reasons[place] = reason
            else:
                read.add(place)
                found.append(frame)
        if len(found) == 2:
            whole.append(number)
            first, second = found
            if len(held) < HELD and pair.first != pair.second and first is not None and second is not None:
                held.append((pair, first, second))
    return _said(label, reasons, len(read), len(numbers)), Opened(part.frames, held, whole)


def _frame(frames: PosedFrames, scene: str, index: int) -> tuple[Frame | None, str]:
    """A frame, or what is wrong with it."""
    try:
        return read_frame(frames, scene, index), ""
    except Stereo4DError as error:
        return None, str(error)
    except Exception as error:  # of a data set that is being written
        return None, f"scene {scene}, frame {index}: unexpected {type(error).__name__} in the data set's code: {error}"


def _said(label: str, reasons: dict[tuple[str, int], str], read: int, pairs: int) -> Finding:
    total = read + len(reasons)
    if not reasons:
        return Finding(label, "files", "ok", f"{read} frames of {pairs} pairs can be read")
    named = "; ".join(list(reasons.values())[:SHOWN])
    more = f"; and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
    return Finding(label, "files", "failed", f"{len(reasons)} of {total} frames cannot be used: {named}{more}")
