"""For every feature of one set the most similar of another, by dot product, without holding all products at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

ROWS, COLUMNS = 1024, 1024
"""Of a block of products on a CPU: 4 MB, which its caches hold."""
GPU_ROWS, GPU_COLUMNS = 8192, 16384
"""Of a block of products on a GPU: 512 MB, which keeps all of it busy."""


class _Best:
    """The largest product of each feature so far, and the block in which it was found."""

    def __init__(self, features: Tensor) -> None:
        self.product = torch.full((len(features),), -torch.inf, device=features.device)
        self.block = torch.zeros(len(features), dtype=torch.int64, device=features.device)

    def see(self, part: slice, product: Tensor, block: int) -> None:
        """Take in the largest product of each feature of a part with those of one block."""
        better = product > self.product[part]  # of equals the first stays
        self.product[part] = torch.where(better, product, self.product[part])
        self.block[part].masked_fill_(better, block)


class _Products:
    """Products of one block after another, in the same memory: fresh pages would cost half as much as the products."""

    def __init__(self, queries: Tensor, keys: Tensor) -> None:
        rows, columns = _block_size(queries)
        self._memory = queries.new_empty(min(rows * columns, len(queries) * len(keys)))

    def of(self, rows: Tensor, columns: Tensor) -> Tensor:
        """All products of two sets no larger than a block; overwritten by the next."""
        block = self._memory[: len(rows) * len(columns)].view(len(rows), len(columns))
        with torch.autocast(rows.device.type, enabled=False):
            return torch.mm(rows, columns.T, out=block)


@torch.no_grad()
def nearest(queries: Tensor, keys: Tensor) -> Tensor:
    """The key with the largest dot product with each query.

    For features of unit length that is the nearest in space, too. Of equals it is the first.

    Args:
        queries: (Q, K) float32.
        keys: (P, K) float32, P > 0.

    Returns:
        (Q,) int64 places of keys.
    """
    rows, columns = _block_size(keys)
    best, products = _Best(queries), _Products(queries, keys)
    for there in _parts(len(queries), rows):
        for number, here in enumerate(_parts(len(keys), columns)):
            best.see(there, products.of(queries[there], keys[here]).amax(1), number)
    return _places(queries, keys, best.block, rows, columns)


@torch.no_grad()
def nearest_both_ways(features0: Tensor, features1: Tensor) -> tuple[Tensor, Tensor]:
    """``nearest`` from each set in the other; every product is computed once.

    Args:
        features0: (P, K) float32, P > 0.
        features1: (Q, K) float32, Q > 0.

    Returns:
        (P,) int64 places in ``features1``, and (Q,) int64 places in ``features0``.
    """
    rows, columns = _block_size(features0)
    best0, best1, products = _Best(features0), _Best(features1), _Products(features0, features1)
    for row, part0 in enumerate(_parts(len(features0), rows)):
        for column, part1 in enumerate(_parts(len(features1), columns)):
            block = products.of(features0[part0], features1[part1])
            best0.see(part0, block.amax(1), column)
            best1.see(part1, block.amax(0), row)
    places0 = _places(features0, features1, best0.block, rows, columns)
    return places0, _places(features1, features0, best1.block, columns, rows)


def _places(queries: Tensor, keys: Tensor, blocks: Tensor, rows: int, columns: int) -> Tensor:
    """Where in its block each query's best key is.

    Looking for maxima alone and finding their places afterwards, in one block each, is several times faster than asking
    for both at once.
    """
    places, products = torch.empty_like(blocks), _Products(queries, keys)
    order = blocks.argsort(stable=True)
    counts = torch.bincount(blocks, minlength=-(-len(keys) // columns)).tolist()
    for part, members in zip(_parts(len(keys), columns), order.split(counts), strict=True):
        for some in members.split(rows):
            places[some] = products.of(queries[some], keys[part]).argmax(1) + part.start
    return places


def _parts(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _block_size(features: Tensor) -> tuple[int, int]:
    return (GPU_ROWS, GPU_COLUMNS) if features.device.type == "cuda" else (ROWS, COLUMNS)
