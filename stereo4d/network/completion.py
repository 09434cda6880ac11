"""Cross-view completion: the hidden patches of one image are told from another image of the scene.

This is the task that every network of the family starts from: CroCo (Weinzaepfel et al. 2022), with cosine positions,
and CroCo v2 (Weinzaepfel et al. 2023), with rotary ones. Parameter names are the keys of the published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from stereo4d.errors import ShapeError
from stereo4d.network.completion_config import CompletionConfig
from stereo4d.network.completion_pictures import CompletedPicture, compose, fit, imagenet_input, read_hidden
from stereo4d.network.decoder import DecoderBlock
from stereo4d.network.encoder import Encoded, EncoderBlock, PatchEmbed
from stereo4d.network.layers import Rotary2D, check_multiple, layer_norm, token_positions
from stereo4d.network.patches import draw_mask, patchify, take, visible_places
from stereo4d.network.pictures import Picture
from stereo4d.network.positions import COSINE, NoRotary, Rotary, cosine_positions, resize_positions
from stereo4d.network.precision import Precision
from stereo4d.network.stereo import initialise

__all__ = ["Completion", "CompletionConfig", "CompletionNetwork"]


@dataclass(frozen=True)
class Completion:
    """What a completion network says of B pairs; T patches, row-major, of p x p pixels."""

    prediction: Tensor
    """(B, T, 3 p^2) values of every patch, flattened by row, column, channel. Published networks predict them less the
    patch's own mean and divided by its own deviation."""
    hidden: Tensor
    """(B, T) bool: the patches of image 0 that the network did not see."""
    target: Tensor
    """(B, T, 3 p^2) the patches of image 0 as they are, in the units of the image."""
    image_size: tuple[int, int]
    """(H, W) of image 0, in pixels."""


