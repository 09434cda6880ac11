"""The two-view network: encode each image, decode both together, predict a pointmap for each.

Parameter names are the keys of the published checkpoints, so that a state dict loads as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from stereo4d.errors import ShapeError, UsageError
from stereo4d.network.config import HeadChoice, StereoConfig
from stereo4d.network.decoder import DecoderBlock, run_twins
from stereo4d.network.encoder import PATCH_EMBEDDINGS, Encoded, EncoderBlock
from stereo4d.network.head import BackboneDims, Head, TimedHead, build_head
from stereo4d.network.layers import Rotary2D, layer_norm
from stereo4d.network.pictures import Pictures, prepare_pictures, stacked
from stereo4d.network.precision import Precision
from stereo4d.network.running_heads import maps_of_views
from stereo4d.types import PairPrediction

MAIN_MAPS = ("pointmap0", "confidence0", "pointmap1", "confidence1")
"""What every main head writes; whatever else it writes goes into ``PairPrediction.extras``."""

__all__ = ["Encoded", "StereoConfig", "StereoNetwork"]

BACKBONE = (
    *("mask_token", "patch_embed", "enc_blocks", "enc_norm"),
    *("decoder_embed", "dec_blocks", "dec_blocks2", "dec_norm"),
)
FROZEN_PARTS: dict[str, tuple[str, ...]] = {
    "none": (),
    "mask": ("mask_token",),
    "encoder": ("mask_token", "patch_embed", "enc_blocks"),
    "encoder_and_decoder": ("mask_token", "patch_embed", "enc_blocks", "dec_blocks", "dec_blocks2"),
    "backbone": BACKBONE,
    "all_but_heads_beside": (*BACKBONE, "downstream_head1", "downstream_head2"),
}
"""What does not learn, by the name of ``StereoConfig.freeze``; the first four are the published ones, which leave
``decoder_embed`` and the norms to learn."""


class StereoNetwork(nn.Module):
    """CroCo encoder, twin decoders and one head per view (DUSt3R, Wang et al. 2024)."""

    def __init__(self, config: StereoConfig) -> None:
        super().__init__()
        self.config = config
        self.precision = Precision()
        """How to compute; by default as the caller's own autocast says, if any."""
        self.enc_rotary = Rotary2D(config.enc_embed_dim // config.enc_num_heads, config.rope_base)
        self.dec_rotary = Rotary2D(config.dec_embed_dim // config.dec_num_heads, config.rope_base)
        if config.patch_embed_cls not in PATCH_EMBEDDINGS:
            raise UsageError(f"patch_embed_cls {config.patch_embed_cls!r}; known: {', '.join(PATCH_EMBEDDINGS)}")
        self.patch_embed = PATCH_EMBEDDINGS[config.patch_embed_cls](config.patch_size, config.enc_embed_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.dec_embed_dim))
        self.enc_blocks = nn.ModuleList(
            EncoderBlock(config.enc_embed_dim, config.enc_num_heads, config.mlp_ratio) for _ in range(config.enc_depth)
        )
        self.enc_norm = layer_norm(config.enc_embed_dim)
        self.decoder_embed = nn.Linear(config.enc_embed_dim, config.dec_embed_dim)
        self.dec_blocks = nn.ModuleList(DecoderBlock.of(config, self.dec_rotary) for _ in range(config.dec_depth))
        self.dec_norm = layer_norm(config.dec_embed_dim)
        self.apply(initialise)
        nn.init.normal_(self.mask_token, std=0.02)
        self.dec_blocks2 = deepcopy(self.dec_blocks)  # both decoders start equal
        # heads come after the initialisation above: theirs is the framework's default
        self.downstream_head1 = self._main_head()
        self.downstream_head2 = self._main_head()
        self._build_beside()
        self._freeze(config.freeze)

    @property
    def dims(self) -> BackboneDims:
        """What heads need to know."""
        config = self.config
        return BackboneDims(config.patch_size, config.enc_embed_dim, config.dec_embed_dim, config.dec_depth)

    def forward(
        self,
        image0: Tensor,
        image1: Tensor,
        true_shape0: Tensor | None = None,
        true_shape1: Tensor | None = None,
        times: Tensor | None = None,
    ) -> PairPrediction:
        """Predict B pairs.

        Args:
            image0: (B, 3, H, W) in [-1, 1], sides multiples of the patch size.
            image1: (B, 3, H', W').
            true_shape0: (B, 2) real (height, width), for batches stored landscape that hold portrait images.
            true_shape1: likewise for ``image1``.
            times: (B, Q) query times in [0, 1], for heads that take them; None leaves those heads out.
        """
        if image0.shape != image1.shape or (true_shape0 is None) != (true_shape1 is None):
            return self.predict_encoded(self.encode(image0, true_shape0), self.encode(image1, true_shape1), times)
        shapes = None if true_shape0 is None or true_shape1 is None else torch.cat([true_shape0, true_shape1])
        both = self.encode(torch.cat([image0, image1]), shapes)
        first = torch.arange(len(image0), device=image0.device)
        return self.predict_encoded(both.select(first), both.select(first + len(image0)), times)

    def predict(
        self,
        image0: Pictures,
        image1: Pictures,
        *,
        times: Sequence[float] | None = None,
        size: int | None = None,
    ) -> PairPrediction:
        """Predict pictures as they come: what to call when nothing is trained; ``forward`` is the raw network.

        Pictures are resized and cropped as the family does at inference, and predicted where the network lies, at its
        precision.

        Args:
            image0: first picture of the pair, or several: files, Pillow images, arrays (H, W, 3), tensors (3, H, W),
                batches of those; uint8, or floating point in [0, 1].
            image1: second picture, or as many as there are first ones; it may be of another size.
            times: query times in [0, 1], the same for every pair, for networks with a motion head.
            size: long side at which the network sees the pictures, in pixels; by default what it was trained at.

        Returns:
            B pairs at network resolution, float32, on the CPU.

        Raises:
            InputError: a file is no picture.
            ShapeError: an array is no picture, pictures do not pair up, or those of one batch differ in size.
        """
        size = size or max(self.config.img_size)
        views = [prepare_pictures(images, size, patch_size=self.config.patch_size) for images in (image0, image1)]
        if len(views[0]) != len(views[1]):
            raise ShapeError(f"{len(views[0])} first pictures and {len(views[1])} second ones do not pair up")
        device = self.mask_token.device
        batches = [stacked(batch, name).to(device) for batch, name in zip(views, ("image0", "image1"), strict=True)]
        asked = None if times is None else torch.tensor([list(times)] * len(views[0]), device=device)
        with torch.inference_mode():
            return self(*batches, times=asked).on_cpu()

    def encode(self, images: Tensor, true_shape: Tensor | None = None) -> Encoded:
        """Encode (B, 3, H, W) images in [-1, 1]; see ``forward`` for ``true_shape``."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ShapeError(f"images {tuple(images.shape)} must be (B, 3, H, W)")
        with self.precision.backbone(images.device):
            tokens, positions, portrait = self.patch_embed(images, true_shape)
            rotary = self.enc_rotary.table(positions)
            for block in self.enc_blocks:
                tokens = block(tokens, rotary)
            return Encoded(self.enc_norm(tokens), positions, (images.shape[2], images.shape[3]), portrait)

    def decode(self, view0: Encoded, view1: Encoded) -> tuple[list[Tensor], list[Tensor]]:
        """Let the two views see each other.

        Returns:
            Per view dec_depth + 1 entries (B, T, C): the encoder's tokens, then every decoder block's output, the last
            one normalised. The input of block i > 0 is entry i; that of block 0 is ``decoder_embed`` of entry 0.
        """
        if len(view0) != len(view1):
            raise ShapeError(f"{len(view0)} first views and {len(view1)} second views do not pair up")
        with self.precision.backbone(view0.tokens.device):
            outputs0, outputs1 = run_twins(
                zip(self.dec_blocks, self.dec_blocks2, strict=True),
                self.decoder_embed(view0.tokens),
                self.decoder_embed(view1.tokens),
                self.dec_rotary.table(view0.positions),
                self.dec_rotary.table(view1.positions),
            )
            outputs0[-1], outputs1[-1] = self.dec_norm(outputs0[-1]), self.dec_norm(outputs1[-1])
        return [view0.tokens, *outputs0], [view1.tokens, *outputs1]

    def predict_encoded(self, view0: Encoded, view1: Encoded, times: Tensor | None = None) -> PairPrediction:
        """Decode B pairs of encoded views and run the heads, in float32 whatever came before.

        Args:
            view0: first views.
            view1: second views.
            times: (B, Q) query times in [0, 1], for heads that take them; None leaves those heads out.
        """
        return self.predict_from(*self.decode(view0, view1), view0, view1, times)

    def predict_from(
        self,
        tokens0: Sequence[Tensor],
        tokens1: Sequence[Tensor],
        view0: Encoded,
        view1: Encoded,
        times: Tensor | None = None,
    ) -> PairPrediction:
        """Run the heads on what ``decode`` returned for these views."""
        self._check_times(times, len(view0))
        views = (view0, view1)
        with self.precision.heads(view0.tokens.device):
            lists = [[entry.float() for entry in tokens] for tokens in (tokens0, tokens1)]
            maps, *beside = [
                maps_of_views(heads, lists, views, times, landscape_only=self.config.landscape_only)
                for heads in ((self.downstream_head1, self.downstream_head2), *self.heads_asked(times).values())
            ]
        main = {name: maps.pop(name) for name in MAIN_MAPS}
        extras = dict(zip(self.heads_asked(times), beside, strict=True))
        return PairPrediction(**main, extras=extras | ({self.downstream_head1.extras_name: maps} if maps else {}))

    def heads_beside(self) -> dict[str, tuple[Head | TimedHead, Head | TimedHead]]:
        """The heads beside the main one, that of view 0 and that of view 1, by name."""
        found = {}
        for name, choice in self.config.heads.items():
            heads = tuple(getattr(self, attribute) for attribute in _attributes(name, choice))
            found[name] = (heads[0], heads[-1])
        return found

    def heads_asked(self, times: Tensor | None) -> dict[str, tuple[Head | TimedHead, Head | TimedHead]]:
        """Those of ``heads_beside`` that run; heads that take query times are left out where there are none."""
        every = self.heads_beside()
        return every if times is not None else {k: v for k, v in every.items() if not isinstance(v[0], TimedHead)}

    @property
    def takes_times(self) -> bool:
        """Whether it has a head that takes query times."""
        return any(isinstance(first, TimedHead) for first, _ in self.heads_beside().values())

    def _check_times(self, times: Tensor | None, pairs: int) -> None:
        if times is None:
            return
        if not self.takes_times:
            raise UsageError("query times were given, but this network has no head that takes them (motion)")
        if times.ndim != 2 or len(times) != pairs:
            raise ShapeError(f"query times {tuple(times.shape)} must be (pairs, times), here ({pairs}, times)")
        if not ((times >= 0) & (times <= 1)).all():
            raise UsageError("query times must lie in [0, 1]: 0 is the time of view 0, 1 that of view 1")

    def _main_head(self) -> Head:
        config = self.config
        offered = {name: getattr(config, name) for name in ("output_mode", "depth_mode", "conf_mode")}
        head = build_head(config.head_type, self.dims, config.head_options, offered=offered)
        if isinstance(head, TimedHead):
            raise UsageError(
                f"head {config.head_type!r} takes query times; it stands beside a main head, under 'heads'"
            )
        return head

    def _build_beside(self) -> None:
        main = self.downstream_head1
        further = {output.name for output in main.outputs} - {"pointmap", "confidence"}
        for name, choice in self.config.heads.items():
            if further and name == main.extras_name:
                raise UsageError(
                    f"the name {name!r} of a head is taken: the main head {self.config.head_type!r} writes "
                    f"{', '.join(sorted(further))} under it; choose another name"
                )
            for attribute in _attributes(name, choice):
                if not name.isidentifier() or hasattr(self, attribute):
                    raise UsageError(
                        f"a head cannot be named {name!r}: taken, or not of letters and digits; choose another name"
                    )
                setattr(self, attribute, build_head(choice.head_type, self.dims, choice.options))

    def _freeze(self, mode: str) -> None:
        if mode not in FROZEN_PARTS:
            raise UsageError(f"freeze {mode!r}; known: {', '.join(FROZEN_PARTS)}")
        for part in FROZEN_PARTS[mode]:
            getattr(self, part).requires_grad_(False)


def initialise(module: nn.Module) -> None:
    """CroCo's start: Glorot-uniform matrices, zero biases; the patch embedding counts as one matrix."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.flatten(1))  # a view: fills the weight in place


def _attributes(name: str, choice: HeadChoice) -> tuple[str, ...]:
    """What a head beside the main one is called in the network and in weights files: one for both views, or two."""
    return (f"{name}_head",) if choice.shared else (f"{name}_head1", f"{name}_head2")
