"""How large published networks are on disk, and how much memory and time loading one takes.

Each ViT-L network is really written in both published layouts, one at a time, with drawn values, loaded in a fresh
process (files in the page cache), and removed. Run: ``python benchmarks/weights.py --folder /somewhere``; it needs 3 GB
of memory and 6 GB of room.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from stereo4d.network.config import StereoConfig
from stereo4d.network.stereo import StereoNetwork
from stereo4d.network.weights.keys import name_aliases
from stereo4d.network.weights.publishing import save_published
from tests.official_files import constructor_text
from tests.published_files import CONFIGS, SIZES, empty

LOAD = """
import json, sys, time
import torch
memory = lambda name: next(1024 * int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(name))
runtime = memory("VmRSS")
from stereo4d.network.weights import load_completion, load_model
start = time.perf_counter()
network = (load_completion if sys.argv[2] == "completion" else load_model)(sys.argv[1])
seconds = time.perf_counter() - start
if sys.argv[3] == "forward":
    image = torch.zeros(1, 3, 224, 224)
    with torch.inference_mode():
        network(image, image)
print(json.dumps({"seconds": seconds, "runtime": runtime, "peak": memory("VmHWM")}))
"""


def drawn(name: str) -> torch.nn.Module:
    """The network with drawn values of realistic scale."""
    network = empty(name)
    torch.manual_seed(0)
    state = {key: torch.empty(value.shape).normal_(std=0.02) for key, value in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    return network


def write_pth(network: torch.nn.Module, path: Path) -> None:
    """As published: a constructor string, and some tensors under two names."""
    state = network.state_dict()
    state |= {alias: state[key] for alias, key in name_aliases(state).items()}
    content: dict[str, object] = {"model": state}
    if isinstance(network, StereoNetwork):
        content["args"] = argparse.Namespace(model=constructor_text(network.config))
    else:
        content["croco_kwargs"] = network.config.to_json()  # type: ignore[operator, union-attr]
    torch.save(content, path)


def measure(path: Path, kind: str, then: str) -> dict[str, float]:
    """Load in a fresh process, and say how long it took and the most memory it had."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(path), kind, then], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def report(name: str, folder: Path) -> None:
    """Write, load and remove one network."""
    kind = "stereo" if isinstance(CONFIGS[name], StereoConfig) else "completion"
    network = drawn(name)
    for suffix in (".safetensors", ".pth"):
        path = folder / name / f"model{suffix}"
        path.parent.mkdir(exist_ok=True)
        if suffix == ".pth":
            write_pth(network, path)
        else:
            save_published(network, path.parent)
        size = path.stat().st_size
        verdict = "" if suffix == ".pth" or name not in SIZES else f", as published: {size == SIZES[name]}"
        print(f"{name}{suffix}: {size} bytes{verdict}")
        for then in ("load", "forward"):
            found = measure(path, kind, then)
            model = sum(4 * value.numel() for value in network.state_dict().values())
            print(
                f"  {'loaded and checked' if then == 'load' else 'and one forward at 224x224'}: "
                f"peak {found['peak'] / 1e9:.2f} GB, {found['peak'] / model:.3f} of the model; without PyTorch itself "
                f"({found['runtime'] / 1e9:.2f} GB) {(found['peak'] - found['runtime']) / model:.3f}; "
                f"load {found['seconds']:.1f} s"
            )
        path.unlink()


def main() -> None:
    """Every published ViT-L network, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(CONFIGS), help="as their authors call the files")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name in options.names:
            report(name, Path(folder))


if __name__ == "__main__":
    main()