class CompletionNetwork(nn.Module):
    """One encoder, run on what is visible of image 0 and on all of image 1, and one decoder of image 0's patches."""

    enc_pos_embed: Tensor | None
    dec_pos_embed: Tensor | None

    def __init__(self, config: CompletionConfig) -> None:
        super().__init__()
        self.config = config
        self.precision = Precision()
        """How to compute; by default as the caller's own autocast says, if any."""
        self.enc_rotary = self._rotary(config.enc_embed_dim, config.enc_num_heads)
        self.dec_rotary = self._rotary(config.dec_embed_dim, config.dec_num_heads)
        self.register_buffer("enc_pos_embed", self._added_positions(config.enc_embed_dim))
        self.register_buffer("dec_pos_embed", self._added_positions(config.dec_embed_dim))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.dec_embed_dim))
        self.patch_embed = PatchEmbed(config.patch_size, config.enc_embed_dim)
        self.enc_blocks = nn.ModuleList(
            EncoderBlock(config.enc_embed_dim, config.enc_num_heads, config.mlp_ratio) for _ in range(config.enc_depth)
        )
        self.enc_norm = layer_norm(config.enc_embed_dim)
        self.decoder_embed = nn.Linear(config.enc_embed_dim, config.dec_embed_dim)
        self.dec_blocks = nn.ModuleList(DecoderBlock.of(config, self.dec_rotary) for _ in range(config.dec_depth))
        self.dec_norm = layer_norm(config.dec_embed_dim)
        self.prediction_head = nn.Linear(config.dec_embed_dim, 3 * config.patch_size**2)
        self.apply(initialise)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, image0: Tensor, image1: Tensor, hidden: Tensor | None = None) -> Completion:
        """Complete B images from B others.

        Args:
            image0: (B, 3, H, W), normalised by the mean and deviation of ImageNet, as the published networks expect.
            image1: (B, 3, H', W'), likewise; with cosine positions both are of the config's ``img_size``.
            hidden: (B, T) bool, patches of image 0 to hide, as many in every sample; None draws the config's share.

        Raises:
            ShapeError: the images or the mask do not fit the network or one another.
        """
        self._check_images(image0, image1)
        hidden = self._draw(image0) if hidden is None else self._checked(hidden, image0)
        kept = visible_places(hidden)
        visible = self.encode(image0, kept)
        memory = self.encode(image1)
        decoded = self.decode(visible, kept, memory)[-1]
        with self.precision.heads(image0.device):
            prediction = self.prediction_head(decoded.float())
        return Completion(prediction, hidden, patchify(image0, self.config.patch_size), visible.image_size)

    def encode(self, images: Tensor, kept: Tensor | None = None) -> Encoded:
        """Encode images, or only some of their patches.

        Args:
            images: (B, 3, H, W).
            kept: (B, V) indices of the patches to encode; the rest is never seen. None keeps all.

        Returns:
            Tokens and positions of the patches that were kept, in this order.
        """
        with self.precision.backbone(images.device):
            tokens, positions, _ = self.patch_embed(images)
            tokens = _add(tokens, self.enc_pos_embed)
            if kept is not None:
                tokens, positions = take(tokens, kept), take(positions, kept)
            rotary = self.enc_rotary.table(positions)
            for block in self.enc_blocks:
                tokens = block(tokens, rotary)
            return Encoded(self.enc_norm(tokens), positions, (images.shape[2], images.shape[3]))

    def decode(self, visible: Encoded, kept: Tensor, memory: Encoded) -> list[Tensor]:
        """Let image 0, mask tokens where it is hidden, look at image 1, which stays as it is encoded.

        Args:
            visible: what ``encode`` made of image 0.
            kept: (B, V) indices of its patches.
            memory: what ``encode`` made of image 1.

        Returns:
            The output (B, T, D) of every decoder block, the last one normalised.
        """
        rows, columns = (side // self.config.patch_size for side in visible.image_size)
        with self.precision.backbone(kept.device):
            tokens = _add(self._filled(self.decoder_embed(visible.tokens), kept, rows * columns), self.dec_pos_embed)
            other = _add(self.decoder_embed(memory.tokens), self.dec_pos_embed)
            rotary = self.dec_rotary.table(token_positions(rows, columns, len(kept), kept.device))
            other_rotary = self.dec_rotary.table(memory.positions)
            outputs = []
            for block in self.dec_blocks:
                tokens = block(tokens, other, rotary, other_rotary)
                outputs.append(tokens)
            outputs[-1] = self.dec_norm(outputs[-1])
        return outputs

    @torch.inference_mode()
    def complete(
        self,
        image: Picture,
        reference: Picture,
        *,
        hidden: np.ndarray | Tensor | None = None,
        seed: int = 0,
        size: tuple[int, int] | None = None,
    ) -> CompletedPicture:
        """Complete one picture from another of the same scene, for display.

        Args:
            image: of which patches are hidden: a file, a Pillow image, an (H, W, 3) array or a (3, H, W) tensor, uint8
                or floating point in 0 ... 1.
            reference: of which nothing is hidden, likewise.
            hidden: (T,) or (rows, columns) bool, the patches to hide; None draws the config's share.
            seed: of the draw.
            size: (height, width) that both are scaled and centre-cropped to, in pixels; None is the config's
                ``img_size``, the only one that cosine positions take.

        Raises:
            InputError: a file is no picture.
            ShapeError: an array is no picture, the mask does not fit, or the network does not take this size.
        """
        size = self.config.img_size if size is None else size
        device = self.mask_token.device
        picture, other = fit(image, size).to(device), fit(reference, size).to(device)
        images = imagenet_input(picture)[None], imagenet_input(other)[None]
        self._check_images(*images)
        mask = self._draw(images[0], seed) if hidden is None else read_hidden(hidden)
        return compose(self(*images, mask), picture, other, self.config.patch_size)

    def resize_positions(self, image_size: tuple[int, int]) -> None:
        """Make this a network for images of another size: (height, width) in pixels, multiples of the patch size.

        Cosine positions are stretched (bicubic); rotary ones serve any size as they are.
        """
        check_multiple(*image_size, self.config.patch_size)
        before = self.config.grid
        self.config = replace(self.config, img_size=image_size)
        if self.enc_pos_embed is not None and self.dec_pos_embed is not None:
            self.enc_pos_embed = resize_positions(self.enc_pos_embed, before, self.config.grid)
            self.dec_pos_embed = resize_positions(self.dec_pos_embed, before, self.config.grid)

    def _filled(self, visible: Tensor, kept: Tensor, count: int) -> Tensor:
        """(B, T, D): visible tokens at their places, the mask token everywhere else."""
        blank = self.mask_token.to(visible.dtype).expand(len(visible), count, -1)
        return blank.scatter(1, kept[..., None].expand_as(visible), visible)

    def _draw(self, images: Tensor, seed: int | None = None) -> Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)  # one draw for every device
        count = images.shape[2] * images.shape[3] // self.config.patch_size**2
        return draw_mask(len(images), count, self.config.mask_ratio, generator=generator, device=images.device)

    def _checked(self, hidden: Tensor, images: Tensor) -> Tensor:
        expected = (len(images), images.shape[2] * images.shape[3] // self.config.patch_size**2)
        if hidden.shape != expected or hidden.dtype != torch.bool:
            raise ShapeError(
                f"hidden is {tuple(hidden.shape)} of {hidden.dtype}; it must be (images, patches), here {expected}, of "
                "booleans: True where a patch is hidden"
            )
        return hidden.to(images.device)

    def _check_images(self, image0: Tensor, image1: Tensor) -> None:
        for images in (image0, image1):
            if images.ndim != 4 or images.shape[1] != 3:
                raise ShapeError(f"images {tuple(images.shape)} must be (B, 3, H, W)")
            check_multiple(images.shape[2], images.shape[3], self.config.patch_size)
            if self.enc_pos_embed is not None and tuple(images.shape[2:]) != self.config.img_size:
                height, width = self.config.img_size
                raise ShapeError(
                    f"images of {images.shape[2]}x{images.shape[3]} pixels (height x width): this network's positions "
                    f"are made for {height}x{width}; bring the images to that size, or call resize_positions first"
                )
        if len(image0) != len(image1):
            raise ShapeError(f"{len(image0)} first images and {len(image1)} second images do not pair up")

    def _rotary(self, dim: int, heads: int) -> Rotary:
        if self.config.pos_embed == COSINE:
            return NoRotary(dim // heads)
        return Rotary2D(dim // heads, self.config.rope_base)

    def _added_positions(self, dim: int) -> Tensor | None:
        return cosine_positions(*self.config.grid, dim) if self.config.pos_embed == COSINE else None


def _add(tokens: Tensor, embedding: Tensor | None) -> Tensor:
    return tokens if embedding is None else tokens + embedding
