"""What a network's predictions will take: its work counted, divided by the speed of matrix products on this machine.

The work is counted exactly, on a copy of the network without storage; a probe of a fraction of a second measures speed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from stereo4d.network.config import StereoConfig
from stereo4d.network.head import TimedHead
from stereo4d.network.weights import empty_network
from stereo4d.video.network_maps import knows_motion, maps_written
from stereo4d.video.predictor import Cost

_SHARE_OF_PEAK = 0.6  # of the probed speed that a whole network reaches: norms, softmax and copies take the rest
_PROBE_SECONDS = 0.2
_ACTIVATIONS = 2000  # bytes per pixel of a pair in a batch, float32
_CPU_TOKENS = 4096  # tokens of first views in a batch: beyond it a CPU gains nothing
_CUDA_SHARE = 0.5  # of the free memory that a batch may fill
_BYTES_PER_PIXEL = 6000  # working memory of a float32 DPT head and decoder for one pair, per pixel, rounded up


def network_cost(
    config: StereoConfig,
    encodings: int,
    pairs: int,
    size: tuple[int, int],
    *,
    device: torch.device,
    dtype: torch.dtype,
    query_times: Sequence[float] = (),
) -> Cost:
    """Count and estimate.

    Args:
        config: of the network that will run.
        encodings: frames to encode, those that are encoded twice counted twice.
        pairs: E.
        size: (H, W) at network size.
        device: where the network will run.
        dtype: what encoder and decoder compute in.
        query_times: that heads which take times are asked for; without any they do not run.
    """
    height, width = size
    network = empty_network(config.upright())
    weights = sum(parameter.numel() for parameter in network.parameters()) * 4
    encoding, decoding = count_gflop(network, size, query_times)
    gflop = encoding * encodings + decoding * pairs
    speed = probe_gflops(device, dtype, config.enc_embed_dim)
    maps = max(1, len(query_times))
    batch = suitable_batch(device, height, width, config.patch_size, maps=maps)
    tokens = (height // config.patch_size) * (width // config.patch_size) * config.enc_embed_dim * 4
    memory = weights + batch * maps * height * width * _ACTIVATIONS + 2 * batch * tokens
    seconds = gflop / (speed * _SHARE_OF_PEAK)
    return Cost(seconds, memory, gflop, speed, further_values=_further_values(network, query_times))


def suitable_batch(device: torch.device, height: int, width: int, patch_size: int = 16, *, maps: int = 1) -> int:
    """How many pairs of this size a device takes at a time.

    Args:
        device: where the network works.
        height: H.
        width: W.
        patch_size: in pixels.
        maps: that a head writes of a view at a time: one, or as many as there are query times.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(min(32, max(1, _CUDA_SHARE * free // (_BYTES_PER_PIXEL * maps * height * width))))
    tokens = (height // patch_size) * (width // patch_size)
    return min(16, max(1, _CPU_TOKENS // (tokens * maps)))


def count_gflop(network: Any, size: tuple[int, int], query_times: Sequence[float] = ()) -> tuple[float, float]:
    """1e9 operations of encoding one frame, and of decoding one pair with its heads.

    Args:
        network: on the meta device.
        size: (H, W) in pixels.
        query_times: as for ``network_cost``.
    """
    times = torch.empty(1, len(query_times), device="meta") if query_times and network.takes_times else None
    image = torch.empty(1, 3, *size, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as encoding:
        view = network.encode(image)
    with torch.inference_mode(), FlopCounterMode(display=False) as decoding:
        tokens0, tokens1 = network.decode(view, view)
        main = (network.downstream_head1, network.downstream_head2)
        for heads in (main, *network.heads_asked(times).values()):
            for head, tokens in zip(heads, (tokens0, tokens1), strict=True):
                head(*((tokens, size, times) if isinstance(head, TimedHead) else (tokens, size)))
    return encoding.get_total_flops() / 1e9, decoding.get_total_flops() / 1e9


def _further_values(network: Any, query_times: Sequence[float]) -> int:
    """Numbers a pixel of a view that the heads write beside points and confidence."""
    written = maps_written(network, query_times)
    beside = {name: type(heads[0]) for name, heads in network.heads_beside().items()}
    motion = {name for name in written.heads if query_times and name in beside and knows_motion(beside[name])}
    others = sum(
        math.prod(output.shape) * (len(query_times) if head.timed else 1)
        for name, head in written.heads.items()
        for output in head.outputs
        if name not in motion
    )
    return others + (len(query_times) * 4 if motion else 0)  # a vector and its confidence


def probe_gflops(device: torch.device, dtype: torch.dtype, width: int) -> float:
    """1e9 operations a second that matrix products of a network's width reach here."""
    tokens = torch.ones(1024, width, device=device, dtype=dtype)
    weight = torch.ones(width, 4 * width, device=device, dtype=dtype)
    work = 2 * tokens.shape[0] * weight.numel()
    tokens @ weight  # the first product pays for threads and kernels
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < _PROBE_SECONDS or not done:
        (tokens @ weight)[0, 0].item()  # reading a value waits for the device
        done += 1
    return done * work / max(elapsed, 1e-9) / 1e9
