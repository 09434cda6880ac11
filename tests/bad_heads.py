"""Heads, one of them good, every other with one fault of its own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stereo4d.network.head import BackboneDims, Head, Output, TimedHead
from stereo4d.network.objective import LossValue, Objective, PairTruth
from stereo4d.types import PairPrediction


@dataclass(frozen=True)
class Squares(Objective):
    name: str

    def __call__(self, prediction: PairPrediction, truth: PairTruth) -> LossValue:
        return LossValue(sum(value.square().mean() for value in prediction.extras[self.name].values()))


class Good(Head):
    outputs: Sequence[Output] = (Output("level", shown_as="heat"),)

    def __init__(self, dims: BackboneDims, *, hidden: int = 8) -> None:
        super().__init__()
        self.dims = dims
        self.inner = nn.Linear(dims.decoder_dim, hidden)
        self.outer = nn.Linear(hidden, dims.patch_size**2)

    def raw(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        side = self.dims.patch_size
        raw = self.outer(self.inner(tokens[-1]).tanh()).transpose(1, 2)
        return functional.pixel_shuffle(raw.unflatten(2, (image_size[0] // side, image_size[1] // side)), side)[:, 0]

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        return {"level": self.raw(tokens, image_size)}

    def objective(self, name: str) -> Objective | None:
        return Squares(name)


class OfThisWidth(Good):
    """Its widths are those of another backbone."""

    def __init__(self, dims: BackboneDims) -> None:
        super().__init__(dims)
        self.inner = nn.Linear(192, 8)


class Coarse(Good):
    """A number a token, where it declares one a pixel."""

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        return {"level": self.raw(tokens, image_size)[:, ::16, ::16]}


class Speechless(Good):
    """Writes under another name than it declares."""

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        return {"height": self.raw(tokens, image_size)}


class Tuple(Good):
    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> tuple[Tensor]:  # type: ignore[override]
        return (self.raw(tokens, image_size),)


class NotANumber(Good):
    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        return {"level": (self.raw(tokens, image_size) - 100).log()}


class Doubles(Good):
    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        return {"level": self.raw(tokens, image_size).double()}


class Frameless(Good):
    outputs = (Output("level", (3,), shown_as="arrows"),)


class Unshowable(Good):
    outputs = (Output("level", (2,), frame="own", shown_as="normals"),)


class Twice(Good):
    outputs = (Output("level"), Output("level"))


class NoDims(Good):
    def __init__(self, width: int = 48) -> None:
        super().__init__(BackboneDims(16, width, width, 4))


class NoForward(Head):
    outputs = (Output("level"),)

    def __init__(self, dims: BackboneDims) -> None:
        super().__init__()


class Raises(Good):
    def __init__(self, dims: BackboneDims) -> None:
        raise KeyError("weights of mine")


class NoHead(nn.Module):
    def __init__(self, dims: BackboneDims) -> None:
        super().__init__()


class Moody(Good):
    """Says something else at every call."""

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        level = self.raw(tokens, image_size)
        return {"level": level + torch.rand_like(level)}


class Social(Good):
    """An image's map depends on its batch."""

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        level = self.raw(tokens, image_size)
        return {"level": level - level.mean()}


class Sharing(Good):
    """All of its kind share what they count."""

    built = 0

    def __init__(self, dims: BackboneDims) -> None:
        super().__init__(dims)
        type(self).built += 1

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        return {"level": self.raw(tokens, image_size) * type(self).built}


class Halves(Good):
    """Computes in half precision, where real tokens overflow."""

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        return {
            "level": (self.raw([1e4 * entry for entry in tokens], image_size) * 0 + tokens[-1].pow(6).max())
            .half()
            .float()
        }


class Overflowing(Good):
    """A weight of it is larger than half precision can hold."""

    def __init__(self, dims: BackboneDims) -> None:
        super().__init__(dims)
        self.large = nn.Parameter(torch.tensor([1e6]))

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        return {"level": self.raw(tokens, image_size) * self.large / 1e6}


class NormAtZero(Good):
    """Has no gradient where the tokens are zero."""

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        length = (tokens[-1] * self.inner.weight[0]).square().sum((1, 2)).sqrt()
        return {"level": self.raw(tokens, image_size) + length[:, None, None]}


class Forgetful(Good):
    """Draws something that no file holds."""

    def __init__(self, dims: BackboneDims) -> None:
        super().__init__(dims)
        self.offset = 1 + random.random()

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        return {"level": self.raw(tokens, image_size) + self.offset}


class LeftOver(Good):
    """A layer that takes no part."""

    def __init__(self, dims: BackboneDims) -> None:
        super().__init__(dims)
        self.later = nn.Linear(2, 2)


class Thawing(Good):
    """Writes a map that no gradient comes from."""

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        return {"level": self.raw(tokens, image_size).detach()}


class Aimless(Good):
    """Its objective is no number."""

    def objective(self, name: str) -> Objective:
        return 1e38 * (1e38 * Squares(name))


class Verbose(Good):
    """A figure for every pixel."""

    def measure(self, name: str, prediction: PairPrediction, truth: PairTruth) -> dict[str, Tensor]:
        return {"level": prediction.extras[name]["level0"]}


class InPipelineOnly(Good):
    """Stops at images of a clip."""

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        assert len(tokens[0]) < 4, "too many at once"
        return super().forward(tokens, image_size)


class GoodTimed(TimedHead):
    outputs = (Output("level", shown_as="heat"),)

    def __init__(self, dims: BackboneDims) -> None:
        super().__init__()
        self.plain = Good(dims)

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int], times: Tensor) -> dict[str, Tensor]:
        return {"level": self.plain.raw(tokens, image_size)[:, None] * (1 + times[..., None, None])}


class Timeless(GoodTimed):
    """Takes query times and does not heed them."""

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int], times: Tensor) -> dict[str, Tensor]:
        return super().forward(tokens, image_size, torch.zeros_like(times))


class Averaging(GoodTimed):
    """What it says at one time depends on the others."""

    def forward(self, tokens: Sequence[Tensor], image_size: tuple[int, int], times: Tensor) -> dict[str, Tensor]:
        return super().forward(tokens, image_size, times - times.mean(1, keepdim=True))
