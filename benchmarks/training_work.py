"""What ``training.py`` measures on: recipes' modules, pairs, files written from the synthetic world, trainers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from PIL import Image
from torch.utils.data import DataLoader

from stereo4d.data.pair_batch import PairBatch, joined
from stereo4d.data.synthetic.motion import camera_intrinsics, camera_pose
from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.render import render
from stereo4d.data.synthetic.world import WorldConfig, sample_world
from stereo4d.network.config import HeadChoice, StereoConfig
from stereo4d.training.callbacks import NanGuard, Throughput
from stereo4d.training.module import PairModule
from stereo4d.training.schedules import Plateau

SIZE = (96, 144)
STEPS = 20
TINY: dict[str, Any] = {
    **dict(img_size=(144, 144), enc_embed_dim=192, enc_depth=4, enc_num_heads=3),
    **dict(dec_embed_dim=192, dec_depth=4, dec_num_heads=3, landscape_only=False),
}
"""Widths of configs/fit/tiny.yaml."""


def module_of(options: dict[str, Any] | None = None, **settings: Any) -> PairModule:
    """A module with drawn weights, always the same."""
    torch.manual_seed(0)
    return PairModule(StereoConfig(**(options or TINY)), **{"schedule": Plateau(1), "learning_rate": 1e-4, **settings})


def pairs(count: int, size: tuple[int, int] = SIZE, seed: int = 0) -> PairBatch:
    return sample_pairs(WorldConfig(), count, *size, seed=seed)


def trainer(steps: int, *callbacks: L.Callback, **settings: Any) -> L.Trainer:
    """One that trains on the CPU and leaves nothing behind."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    given = {"accelerator": "cpu", "devices": 1, "max_steps": steps, "max_epochs": -1, "logger": False, **quiet}
    return L.Trainer(callbacks=list(callbacks), **(given | settings))


class Clock(L.Callback):
    """Processor seconds a step of this process, without the first."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.ends.append(time.process_time())

    def seconds(self) -> float:
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


def whole_steps(module: PairModule, batch: PairBatch, steps: int) -> float:
    """Seconds a step with all that a recipe asks for: clipping, optimiser, average of weights, guard, figures."""
    clock = Clock()
    watching = (EMAWeightAveraging(decay=0.99), NanGuard(), Throughput(every=2), clock)
    fitting = trainer(steps + 1, *watching, gradient_clip_val=1.0, log_every_n_steps=2)
    fitting.fit(module, DataLoader([batch] * (steps + 1), batch_size=None))
    return clock.seconds()


def bare_steps(module: PairModule, batch: PairBatch, steps: int, *, objective: bool) -> float:
    """Seconds of forward and backward alone; without the objective, backward from the sum of what is predicted."""
    module.train()
    module.trainer = None
    images = torch.cat([batch.image0, batch.image1]), torch.cat([batch.image1, batch.image0])

    def work() -> None:
        module.zero_grad()
        if objective:
            module.loss_of(batch).backward()
            return
        # as training does it: each image encoded once, and both orders decoded
        encoded = module.network.encode(images[0])
        other = encoded.select(torch.arange(len(encoded)).roll(len(encoded) // 2))
        found = module.network.predict_encoded(encoded, other)
        total = sum(value.sum() for value in (found.pointmap0, found.pointmap1, found.confidence0, found.confidence1))
        assert isinstance(total, torch.Tensor)
        total.backward()

    work()
    begin = time.process_time()
    for _ in range(steps):
        work()
    return (time.process_time() - begin) / steps


class Halves(L.LightningDataModule):
    """Every batch in one piece for one process, in halves for two."""

    def train_dataloader(self) -> DataLoader:
        halves = [pairs(1, (32, 32), seed) for seed in range(2 * STEPS)]
        if self.trainer is not None and self.trainer.world_size == 2:
            return DataLoader(halves[self.trainer.global_rank :: 2], batch_size=None)
        return DataLoader([joined(halves[k : k + 2]) for k in range(0, 2 * STEPS, 2)], batch_size=None)


def trained(path: Path, **settings: Any) -> dict[str, torch.Tensor]:
    """Weights after ``STEPS`` steps of a network with a frozen encoder and a motion head that never runs."""
    options = {**dict(img_size=(32, 32), enc_embed_dim=64, enc_depth=2, enc_num_heads=4), "freeze": "encoder"}
    options |= {**dict(dec_embed_dim=64, dec_depth=4, dec_num_heads=4), "landscape_only": False}
    options["heads"] = {"motion": HeadChoice("linear-motion")}
    fitting = trainer(STEPS, use_distributed_sampler=False, **settings)
    fitting.fit(module_of(options), Halves())
    fitting.save_checkpoint(path)
    return torch.load(path, weights_only=True)["state_dict"]


def write_files(root: Path, *, frames: int = 4, size: tuple[int, int] = (480, 640)) -> Path:
    """Two scenes as a folder data set: images, 16-bit depth in millimetres, masks, poses, intrinsics."""
    for seed in range(2):
        scene = root / f"scene-{seed}"
        for folder in ("images", "depths", "masks"):
            (scene / folder).mkdir(parents=True)
        world = sample_world(WorldConfig(), 1, seed=seed)
        lens = camera_intrinsics(world, *size)
        poses = []
        for number, moment in enumerate(torch.linspace(0, 1, frames)):
            pose = camera_pose(world, moment[None])
            seen = render(world, moment[None], pose, lens, *size)
            picture = (seen.rgb[0].clamp(0, 1) * 255).round().byte().numpy()
            Image.fromarray(picture).save(scene / "images" / f"{number:03}.jpg", quality=95)
            depth = (seen.depth[0].numpy() * 1000).round().clip(0, 65535).astype(np.uint16)
            Image.fromarray(depth).save(scene / "depths" / f"{number:03}.png")
            Image.fromarray(seen.moving[0].numpy().astype(np.uint8) * 255).save(scene / "masks" / f"{number:03}.png")
            poses.append(pose[0].numpy())
        np.save(scene / "poses.npy", np.stack(poses))
        numbers = lens[0, [0, 1, 0, 1], [0, 1, 2, 2]].tolist()
        (scene / "intrinsics.txt").write_text(" ".join(map(str, numbers)))
    return root
