"""The contract between the network and its heads.

A head is a ``torch.nn.Module`` that turns the tokens of every layer into dense maps. It is built from the backbone's
dims, which the network hands over, so that no width is ever repeated in a config, and it is found by entry point
(group ``stereo4d.heads``). A new head is one new file.

A network has one main head, which writes the pointmap, and any number of heads beside it, each by a name of its own. A
constructor takes ``dims`` and, by keyword, whatever options the head has; a main head that has parameters named
``output_mode``, ``depth_mode`` or ``conf_mode`` is given those of the network's config.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from torch import Tensor, nn

from stereo4d import registry
from stereo4d.errors import PluginError, UsageError
from stereo4d.motion import MotionField
from stereo4d.network.objective import Objective, PairTruth
from stereo4d.types import PairPrediction

GROUP = "stereo4d.heads"


@dataclass(frozen=True)
class BackboneDims:
    """What a head needs to know of the backbone."""

    patch_size: int
    encoder_dim: int
    """Width of entry 0 of the token list (encoder output)."""
    decoder_dim: int
    """Width of entries 1 ... decoder_depth (decoder blocks)."""
    decoder_depth: int


Shown: TypeAlias = Literal["cloud", "arrows", "normals", "heat", "mask", "nothing"]
"""How a viewer shows a map: points, arrows from the pointmap's points, directions as colours, a colour scale, a mask of
what is above a half, or not at all."""


@dataclass(frozen=True)
class Output:
    """One map that a head writes."""

    name: str
    shape: tuple[int, ...] = ()
    """Beyond (B, H, W), or (B, Q, H, W) of heads that take times: () for one number a pixel, (3,) for a vector."""
    frame: str = ""
    """Of points and vectors: ``"view 0"`` for view 0's camera, ``"own"`` for the camera of the pixel's own view."""
    activation: str = ""
    """What values it takes, in words: ``"> 1"``, ``"unit length"``."""
    shown_as: Shown = "nothing"


class AnyHead(nn.Module, ABC):
    """What heads of both kinds have in common; derive from ``Head`` or ``TimedHead``."""

    @property
    @abstractmethod
    def outputs(self) -> Sequence[Output]:
        """The maps that it writes, all of them; a class attribute of this name does."""

    def objective(self, name: str) -> Objective | None:
        """What it is trained for as a head beside the main one, unless a recipe says otherwise.

        Args:
            name: of the head in the network's config: its maps are in ``PairPrediction.extras[name]``.

        Returns:
            None for a head that is not trained on its own.
        """
        return None

    def starting_values(self, main: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What it starts from as a head beside the main one, when training starts from weights that lack it.

        Args:
            main: tensors of those weights' main head of the same view, by their names within it; not to be changed.

        Returns:
            Values by the names of its own parameters; what is not among them starts fresh. By default none is.
        """
        return {}

    def motion_field(
        self, maps: Mapping[str, Tensor], points: Tensor, own_time: float, times: Tensor | None
    ) -> MotionField | None:
        """What its maps say about how the points of one view move; None, as by default, when nothing.

        Args:
            maps: what it wrote for the view, by the names of its outputs.
            points: (B, H, W, 3) of the view's pixels at the view's own time, in view 0's camera.
            own_time: 0 for view 0, 1 for view 1.
            times: (B, Q) query times that the maps are at; None for a head that takes none.
        """
        return None

    def measure(self, name: str, prediction: PairPrediction, truth: PairTruth) -> dict[str, Tensor]:
        """Figures of a validation batch by name, each a scalar or (B,) with NaN where a pair has none; none by default.

        Args:
            name: of the head in the network's config.
            prediction: of B pairs, the head's maps among its extras.
            truth: of the same pairs.
        """
        return {}


class Head(AnyHead):
    """Turns the token list of one view into dense maps."""

    extras_name: ClassVar[str] = "extras"
    """As a main head: where in ``PairPrediction.extras`` its maps beyond pointmap and confidence are found."""

    @abstractmethod
    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        """Predict dense maps.

        Args:
            tokens: decoder_depth + 1 entries (B, T, C): encoder output first, then the output of every decoder block,
                the last one normalised. T = (H / patch) * (W / patch), row-major.
            image_size: (H, W) in pixels.

        Returns:
            Maps (B, H, W, ...) by name. A main head returns ``pointmap`` (B, H, W, 3), in view 0's camera, and
            ``confidence`` (B, H, W), > 1.
        """


class TimedHead(AnyHead):
    """Turns the token list of one view into dense maps at query times; it stands beside the main head."""

    @abstractmethod
    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int], times: Tensor) -> dict[str, Tensor]:
        """Predict dense maps at each of the times.

        Args:
            tokens: as for ``Head``.
            image_size: (H, W) in pixels.
            times: (B, Q) query times, normalised: 0 is the time of view 0, 1 that of view 1.

        Returns:
            Maps (B, Q, H, W, ...) by name. What needs computing once for all times is computed once.
        """


def build_head(
    head_type: str, dims: BackboneDims, options: Mapping[str, Any], *, offered: Mapping[str, Any] | None = None
) -> Head | TimedHead:
    """Make a head by the name of its entry point.

    Args:
        head_type: entry point of group ``stereo4d.heads``.
        dims: of the backbone.
        options: keyword arguments of the constructor.
        offered: further ones, for constructors that have parameters of these names.

    Raises:
        PluginError: there is no such entry point, it cannot be imported, or it is no head.
        UsageError: the head has no such option, or cannot be built with them.
    """
    build = load_head(head_type)
    taken = inspect.signature(build).parameters
    unknown = sorted(set(options) - set(taken))
    if unknown and not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in taken.values()):
        known = ", ".join(name for name in taken if name != "dims") or "none"
        raise UsageError(
            f"unknown network options {', '.join(unknown)}: neither the network's own, nor of head {head_type!r}, "
            f"which has: {known}"
        )
    given = {name: value for name, value in (offered or {}).items() if name in taken}
    try:
        return build(dims, **{**given, **options})
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(
            f"head {head_type!r} ({build.__name__}) cannot be built from {dims} and options {dict(options)}: "
            f"{type(error).__name__}: {error}"
        ) from error


def load_head(head_type: str) -> type[Head] | type[TimedHead]:
    """The class that an entry point of group ``stereo4d.heads`` names.

    Raises:
        PluginError: there is no such entry point, it cannot be imported, or it is no head.
    """
    kind = registry.load(GROUP, head_type)
    if not (isinstance(kind, type) and issubclass(kind, Head | TimedHead)):
        raise PluginError(
            f"head {head_type!r} is {kind!r}, which is no head: derive it from stereo4d.network.head.Head, or from "
            "TimedHead if it takes query times"
        )
    if missing := sorted(getattr(kind, "__abstractmethods__", ())):
        raise PluginError(f"head {head_type!r} ({kind.__name__}) lacks {', '.join(missing)}: define what is missing")
    if "dims" not in inspect.signature(kind).parameters:
        raise PluginError(
            f"head {head_type!r} ({kind.__name__}) takes no dims: write its constructor __init__(self, dims, *, ...); "
            "the network hands over the backbone's"
        )
    return kind
