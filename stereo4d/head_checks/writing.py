"""What a head writes: what it declares, whatever the backbone, the size, the batch and the times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from stereo4d.head_checks.lab import Lab, NotApplicable, require, tokens
from stereo4d.head_checks.subject import NARROW, dims_of
from stereo4d.network.head import Head, Output, Shown, TimedHead
from stereo4d.network.running_heads import maps_of_head

SIZES = ((48, 80), (80, 48), (32, 64), (16, 16))
"""Odd token grids lying and standing, an even one, a single token."""
FRAMES = ("", "view 0", "own")
VECTORS = ("cloud", "arrows", "normals")
WIDER = replace(NARROW, enc_embed_dim=64, dec_embed_dim=80, dec_depth=6)


def takes_dims(lab: Lab) -> str:
    """The widths and the depth are those that the network hands over."""
    for config in (NARROW, WIDER):
        dims = dims_of(config)
        run(lab.head(dims), tokens(dims, (32, 48), 1), (32, 48))
    told = [f"{c.enc_embed_dim} and {c.dec_embed_dim} wide, {c.dec_depth} deep" for c in (NARROW, WIDER)]
    return f"built for two backbones: {'; '.join(told)}"


def declares(lab: Lab) -> str:
    """Outputs are declared in a way that pipeline and viewer can work with."""
    outputs = list(lab.subject.sample.outputs)
    require(bool(outputs), "outputs is empty; declare every map that forward returns")
    for output in outputs:
        require(isinstance(output, Output), f"outputs holds {output!r}; entries are stereo4d.network.head.Output")
        _check_output(output)
    names = [output.name for output in outputs]
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, f"outputs declares {', '.join(twice)} twice; every map has a name of its own")
    return ", ".join(f"{output.name} {_letters(lab, output)}" for output in outputs)


def _check_output(output: Output) -> None:
    name = output.name
    require(name.isidentifier(), f"output {name!r} is not a name; take letters, digits and _")
    require(output.frame in FRAMES, f"output {name}: frame {output.frame!r}; known: {', '.join(map(repr, FRAMES))}")
    known = get_args(Shown)
    require(output.shown_as in known, f"output {name}: shown_as {output.shown_as!r}; known: {', '.join(known)}")
    shape = (3,) if output.shown_as in VECTORS else ()
    shown = output.shown_as == "nothing" or output.shape == shape
    require(shown, f"output {name} of shape {output.shape} cannot be shown as {output.shown_as}, which needs {shape}")
    framed = output.shown_as not in VECTORS or output.frame != ""
    require(framed, f"output {name} is shown as {output.shown_as}, so its frame must be 'view 0' or 'own'")


def _letters(lab: Lab, output: Output) -> str:
    letters = ["B", *(["Q"] if lab.subject.is_timed else []), "H", "W", *map(str, output.shape)]
    return f"({', '.join(letters)})"


def writes(lab: Lab) -> str:
    """What is declared is what is written, float32 and finite, on any grid and any batch."""
    dims = dims_of(NARROW)
    head = lab.head(dims)
    for size in SIZES:
        for batch in (1, 3):
            for name, value in run(head, tokens(dims, size, batch), size).items():
                where = f"{name} on {batch} of {size[0]} x {size[1]} pixels"
                require(value.dtype == torch.float32, f"{where} is {value.dtype}; write float32")
                require(bool(value.isfinite().all()), f"{where} is not finite; bound it before exp, log or division")
    return f"{len(SIZES)} sizes, odd and even token grids, lying and standing, batches of 1 and 3"


def one_by_one(lab: Lab) -> str:
    """What is said of an image does not depend on the others of its batch."""
    dims, size = dims_of(NARROW), (48, 80)
    head, batch = lab.head(dims), tokens(dims, size, 3)
    times = query_times(3) if lab.subject.is_timed else None
    together = maps_of_head(head, batch, size, times)
    for place in range(3):
        alone = maps_of_head(
            head, [entry[place : place + 1] for entry in batch], size, None if times is None else times[place, None]
        )
        for name, value in alone.items():
            require(
                close(together[name][place], value[0]),
                f"{name} of an image changes with the other images of its batch; compute each image on its own",
            )
    return "three at once and each alone"


def at_several_times(lab: Lab) -> str:
    """Several query times are answered as each alone; every pair has its own."""
    if not lab.subject.is_timed:
        raise NotApplicable("the head takes no query times")
    dims, size = dims_of(NARROW), (48, 80)
    head, batch, times = lab.head(dims), tokens(dims, size, 2), query_times(2)
    together = maps_of_head(head, batch, size, times)
    for query in range(times.shape[1]):
        alone = maps_of_head(head, batch, size, times[:, query, None])
        for name, value in alone.items():
            require(
                close(together[name][:, query], value[:, 0]),
                f"{name} at a query time changes with the other times asked for; answer each (pair, time) on its own",
            )
    changes = any(not close(value[:, 0], value[:, -1]) for value in together.values())
    require(changes, "nothing that the head writes depends on the query time; use times, or derive it from Head")
    return f"{times.shape[1]} times a pair, and each alone"


def repeats_itself(lab: Lab) -> str:
    """In evaluation mode the same tokens give the same maps."""
    dims, size = dims_of(NARROW), (32, 48)
    head, batch = lab.head(dims), tokens(dims, size, 2)
    first, second = run(head, batch, size), run(head, batch, size)
    different = [name for name, value in first.items() if not torch.equal(value, second[name])]
    require(
        not different,
        f"{', '.join(different)} differ from call to call in evaluation mode; draw nothing, keep nothing, when not "
        "self.training",
    )
    return "twice the same in evaluation mode"


def run(head: Head | TimedHead, batch: Sequence[Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """The maps of a head on drawn tokens, at drawn times if it takes them."""
    times = query_times(len(batch[0])) if isinstance(head, TimedHead) else None
    return maps_of_head(head, batch, size, times)


def query_times(batch: int) -> Tensor:
    """(B, 4) query times, both ends among them, others for every pair."""
    between = torch.rand(batch, 2, generator=torch.Generator().manual_seed(5))
    return torch.cat([torch.zeros(batch, 1), between, torch.ones(batch, 1)], 1)


def close(first: Tensor, second: Tensor) -> bool:
    """Equal but for rounding."""
    size = float(second.detach().abs().max())
    return torch.allclose(first, second, rtol=1e-3, atol=1e-4 * size + 1e-6)
