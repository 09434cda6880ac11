"""Heads at work on a view: with or without query times, and on batches that mix landscape and portrait images.

Mixed batches are stored landscape (DUSt3R, training); every head sees every image as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from stereo4d.errors import PluginError, ShapeError, Stereo4DError
from stereo4d.network.encoder import Encoded
from stereo4d.network.head import Head, TimedHead

RunHead = Callable[[Sequence[Tensor], tuple[int, int], Tensor], dict[str, Tensor]]
"""(token list of some images, their upright size, their places in the batch) to maps by name."""


def maps_of_views(
    heads: Sequence[Head | TimedHead],
    lists: Sequence[Sequence[Tensor]],
    views: Sequence[Encoded],
    times: Tensor | None,
    *,
    landscape_only: bool,
) -> dict[str, Tensor]:
    """Run the heads of both views.

    Args:
        heads: that of view 0 and that of view 1.
        lists: their token lists, float32.
        views: what the tokens come from.
        times: (B, Q) query times, for heads that take them.
        landscape_only: outputs are stored landscape, whatever the image.

    Returns:
        Maps by name with the view's number at the end: ``pointmap0``, ``confidence0``, ``pointmap1``, ...
    """
    found: dict[str, Tensor] = {}
    for number, (head, tokens, view) in enumerate(zip(heads, lists, views, strict=True)):
        run, image_axis = _ready(head, times)
        maps = run_upright(run, tokens, view, landscape_only=landscape_only, image_axis=image_axis)
        found |= {f"{name}{number}": value for name, value in maps.items()}
    return found


def _ready(head: Head | TimedHead, times: Tensor | None) -> tuple[RunHead, int]:
    """A head as ``run_upright`` takes it, and the axis of H in its maps."""
    if isinstance(head, TimedHead):
        assert times is not None, "heads that take times are left out where there are none"

        def run_timed(tokens: Sequence[Tensor], size: tuple[int, int], places: Tensor) -> dict[str, Tensor]:
            """The maps of some images at their query times."""
            return maps_of_head(head, tokens, size, times[places])

        return run_timed, 2

    def run(tokens: Sequence[Tensor], size: tuple[int, int], places: Tensor) -> dict[str, Tensor]:
        """The maps of some images."""
        return maps_of_head(head, tokens, size)

    return run, 1


def maps_of_head(
    head: Head | TimedHead, tokens: Sequence[Tensor], size: tuple[int, int], times: Tensor | None = None
) -> dict[str, Tensor]:
    """The maps of images as they stand, as the head declares them.

    Args:
        head: at work on one view.
        tokens: entries (B, T, C).
        size: (H, W) in pixels.
        times: (B, Q), for heads that take them.

    Raises:
        PluginError: the head fails, or does not write what it declares.
    """
    with _at_work(head, tokens, size):
        maps = head(tokens, size) if times is None else head(tokens, size, times)
    queries = () if times is None else (times.shape[1],)
    return _as_declared(head, maps, (len(tokens[0]), *queries, *size))


@contextmanager
def _at_work(head: Head | TimedHead, tokens: Sequence[Tensor], size: tuple[int, int]) -> Iterator[None]:
    """Whatever goes wrong inside a head, said of the head.

    Raises:
        PluginError: it failed.
    """
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError | Stereo4DError):
            raise
        widths = ", ".join(str(entry.shape[-1]) for entry in tokens)
        raise PluginError(
            f"head {type(head).__name__} fails on tokens of widths {widths}, images of {size[0]} x {size[1]} pixels: "
            f"{type(error).__name__}: {error}; its widths must be those of the dims it is built from"
        ) from error


def _as_declared(head: Head | TimedHead, maps: dict[str, Tensor], shape: tuple[int, ...]) -> dict[str, Tensor]:
    """The maps, if they are those that the head declares.

    Raises:
        PluginError: they are not.
    """
    if not (isinstance(maps, dict) and all(isinstance(value, Tensor) for value in maps.values())):
        raise PluginError(f"head {type(head).__name__} returned {type(maps).__name__}; it must return tensors by name")
    found = {name: tuple(value.shape) for name, value in maps.items()}
    declared = {output.name: (*shape, *output.shape) for output in head.outputs}
    if found != declared:
        wrong = sorted(name for name in found.keys() | declared.keys() if found.get(name) != declared.get(name))
        said = ", ".join(f"{name} {found.get(name, 'not written')}" for name in wrong)
        should = ", ".join(f"{name} {declared.get(name, 'not at all')}" for name in wrong)
        raise PluginError(
            f"head {type(head).__name__} wrote {said}; by its outputs it writes {should}: make one follow the other"
        )
    return maps


def run_upright(
    run: RunHead, tokens: Sequence[Tensor], view: Encoded, *, landscape_only: bool, image_axis: int = 1
) -> dict[str, Tensor]:
    """Run a head on every image as it stands, and lay the maps of portrait images down again where that is asked for.

    Args:
        run: the head.
        tokens: entries (B, T, C).
        view: what they come from.
        landscape_only: outputs are stored landscape, whatever the image.
        image_axis: of H in the maps; W follows.

    Raises:
        ShapeError: orientations are mixed where they may not be.
    """
    height, width = view.image_size
    portrait = view.portrait
    everything = torch.arange(len(view), device=view.tokens.device)
    if portrait is None or not portrait.any():
        return run(tokens, (height, width), everything)
    if not landscape_only:
        if not portrait.all():
            raise ShapeError("a batch mixes portrait and landscape images: set landscape_only, or split it")
        return run(tokens, (width, height), everything)

    def laid_down(places: Tensor) -> dict[str, Tensor]:
        """The maps of portrait images, transposed to lie as those of landscape ones do."""
        maps = run([entry[places] for entry in tokens], (width, height), places)
        return {name: value.transpose(image_axis, image_axis + 1) for name, value in maps.items()}

    if portrait.all():
        return laid_down(everything)
    lying = run([entry[~portrait] for entry in tokens], (height, width), everything[~portrait])
    turned = laid_down(everything[portrait])
    return {name: _merge(lying[name], turned[name], portrait) for name in lying}


def _merge(lying: Tensor, turned: Tensor, portrait: Tensor) -> Tensor:
    merged = lying.new_empty(len(portrait), *lying.shape[1:])
    merged[~portrait] = lying
    merged[portrait] = turned
    return merged
