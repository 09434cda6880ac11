"""3x3 convolutions that inference may compute with fewer products (Winograd; Lavin and Gray 2016).

The dense heads spend nine tenths of their time in such convolutions. On a CPU with AVX2, those of NNPACK, which comes
with PyTorch, take half the time or less of PyTorch's usual ones, which multiply directly; sums are rounded four times
as coarsely (benchmarks/network.py measures both). GPU libraries choose between such ways by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import torch
import torch.backends.cpu
import torch.backends.nnpack
from torch import Tensor, nn

_LEAST_CELLS = 512  # below it, transforming the kernels takes longer than the products that it saves
_fewer_products: ContextVar[bool] = ContextVar("fewer_products", default=False)
_reduced: ContextVar[torch.dtype | None] = ContextVar("reduced", default=None)


def fewer_products_pay(device: torch.device) -> bool:
    """Whether it was found to be faster on such a device: only AVX2 without AVX-512 was tried."""
    return (
        device.type == "cpu"
        and torch.backends.cpu.get_cpu_capability() == "AVX2"
        # asking is also what makes it ready: unasked, it fails
        and torch.backends.nnpack.is_available()
    )


@contextmanager
def convolutions(*, fewer_products: bool = False, reduced: torch.dtype | None = None) -> Iterator[None]:
    """Say how heads within convolve: by fewer products, where that can be, and in which format, if not float32."""
    fewer, format_before = _fewer_products.set(fewer_products), _reduced.set(reduced)
    try:
        yield
    finally:
        _fewer_products.reset(fewer)
        _reduced.reset(format_before)


def reduced_convolutions(device: torch.device) -> AbstractContextManager[object]:
    """Autocast in the format that ``convolutions`` names; the caller's way if it names none."""
    reduced = _reduced.get()
    return nullcontext() if reduced is None else torch.autocast(device.type, reduced)


def image_by_image(work: Callable[..., Tensor], batches: Sequence[Tensor]) -> Tensor:
    """Call on one image's part of every batch after the other where that is how convolutions run, else on the batches.

    Args:
        work: takes tensors of one batch dimension, returns one.
        batches: (B, ...) each.
    """
    count = len(batches[0])
    if count == 1 or not _fewer_products.get() or torch.is_grad_enabled():
        return work(*batches)
    return torch.cat([work(*(batch[slot : slot + 1] for batch in batches)) for slot in range(count)])


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution of stride 1 that keeps the size; its parameters are those of ``Conv2d``."""

    def __init__(self, channels: int, out: int, *, bias: bool = True) -> None:
        super().__init__(channels, out, 3, padding=1, bias=bias)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, H, W)."""
        if _fewer_products.get() and self._suits(maps):
            weight = self.weight.contiguous()
            # one image at a time: for several, NNPACK goes another way, which is slower than the usual one
            parts = [
                torch._nnpack_spatial_convolution(image, weight, self.bias, padding=1)
                for image in maps.contiguous().split(1)
            ]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        return super().forward(maps)

    def _suits(self, maps: Tensor) -> bool:
        return (
            not torch.is_grad_enabled()
            and maps.device.type == "cpu"
            and maps.dtype == self.weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and maps.shape[2] * maps.shape[3] >= _LEAST_CELLS
        )
