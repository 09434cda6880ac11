"""Every shipped recipe builds, takes two steps at reduced width on files, and begins with what it says."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from stereo4d.cli.main import main
from stereo4d.data.conventions import Conventions
from tests.datasets.miniatures import film, write_folder, write_release

RECIPES = Path(__file__).parents[2] / "configs" / "fit"
PUBLISHED = {"croco-v2-large": "croco-v2-large", "dust3r": "dust3r-512-dpt"}
"""The recipe that makes what a published name stands for."""
NARROW = {
    **dict(enc_embed_dim=32, enc_depth=1, enc_num_heads=2),
    **dict(dec_embed_dim=32, dec_depth=4, dec_num_heads=2),
}
NARROW_DPT = {"feature_dim": 8, "last_dim": 8, "layer_dims": [8, 8, 8, 8]}


def reduced(name: str, starts: dict[str, Path]) -> dict:
    """A recipe with fewer and narrower layers, smaller images and two steps; nothing else is changed."""
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    model, data, trainer = recipe["model"]["init_args"], recipe["data"]["init_args"], recipe["trainer"]
    network = model["network"]
    network |= NARROW
    sizes = [[48, 48] if height == width else [32, 48] for height, width in data["sizes"] if height <= width]
    # a completion network's image size is its positions'; all its pictures have it where they are square
    network["img_size"] = sizes[0] if name.startswith("croco") else [48, 48]
    data |= {"sizes": sizes, "batch_size": 2, "workers": 0}
    if "val_batches" in data:
        data["val_batches"] = 1
    if network.get("head_type") == "dpt":
        network["head_options"] = NARROW_DPT
    if network.get("head_type") == "catmlp+dpt":
        network["head_options"] = NARROW_DPT
    for head in network.get("heads", {}).values():
        if head["head_type"] == "motion":
            head["options"] = NARROW_DPT
    if "start_from" in model:
        model["start_from"] = str(starts[name]) if name in starts else None
    trainer |= {
        **dict(accelerator="cpu", devices=1, max_steps=2, accumulate_grad_batches=1),
        **dict(val_check_interval=2, limit_val_batches=1, log_every_n_steps=1),
        **dict(enable_progress_bar=False, enable_model_summary=False),
    }
    for callback in trainer["callbacks"]:
        options = callback.get("init_args", {})
        options |= {key: 2 for key in ("every", "every_n_train_steps") if key in options}
        options |= {"pairs": 1} if callback["class_path"].endswith("PredictionSamples") else {}
    return recipe


def begins_with(name: str) -> str | None:
    """The recipe whose weights another one starts from; None: nothing, or weights that are shipped."""
    start = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())["model"]["init_args"].get("start_from")
    if start is None or start == "embedded":
        return None
    return PUBLISHED[start] if start in PUBLISHED else Path(start).parts[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with every data set that recipes name, as links to one miniature of each kind."""
    root = tmp_path_factory.mktemp("recipes")
    filmed = film(frames=12)  # recipes go up to 9 frames apart
    scene = write_folder(root / "posed" / "scene", filmed, depth=".npy", conventions=Conventions())
    shutil.copytree(scene / "masks", scene / "sky")
    write_release(root / "release", filmed)
    for recipe in RECIPES.glob("*.yaml"):
        for part in ("train", "val"):
            parts = yaml.safe_load(recipe.read_text())["data"]["init_args"].get(part, [])
            for one in parts:
                frames = one["init_args"]["frames"]
                link = root / frames["init_args"]["root"]
                link.parent.mkdir(parents=True, exist_ok=True)
                if not link.exists():
                    tracks = frames["class_path"].endswith("Stereo4dTracks")
                    link.symlink_to(root / ("release" if tracks else "posed"))
    return root


@pytest.fixture(scope="module")
def trained(place):
    """Runs a recipe, and first those it begins with; gives its last checkpoint. Nothing is run twice."""
    done: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in done:
            before = begins_with(name)
            recipe = reduced(name, {name: run(before)} if before else {})
            config = place / f"{name}.yaml"
            config.write_text(yaml.safe_dump(recipe))
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(place)
                assert main(["fit", "--config", str(config)]) == 0
            done[name] = place / "out" / name / "checkpoints" / "last.ckpt"
        return done[name]

    return run


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_a_recipe_takes_two_steps_and_leaves_a_checkpoint(name, trained):
    checkpoint = torch.load(trained(name), weights_only=True)
    assert checkpoint["global_step"] == 2
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


def test_what_recipes_freeze_stays_what_it_was(trained):
    before, after = (
        torch.load(trained(name), weights_only=True)["state_dict"] for name in ("dust3r-512-dpt", "monst3r")
    )
    changed = {name.split(".")[1] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed
    assert not changed & {"patch_embed", "enc_blocks", "mask_token"}
