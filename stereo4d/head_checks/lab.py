"""Where a head is tried: narrow networks with drawn weights, tokens, pairs with truth, and a clip of three frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stereo4d.data.pair_batch import PairBatch
from stereo4d.data.synthetic.clip import synthesize_clip
from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.head_checks.subject import NARROW, Subject
from stereo4d.network.config import HeadChoice, StereoConfig
from stereo4d.network.head import BackboneDims, Head, TimedHead, build_head
from stereo4d.network.stereo import StereoNetwork
from stereo4d.network.weights import save_model
from stereo4d.types import PairPrediction

Size = tuple[int, int]
BESIDE = "checked"
"""What the head is called in the networks of this room, where it stands beside a main head."""


class Fault(Exception):
    """A head does not hold to what it must; the message says what is wrong, and the way out."""


class NotApplicable(Exception):
    """There is nothing to check; the message says why."""


def require(holds: bool, said: str) -> None:
    """Make sure that something holds.

    Raises:
        Fault: it does not.
    """
    if not holds:
        raise Fault(said)


@dataclass(frozen=True)
class Lab:
    """One head under check, and a folder for what it leaves."""

    subject: Subject
    folder: Path

    def head(self, dims: BackboneDims) -> Head | TimedHead:
        """The head on its own, in evaluation mode, its weights past their first step."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            head = build_head(self.subject.name, dims, self.subject.options)
            return disturbed(head).eval()

    def network(
        self,
        *,
        freeze: str = "none",
        beside: Mapping[str, HeadChoice] | None = None,
        config: StereoConfig = NARROW,
    ) -> StereoNetwork:
        """A narrow network in evaluation mode with this head, as main head or beside one, whichever it is made for.

        Args:
            freeze: see ``StereoConfig.freeze``.
            beside: further heads.
            config: of everything but the heads.
        """
        subject = self.subject
        config = replace(config, freeze=freeze)
        if subject.is_main:
            config = subject.as_main(replace(config, heads=beside or {}))
        else:
            config = replace(config, heads={BESIDE: subject.choice(), **(beside or {})})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = StereoNetwork(config)
            for head in self.heads_of(network):
                disturbed(head)
        return network.eval()

    def heads_of(self, network: StereoNetwork) -> tuple[nn.Module, nn.Module]:
        """The head of view 0 and that of view 1."""
        if self.subject.is_main:
            return network.downstream_head1, network.downstream_head2
        return network.heads_beside()[BESIDE]

    @property
    def freeze(self) -> str:
        """The way of freezing that leaves only this head to learn."""
        return "backbone" if self.subject.is_main else "all_but_heads_beside"

    @property
    def further(self) -> str:
        """Where in a prediction's extras a main head's maps beyond pointmap and confidence are."""
        sample = self.subject.sample
        return sample.extras_name if isinstance(sample, Head) else ""

    def maps(self, prediction: PairPrediction) -> dict[str, Tensor]:
        """The maps of this head by name, the view's number at the end."""
        if not self.subject.is_main:
            return dict(prediction.extras[BESIDE])
        maps = {f"{name}{view}": getattr(prediction, f"{name}{view}") for name in MAIN for view in (0, 1)}
        return maps | dict(prediction.extras.get(self.further, {}))

    def predict(self, network: StereoNetwork, pairs: PairBatch) -> PairPrediction:
        """What a network says of pairs, at their query times where the head takes them."""
        times = pairs.times if self.subject.is_timed else None
        return network(pairs.image0, pairs.image1, times=times)

    def loss(self, prediction: PairPrediction, pairs: PairBatch) -> Tensor:
        """What the head is trained for; of a head without an objective, a sum over everything that it writes."""
        objective = None if self.subject.is_main else self.subject.sample.objective(BESIDE)
        if objective is not None:
            return objective(prediction, pairs).total
        return drawn_sum(self.maps(prediction))

    @cached_property
    def pairs(self) -> PairBatch:
        """Two pairs of the synthetic world with their truth, of 32 x 48 pixels, at three query times."""
        return sample_pairs(WorldConfig(), 2, 32, 48, seed=7, query_times=3)

    @cached_property
    def weights(self) -> Path:
        """A folder with the weights of a narrow network."""
        folder = self.folder / "weights"
        save_model(self.network(), folder, card={"name": "narrow", "licence": "Apache-2.0"})
        return folder

    @cached_property
    def clip(self) -> Path:
        """A clip of three frames of the synthetic world."""
        return synthesize_clip(self.folder / "clip", seed=1, frames=3, height=48, width=64)


MAIN = ("pointmap", "confidence")


def disturbed(head: Any) -> Any:
    """The head with a tenth of noise on its parameters, so that what starts at zero has a say."""
    with torch.no_grad():
        for parameter in head.parameters():
            if parameter.is_floating_point():
                spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
                parameter.add_(torch.randn_like(parameter), alpha=0.1 * spread or 0.02)
    return head


def drawn_sum(maps: Mapping[str, Tensor]) -> Tensor:
    """A sum of maps with drawn weights, to which every value of every map adds."""
    generator = torch.Generator().manual_seed(3)
    return torch.stack(
        [(value * torch.rand(value.shape, generator=generator)).mean() for _, value in sorted(maps.items())]
    ).sum()


def tokens(dims: BackboneDims, size: Size, batch: int, *, spread: float = 1.0, seed: int = 0) -> list[Tensor]:
    """Drawn tokens of one view: entries (B, T, C) of components of the given spread."""
    generator = torch.Generator().manual_seed(seed)
    count = (size[0] // dims.patch_size) * (size[1] // dims.patch_size)
    widths = [dims.encoder_dim, *[dims.decoder_dim] * dims.decoder_depth]
    return [spread * torch.randn(batch, count, width, generator=generator) for width in widths]


def images(size: Size, batch: int) -> tuple[Tensor, Tensor]:
    """Two batches of drawn images (B, 3, H, W)."""
    generator = torch.Generator().manual_seed(batch)
    both = torch.rand(2, batch, 3, *size, generator=generator) * 2 - 1
    return both[0], both[1]
