"""How a head learns: gradients where they are allowed, an objective that has them, and several processes at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from stereo4d.head_checks.lab import BESIDE, Lab, NotApplicable, drawn_sum, require
from stereo4d.network.head import AnyHead
from stereo4d.network.stereo import StereoNetwork

PROCESSES = 2
SECONDS = 300
"""A process group that hangs is ended after this long."""


def gradients(lab: Lab) -> str:
    """Every parameter that may learn gets a gradient from what the head writes; what is frozen gets none."""
    network = lab.network(freeze=lab.freeze).train()
    drawn_sum(lab.maps(lab.predict(network, lab.pairs))).backward()
    learning = _check_gradients(lab, network, "takes part in nothing that the head writes")
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    touched = [name for name in frozen if network.get_parameter(name).grad is not None]
    require(not touched, f"frozen parameters have gradients: {_few(touched)}; leave requires_grad of others alone")
    own = {id(parameter) for head in lab.heads_of(network) for parameter in head.parameters()}
    strange = [name for name, p in network.named_parameters() if p.requires_grad and id(p) not in own]
    require(not strange, f"parameters that are not the head's learn: {_few(strange)}; they were frozen before it came")
    return f"{learning} parameter tensors learn, {len(frozen)} are frozen and have no gradient"


def _check_gradients(lab: Lab, network: StereoNetwork, reason: str) -> int:
    """The number of the heads' parameters with a gradient, if all that may learn have one."""
    learning = 0
    for head in lab.heads_of(network):
        found = {name: parameter.grad for name, parameter in head.named_parameters() if parameter.requires_grad}
        without = [name for name, gradient in found.items() if gradient is None]
        require(
            not without,
            f"{_few(without)} {reason}: training on several devices stops at such parameters; use them, or call "
            "requires_grad_(False) on them",
        )
        broken = [name for name, gradient in found.items() if gradient is not None and not gradient.isfinite().all()]
        require(not broken, f"the gradient of {_few(broken)} is not finite; mind norms and roots at zero")
        learning += len(found)
    return learning


def has_an_objective(lab: Lab) -> str:
    """What it is trained for is finite and moves every parameter; its figures are a number, or one a pair."""
    if lab.subject.is_main:
        raise NotApplicable("the recipe says what a main head is trained for")
    head = cast(AnyHead, lab.subject.sample)
    objective = head.objective(BESIDE)
    network = lab.network(freeze=lab.freeze).train()
    prediction = lab.predict(network, lab.pairs)
    figures = head.measure(BESIDE, prediction, lab.pairs)
    for name, figure in figures.items():
        right = isinstance(figure, Tensor) and tuple(figure.shape) in ((), (len(lab.pairs.image0),))
        require(
            right, f"measure gives {name} {_shape(figure)}; figures are scalars, or (B,) with NaN where there is none"
        )
    measured = f"measures {', '.join(figures) or 'nothing'}"
    if objective is None:
        return f"no objective, so it is not trained beside a main head; {measured}"
    total = objective(prediction, lab.pairs).total
    require(tuple(total.shape) == (), f"the objective's total is {_shape(total)}; it must be a scalar")
    require(
        bool(total.isfinite()),
        f"the objective is {float(total.detach())}; truth that is not valid may be NaN: mask it first",
    )
    require(total.requires_grad, "the objective has no gradient; do not detach what the head writes")
    total.backward()
    _check_gradients(lab, network, "gets no gradient from the objective")
    return f"{type(objective).__name__} {float(total.detach()):.3g}; {measured}"


def in_processes(lab: Lab) -> str:
    """Two processes take two steps together (distributed data parallel), all else frozen, and agree."""
    folder = lab.folder / "processes"
    folder.mkdir()
    order = {"name": lab.subject.name, "options": dict(lab.subject.options), "folder": str(folder)}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "stereo4d.head_checks.distributed", json.dumps(order)]
    started = [
        subprocess.Popen([*command, str(rank)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for rank in range(PROCESSES)
    ]
    try:
        said = [process.communicate(timeout=SECONDS)[1].decode(errors="replace") for process in started]
    except subprocess.TimeoutExpired:
        require(False, f"training in {PROCESSES} processes hangs: after {SECONDS} s there is no answer")
    finally:
        for process in started:
            process.kill()
            process.wait()
    failed = [text for process, text in zip(started, said, strict=True) if process.returncode]
    require(not failed, f"training in {PROCESSES} processes fails: {_last_line(failed)}")
    return f"{PROCESSES} processes over gloo, two steps, weights agree"


def _last_line(texts: list[str]) -> str:
    """The most telling of the last lines; one process's failure makes the other's connection fail."""
    lines = [text.strip().splitlines()[-1] if text.strip() else "no reason given" for text in texts]
    return next((line for line in lines if "onnection" not in line), lines[0] if lines else "")


def take_steps(lab: Lab, rank: int, meeting: Path) -> None:
    """One process's part of ``in_processes``: two steps on data of its own.

    Raises:
        RuntimeError: the processes' weights differ, or their group complains.
    """
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=PROCESSES)
    network = lab.network(freeze=lab.freeze).train()
    parallel = DistributedDataParallel(network)
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    pairs = lab.pairs if rank == 0 else lab.pairs.swapped()
    for _ in range(2):  # parameters that were left out are complained about at the second
        network.zero_grad()
        lab.loss(lab.predict(cast(StereoNetwork, parallel), pairs), pairs).backward()
        with torch.no_grad():  # torch.optim would import the compiler, seconds for each process
            for parameter in learning:
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=1e-3)
    total = torch.stack([parameter.detach().double().sum() for parameter in learning]).sum()
    totals = [torch.zeros_like(total) for _ in range(PROCESSES)]
    dist.all_gather(totals, total)
    dist.destroy_process_group()
    if not all(torch.equal(other, total) for other in totals):
        raise RuntimeError("after two steps the processes' weights differ")


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _shape(value: object) -> str:
    return f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"as {type(value).__name__}"
