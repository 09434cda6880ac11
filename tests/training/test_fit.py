"""``stereo4d fit`` runs the shipped recipe, resumes it exactly and leaves weights that load."""

from pathlib import Path

import pytest
import torch

from stereo4d.cli.fit import main
from stereo4d.data.module import HELD_OUT, SyntheticPairs
from stereo4d.errors import CheckpointError
from stereo4d.network.weights import load_model
from stereo4d.training.export import export_checkpoint

RECIPE = Path(__file__).parents[2] / "configs" / "fit" / "tiny.yaml"
SMALL = {
    "model.init_args.network.enc_embed_dim": 32,
    "model.init_args.network.enc_num_heads": 2,
    "model.init_args.network.enc_depth": 1,
    "model.init_args.network.dec_embed_dim": 32,
    "model.init_args.network.dec_num_heads": 2,
    "model.init_args.network.dec_depth": 2,
    "data.init_args.batch_size": 2,
    "data.init_args.val_batches": 1,
    "data.init_args.workers": 0,
    "trainer.accelerator": "cpu",
    "trainer.val_check_interval": 2,
    "trainer.log_every_n_steps": 1,
    "trainer.enable_progress_bar": False,
    "trainer.enable_model_summary": False,
}


def fit(folder: Path, **settings: object) -> Path:
    """Run the recipe at small width in ``folder``; the path of its last checkpoint."""
    options = SMALL | {
        "trainer.default_root_dir": folder,
        "trainer.logger.init_args.save_dir": folder,
        "trainer.callbacks.1.init_args.dirpath": folder / "checkpoints",
    }
    checkpoint = settings.pop("ckpt_path", None)
    options |= {f"trainer.{name}": value for name, value in settings.items()}
    arguments = ["fit", "--config", str(RECIPE)]
    arguments += [f"--{name}={value}" for name, value in options.items() if "callbacks" not in name]
    # Callbacks are a list: only Lightning's own shorthand for the checkpoint callback can change one entry.
    arguments += [
        "--trainer.callbacks=EMAWeightAveraging",
        "--trainer.callbacks.decay=0.998",
        "--trainer.callbacks+=ModelCheckpoint",
        f"--trainer.callbacks.dirpath={folder / 'checkpoints'}",
        "--trainer.callbacks.every_n_train_steps=2",
        "--trainer.callbacks.save_last=true",
    ]
    if checkpoint:
        arguments.append(f"--ckpt_path={checkpoint}")
    assert main(arguments) == 0
    return folder / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("fit")
    half = fit(root / "half", max_steps=2)
    return {
        "resumed": fit(root / "resumed", max_steps=4, ckpt_path=half),
        "unbroken": fit(root / "unbroken", max_steps=4),
        "half": half,
    }


def test_a_resumed_run_equals_an_unbroken_one(runs):
    resumed, unbroken, half = (torch.load(runs[name], weights_only=True) for name in ("resumed", "unbroken", "half"))
    assert resumed["global_step"] == unbroken["global_step"] == 4
    for name, value in unbroken["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], value, rtol=1e-5, atol=1e-6)
    moved = [not torch.equal(value, half["state_dict"][name]) for name, value in unbroken["state_dict"].items()]
    assert any(moved)


def test_the_checkpoint_exports_to_weights_that_load_and_predict(runs, tmp_path):
    export_checkpoint(runs["unbroken"], tmp_path, card={"name": "test", "licence": "Apache-2.0"})
    network = load_model(tmp_path)
    assert network.config.enc_embed_dim == 32
    with torch.inference_mode():
        prediction = network(*torch.randn(2, 1, 3, 32, 48))
    assert prediction.pointmap1.shape == (1, 32, 48, 3)
    assert bool(prediction.pointmap1.isfinite().all())
    assert float(prediction.confidence0.min()) > 1


def test_other_files_are_refused_as_training_checkpoints(tmp_path):
    path = tmp_path / "not.ckpt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="network_config"):
        export_checkpoint(path, tmp_path / "out")


def test_workers_make_the_same_batches_in_the_same_order():
    inline, ahead = (
        SyntheticPairs(batch_size=1, sizes=[(16, 32)]),
        SyntheticPairs(batch_size=1, sizes=[(16, 32)], workers=2),
    )
    made = [
        inline.on_after_batch_transfer(number, 0)
        for number, _ in zip(inline.train_dataloader(), range(3), strict=False)
    ]
    for expected, batch in zip(made, ahead.train_dataloader(), strict=False):
        assert torch.equal(batch.image0, expected.image0)


def test_held_out_batches_are_never_trained_on():
    module = SyntheticPairs(batch_size=1, sizes=[(16, 32)])
    trained = [int(number) for number, _ in zip(module.train_dataloader(), range(3), strict=False)]
    held_out = [int(number) for number in module.val_dataloader()]
    assert max(trained) < HELD_OUT <= min(held_out)
