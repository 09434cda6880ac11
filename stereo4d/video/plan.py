"""What a reconstruction will cost, said before any weight is loaded: frames, pairs, seconds, memory, disk.

The network's work is counted exactly, on a copy of it without storage, and divided by the speed of matrix products on
this machine, which a probe of a fraction of a second measures. The other constants below were measured once, on two
cores of a 2020s server, and are good to a factor of two or so.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from stereo4d.network.config import StereoConfig
from stereo4d.network.weights import empty_network
from stereo4d.video.inference import suitable_batch

_SHARE_OF_PEAK = 0.6  # of the probed speed that a whole network reaches: norms, softmax and copies take the rest
_DECODE_SECONDS = 20e-9  # per original pixel of every frame from the first taken to the last: decoders go through all
_RESIZE_SECONDS = 40e-9  # per original pixel of a frame that is taken
_ALIGN_SECONDS = 15e-3, 0.15e-6  # per pair, and per predicted point of it
_RECORD_SECONDS = 0.7, 1.2e-6  # once, and per network pixel of a frame
_PROBE_SECONDS = 0.2
_BASE_MEMORY = 800 << 20  # Python, torch and the libraries
_ACTIVATIONS = 2000  # bytes per pixel of a pair in a batch, float32
_ALIGN_MEMORY = 8  # bytes per predicted point of a pair, beside the predictions
_SCENE_BYTES = 2 + 2 + 1 + 3  # depth, confidence, dynamic, rgb
_RECORDING_BYTES = 6  # per network pixel: points, colours, JPEG, depth


@dataclass(frozen=True)
class Plan:
    """What will happen, and what it will take."""

    frames: int
    pairs: int
    pairs_are_most: bool
    """Whether there may be fewer pairs: the graph goes by how alike frames look, which only the run finds out."""
    height: int
    """Of the frames at network size, in pixels."""
    width: int
    seconds: dict[str, float]
    """By stage: frames, predictions, alignment, recording."""
    memory_bytes: int
    """Main memory at the peak, on the CPU; with a GPU, activations and weights move there."""
    disk_bytes: int
    """Written to the output folder, pair predictions included."""
    network_gflop: float
    """Floating point operations of all encodings and pairs, in 1e9, counted."""
    probed_gflops: float
    """1e9 operations a second of matrix products here, measured just now."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The plan in words."""
        total = sum(self.seconds.values())
        stages = ", ".join(f"{name} {seconds:.0f}" for name, seconds in self.seconds.items())
        most = " at most; which, the run finds out when it has encoded the frames" if self.pairs_are_most else ""
        return [
            f"frames   {self.frames} of {self.width}x{self.height} pixels",
            f"pairs    {self.pairs}{most}",
            f"seconds  about {total:.0f} ({stages})",
            f"memory   about {self.memory_bytes / 2**30:.1f} GiB",
            f"disk     about {self.disk_bytes / 2**20:.0f} MiB",
            f"network  {self.network_gflop:.0f} GFLOP counted; {self.probed_gflops:.0f} GFLOP/s probed on this machine",
        ]


def make_plan(
    config: StereoConfig,
    *,
    frames: int,
    span: int,
    pairs: int,
    size: tuple[int, int],
    original_size: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
    exact: bool = False,
    pairs_are_most: bool = False,
) -> Plan:
    """Count and estimate.

    Args:
        config: of the network that will run.
        frames: N.
        span: frames of the input from the first that is taken to the last.
        pairs: E.
        size: (H, W) at network size.
        original_size: (H, W) of the input's frames.
        device: where the network will run.
        dtype: what encoder and decoder compute in.
        exact: predictions are stored in float32.
        pairs_are_most: the graph goes by how alike frames look: they are encoded once more, to choose E pairs or fewer.
    """
    height, width = size
    network = empty_network(config.upright())
    weights = sum(parameter.numel() for parameter in network.parameters()) * 4
    encoding, decoding = count_gflop(network, size)
    gflop = encoding * frames * (2 if pairs_are_most else 1) + decoding * pairs
    speed = probe_gflops(device, dtype, config.enc_embed_dim)
    points = 2 * pairs * height * width
    predictions = points * 4 * (4 if exact else 2)
    batch = suitable_batch(device, height, width, config.patch_size)
    tokens = (height // config.patch_size) * (width // config.patch_size) * config.enc_embed_dim * 4
    inference = weights + batch * height * width * _ACTIVATIONS + 2 * batch * tokens
    return Plan(
        frames=frames,
        pairs=pairs,
        pairs_are_most=pairs_are_most,
        height=height,
        width=width,
        seconds={
            "frames": (span * _DECODE_SECONDS + frames * _RESIZE_SECONDS) * original_size[0] * original_size[1],
            "predictions": gflop / (speed * _SHARE_OF_PEAK),
            "alignment": pairs * _ALIGN_SECONDS[0] + points * _ALIGN_SECONDS[1],
            "recording": _RECORD_SECONDS[0] + frames * height * width * _RECORD_SECONDS[1],
        },
        memory_bytes=_BASE_MEMORY + frames * height * width * 3 + max(inference, predictions + points * _ALIGN_MEMORY),
        disk_bytes=predictions + frames * height * width * (3 + _SCENE_BYTES + _RECORDING_BYTES),
        network_gflop=gflop,
        probed_gflops=speed,
    )


def count_gflop(network: Any, size: tuple[int, int]) -> tuple[float, float]:
    """1e9 operations of encoding one frame, and of decoding one pair with its heads.

    Args:
        network: on the meta device.
        size: (H, W) in pixels.
    """
    image = torch.empty(1, 3, *size, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as encoding:
        view = network.encode(image)
    with torch.inference_mode(), FlopCounterMode(display=False) as decoding:
        tokens0, tokens1 = network.decode(view, view)
        network.downstream_head1(tokens0, size)
        network.downstream_head2(tokens1, size)
    return encoding.get_total_flops() / 1e9, decoding.get_total_flops() / 1e9


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
