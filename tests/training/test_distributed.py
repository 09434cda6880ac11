"""Two processes that train together learn what one does with twice the batch."""

from dataclasses import replace
from pathlib import Path

import lightning as L
import torch
from torch.utils.data import DataLoader

from stereo4d.data.pair_batch import joined
from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.network.config import HeadChoice
from stereo4d.training.module import PairModule
from stereo4d.training.schedules import Plateau
from tests.tiny_weights import CONFIG

STEPS = 20
HEAD = {"feature_dim": 8, "last_dim": 8, "layer_dims": [8, 8, 8, 8]}


class Halves(L.LightningDataModule):
    """Every batch in one piece for one process, in halves for two."""

    def train_dataloader(self) -> DataLoader:
        halves = [sample_pairs(WorldConfig(), 1, 32, 32, seed=seed) for seed in range(2 * STEPS)]
        if self.trainer.world_size == 2:
            return DataLoader(halves[self.trainer.global_rank :: 2], batch_size=None)
        return DataLoader([joined(halves[k : k + 2]) for k in range(0, 2 * STEPS, 2)], batch_size=None)


def train(path: Path, **settings: object) -> dict[str, torch.Tensor]:
    """The network after some steps; its encoder is frozen, and its motion head never runs."""
    L.seed_everything(5)
    heads = {"motion": HeadChoice("motion", HEAD)}
    config = replace(CONFIG, img_size=(32, 32), dec_depth=4, freeze="encoder", heads=heads)
    module = PairModule(config, schedule=Plateau(1), learning_rate=1e-4)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        max_epochs=-1,
        logger=False,
        use_distributed_sampler=False,
        default_root_dir=path,
        **quiet,
        **settings,
    )
    trainer.fit(module, Halves())
    trainer.save_checkpoint(path / "last.ckpt")
    return torch.load(path / "last.ckpt", weights_only=True)["state_dict"]


def test_two_processes_equal_one_with_twice_the_batch(tmp_path):
    one = train(tmp_path / "one", devices=1)
    two = train(tmp_path / "two", devices=2, strategy="ddp_spawn_find_unused_parameters_true")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-4, msg=name)
