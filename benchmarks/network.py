"""What makes the ViT-L-512-DPT network fast, each figure beside what it is measured against in the same run.

    python benchmarks/network.py [ROW ...] [--device cpu] [--threads 1] [--repeats 3] [--precision auto]

Rows: attention, heads, bf16, compile, batches, parts, clip, accelerator; without names, all but the last on a CPU, and
all on a GPU. On a CPU times are processor seconds, so run it with one thread on a machine that does other work too.
Weights are drawn, with depths as of a real scene; ``deviation`` is the median distance from the points of exact
float32, as a share of depth.
"""

from __future__ import annotations

import argparse
import copy
import platform
import resource
import subprocess
import sys
from datetime import date
from pathlib import Path

import torch
from network_accelerator import accelerator
from network_clip import clip, parts
from network_work import (
    SIZE,
    channels_first,
    clip_of,
    deviation,
    explicitly,
    in_turn,
    make_realistic,
    pictures,
    seconds,
    vit_large,
)
from torch import nn

from stereo4d.network.convolution import fewer_products_pay
from stereo4d.network.precision import Precision, choose, cpu_flags, has_native_bf16, resolve_device
from stereo4d.network.settling import settle
from stereo4d.network.stereo import StereoNetwork
from stereo4d.network.weights import load_model
from stereo4d.types import PairPrediction


def attention(options: argparse.Namespace) -> None:
    """Fused attention against softmax(q k) v."""
    network = vit_large(4, 4).to(options.device)
    image = pictures(1, SIZE, options.device)

    def explicit() -> torch.Tensor:
        with explicitly():
            return network.encode(image).tokens

    def fused() -> torch.Tensor:
        return network.encode(image).tokens

    found = in_turn({"explicit": explicit, "fused": fused}, options.repeats, options.device)
    with torch.inference_mode():
        apart = (explicit() - fused()).abs().max().item()
    print(
        f"attention  4 of 24 encoder blocks: explicit {found['explicit']:.3f} s, fused {found['fused']:.3f} s: "
        f"{found['explicit'] / found['fused']:.2f}x; largest difference {apart:.1e}"
    )
    assert apart < 1e-4, "both must compute the same"


def heads(options: argparse.Namespace) -> None:
    """One DPT head of one image: memory layouts, and fewer products."""
    network = vit_large(1, 4).to(options.device)
    image = pictures(1, SIZE, options.device)
    make_realistic(network, image)
    last = settle(copy.deepcopy(network), Precision(full=True))
    quick = settle(copy.deepcopy(network), Precision(fewer_products=True))
    with torch.inference_mode():
        view = network.encode(image)
        tokens = network.decode(view, view)[0]

    def run(net: StereoNetwork) -> torch.Tensor:
        with net.precision.heads(image.device):
            return net.downstream_head1(tokens, SIZE)["pointmap"]

    def first() -> torch.Tensor:
        with channels_first(network):
            return run(network)

    ways = {"channels first": first, "channels last": lambda: run(last)}
    if fewer_products_pay(options.device):
        ways["fewer products"] = lambda: run(quick)
    found = in_turn(ways, options.repeats, options.device)
    with torch.inference_mode():
        exact = first()
        for name, way in ways.items():
            share = ((way() - exact).norm(dim=-1) / exact[..., 2].abs()).median().item()
            print(
                f"heads      {name}: {found[name]:.3f} s, {found['channels first'] / found[name]:.2f}x; "
                f"deviation {share:.1e}"
            )


def bf16(options: argparse.Namespace) -> None:
    """bfloat16: how far off; how fast is told where it is native."""
    size = SIZE if has_native_bf16(options.device) else (64, 96)
    network = vit_large(*((24, 12) if has_native_bf16(options.device) else (4, 4))).to(options.device)
    images = pictures(1, size, options.device)
    make_realistic(network, images)
    with torch.inference_mode():
        exact = network(images, images.flip(-1))
        depths = torch.cat([exact.pointmap0, exact.pointmap1])[..., 2].cpu().quantile(torch.tensor([0.05, 0.5, 0.95]))
    print(f"bf16       drawn weights, depths at 5, 50 and 95 %: {', '.join(f'{depth:.2f}' for depth in depths)}")
    names = {
        "encoder and decoder": Precision(torch.bfloat16),
        "heads' convolutions too": Precision(torch.bfloat16, convolutions=torch.bfloat16),
    }
    _bf16_of_trained_weights(options.device)
    usual = min(seconds(lambda: _infer(network, images), options.device) for _ in range(options.repeats))
    for name, precision in names.items():
        reduced = settle(copy.deepcopy(network), precision)
        found = _infer(reduced, images)
        spent = min(in_turn({name: lambda net=reduced: _infer(net, images)}, 1, options.device).values())
        print(f"bf16       {name}: deviation {deviation(found, exact):.2e}; {usual / spent:.3g}x as fast as float32")


def _bf16_of_trained_weights(device: torch.device) -> None:
    network = load_model("embedded", device=device)
    images = clip_of(2, (96, 144)).images([0, 1]).to(device)
    with torch.inference_mode():
        exact = network(images[:1], images[1:])
        network.precision = Precision(torch.bfloat16)
        found = network(images[:1], images[1:])
    print(f"bf16       trained (the embedded checkpoint, linear heads): deviation {deviation(found, exact):.2e}")


def _infer(network: StereoNetwork, images: torch.Tensor) -> PairPrediction:
    with torch.inference_mode():
        return network(images, images.flip(-1))


def compiling(options: argparse.Namespace) -> None:
    """Two encoder blocks compiled: what it gains, and after how many frames of ViT-L that pays."""
    network = vit_large(2, 4).to(options.device)
    image = pictures(1, SIZE, options.device)
    fast = copy.deepcopy(network)
    fast.enc_blocks = nn.ModuleList(torch.compile(block, dynamic=False) for block in fast.enc_blocks)
    spent = seconds(lambda: _encode(fast, image), options.device)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent += children.ru_utime + children.ru_stime
    ways = {"eager": lambda: network.encode(image), "compiled": lambda: fast.encode(image)}
    found = in_turn(ways, options.repeats, options.device)
    gain = (found["eager"] - found["compiled"]) * 12
    pays = f"pays after {spent / gain:.0f} frames of 24 blocks" if gain > 0 else "never pays"
    print(
        f"compile    2 blocks: eager {found['eager']:.3f} s, compiled {found['compiled']:.3f} s: "
        f"{found['eager'] / found['compiled']:.2f}x; compiling took {spent:.0f} s of processors: {pays}"
    )


def _encode(network: StereoNetwork, image: torch.Tensor) -> None:
    with torch.inference_mode():
        network.encode(image)


def batches(options: argparse.Namespace) -> None:
    """Pairs in a batch against peak memory and speed; a process each, for a peak is never forgotten."""
    for count in (1, 2, 4):
        command = [sys.executable, __file__, "--one-batch", str(count), "--device", str(options.device)]
        done = subprocess.run(
            [*command, "--threads", str(options.threads), "--precision", options.precision],
            check=True,
            capture_output=True,
            text=True,
        )
        print(done.stdout.strip().splitlines()[-1])


def one_batch(options: argparse.Namespace) -> None:
    network = settle(vit_large(2, 4).to(options.device), choose(options.precision, options.device))
    images = pictures(options.one_batch, SIZE, options.device)
    before = _peak(options.device)
    spent = min(seconds(lambda: _infer(network, images), options.device) for _ in range(2))
    rate, more = options.one_batch / spent, _peak(options.device) - before
    print(f"batches    {options.one_batch} pairs at once: {rate:.3f} pairs/s at depths 2 and 4, peak +{more:.0f} MB")


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


ROWS = {
    "attention": attention,
    "heads": heads,
    "bf16": bf16,
    "compile": compiling,
    "batches": batches,
    "parts": parts,
    "clip": clip,
    "accelerator": accelerator,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", help="ours: auto or fast")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves them as they are")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one-batch", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.device = resolve_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.one_batch:
        one_batch(options)
        return
    for name in options.rows:
        if name not in ROWS:
            parser.error(f"no row {name!r}; there are {', '.join(ROWS)}")
    on_cpu = options.device.type == "cpu"
    print(f"{date.today()}, torch {torch.__version__}, {_machine(options.device)}, {torch.get_num_threads()} threads")
    for name in options.rows or [row for row in ROWS if not (on_cpu and row == "accelerator")]:
        ROWS[name](options)
        sys.stdout.flush()


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    widest = next((flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in _flags()), "no AVX2")
    return f"{model or platform.processor()} ({widest}, bfloat16 native: {has_native_bf16(device)})"


def _flags() -> frozenset[str]:
    return cpu_flags(Path("/proc/cpuinfo"))


if __name__ == "__main__":
    main()
