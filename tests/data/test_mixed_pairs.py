import itertools
import json
from pathlib import Path

import lightning as L
import pytest
import torch
from jsonargparse import ArgumentParser

from stereo4d.data.augmentation import Augmentation, ColourJitter
from stereo4d.data.mixed_batches import HeldOutBatches
from stereo4d.data.mixed_pairs import MixedPairs
from stereo4d.data.mixture import Mixture
from stereo4d.data.pair_batch import PairBatch
from stereo4d.data.pairing import ByStride
from stereo4d.data.parts import FromFrames, FromWorlds, Shape
from stereo4d.errors import InputError, UsageError
from tests.posed_worlds import WorldFrames


def mixed(**options) -> MixedPairs:
    """3 pairs an epoch of 8 that there are, 2 of random worlds; 2 batches of 2 an epoch."""
    frames = FromFrames(
        options.pop("frames", WorldFrames(has_tracks=True)),
        count=3,
        pairing=ByStride((1,)),
        augmentation=Augmentation(crop=4, focal=0.9, colour=ColourJitter(brightness=0.3, hue=0)),
    )
    given = {"sizes": [(32, 48), (48, 32)], "batch_size": 2, "seed": 3, "query_times": 1, **options}
    return MixedPairs([frames, FromWorlds(count=2)], **given)


def of_recipe(parts: str) -> L.LightningDataModule:
    """The data that a recipe asks for, whose parts to train on are these; 2 pairs of 32 x 48 a batch."""
    text = f"""
data:
  class_path: stereo4d.data.mixed_pairs.MixedPairs
  init_args:
    sizes: [[32, 48]]
    batch_size: 2
    train:{parts}"""
    parser = ArgumentParser(parser_mode="omegaconf+", exit_on_error=False)
    parser.add_subclass_arguments(L.LightningDataModule, "data")
    return parser.instantiate_classes(parser.parse_string(text)).data


def first(count: int, loader) -> list[PairBatch]:
    return list(itertools.islice(loader, count))


def assert_same(batches: list[PairBatch], others: list[PairBatch]) -> None:
    assert [batch.names for batch in batches] == [other.names for other in others]
    for batch, other in zip(batches, others, strict=True):
        for name, value in vars(batch).items():
            if name != "names":
                torch.testing.assert_close(value, vars(other)[name], rtol=0, atol=0, equal_nan=True)


def test_batches_do_not_depend_on_the_number_of_workers():
    alone = first(5, mixed().train_dataloader())
    assert_same(first(5, mixed(workers=2).train_dataloader()), alone)
    assert {tuple(batch.image0.shape) for batch in alone} == {(2, 3, 32, 48), (2, 3, 48, 32)}
    kinds = {name.split()[0] for batch in alone for name in batch.names}
    assert kinds == {"worlds,", "synthetic"}
    assert_same(first(1, mixed(seed=4).train_dataloader()), first(1, mixed(seed=4).train_dataloader()))
    assert first(1, mixed(seed=4).train_dataloader())[0].names != alone[0].names


def test_another_epoch_has_other_pairs_and_other_colours():
    batches = first(24, mixed().train_dataloader())
    epochs = [set().union(*(batch.names for batch in batches[start : start + 2])) for start in range(0, 24, 2)]
    assert all(len(names) == 4 for names in epochs)
    of_frames = set().union(*epochs)
    assert len({name for name in of_frames if name.startswith("worlds")}) == 8  # all of them, in time
    seen: dict[str, list[PairBatch]] = {}
    for batch in batches:
        for number, name in enumerate(batch.names):
            if name.startswith("worlds") and batch.image0.shape[2] == 32:
                seen.setdefault(name, []).append(batch.image0[number])
    again = next(images for images in seen.values() if len(images) > 1)
    assert (again[0] - again[1]).abs().mean() > 0.01


class Seeing(L.LightningModule):
    """Remembers what it is given, and learns a number from it."""

    def __init__(self) -> None:
        super().__init__()
        self.number = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[PairBatch] = []

    def training_step(self, batch: PairBatch, batch_index: int) -> torch.Tensor:
        self.seen.append(batch)
        return self.number * batch.image0.mean()

    def validation_step(self, batch: PairBatch, batch_index: int) -> None:
        self.seen.append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(folder: Path, steps: int, **options) -> L.Trainer:
    return L.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        **options,
    )


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_goes_on_in_the_middle_of_an_epoch(tmp_path, accumulate):
    whole, start, rest = Seeing(), Seeing(), Seeing()
    trainer(tmp_path, 5, accumulate_grad_batches=accumulate, enable_checkpointing=False).fit(whole, mixed())
    stopped = trainer(tmp_path, 3, accumulate_grad_batches=accumulate)
    stopped.fit(start, mixed(workers=1))
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    resumed = trainer(tmp_path, 5, accumulate_grad_batches=accumulate, enable_checkpointing=False)
    resumed.fit(rest, mixed(workers=2), ckpt_path=tmp_path / "stopped.ckpt", weights_only=False)
    assert len(whole.seen) == 5 * accumulate
    assert_same(start.seen + rest.seen, whole.seen)
    assert rest.number.item() == whole.number.item()


class Writing(Seeing):
    """Writes down what a process was given."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_train_end(self) -> None:
        names = [batch.names[0] for batch in self.seen]
        (self.folder / f"{self.global_rank}.json").write_text(json.dumps(names))


def test_processes_that_train_together_share_an_epoch_and_what_is_held_out(tmp_path):
    held_out = FromFrames(WorldFrames(), pairing=ByStride((1,), every=4))  # 2 pairs
    data = mixed(batch_size=1, workers=1, val=[held_out])
    together = trainer(tmp_path, 2, devices=2, strategy="ddp_fork", val_check_interval=2, enable_checkpointing=False)
    together.fit(Writing(tmp_path), data)
    (*trained0, held0), (*trained1, held1) = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert len(trained0) == len(trained1) == 2
    assert len({*trained0, *trained1}) == 4
    assert {held0, held1} == {"worlds, scene 0, frames 0 and 1", "worlds, scene 1, frames 0 and 1"}


@pytest.mark.parametrize("workers", [0, 2])
def test_held_out_pairs_come_once_in_order_and_never_augmented(workers):
    held_out = FromFrames(WorldFrames(), pairing=ByStride((1,)))
    batches = list(mixed(val=[held_out], batch_size=3, workers=workers).val_dataloader())
    names = [name for batch in batches for name in batch.names]
    expected = [f"worlds, scene {s}, frames {i} and {i + 1}" for s in range(2) for i in range(4)]
    assert names == expected
    assert {tuple(batch.image0.shape[2:]) for batch in batches} == {(32, 48)}
    assert_same(batches, list(mixed(val=[held_out], batch_size=3, seed=9).val_dataloader()))
    for batch in batches:  # the field of view is the camera's own: nothing is cut off at the sides
        frame = WorldFrames().frame(batch.names[0].split()[2].strip(","), 0)
        assert batch.intrinsics0[0, 0, 0].item() == pytest.approx(frame.intrinsics[0, 0] * 48 / 80, rel=1e-5)


def test_processes_validate_on_as_many_batches_each_and_leave_none_out():
    held_out = Mixture([FromFrames(WorldFrames(), pairing=ByStride((1,), every=2))])  # 4 pairs
    batches = [list(HeldOutBatches(held_out, 1, Shape((32, 48)), rank=rank, world=3)) for rank in range(3)]
    assert [len(some) for some in batches] == [2, 2, 2]
    assert len({batch.names for some in batches for batch in some}) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_frame_ends_training_with_its_name(workers):
    data = mixed(frames=WorldFrames(damaged=tuple(("1", index) for index in range(5))), workers=workers)
    with pytest.raises(InputError) as caught:
        first(20, data.train_dataloader())
    assert str(caught.value).startswith("worlds, scene 1, frame")
    assert "\n" not in str(caught.value)  # no traceback of a worker in it


def test_validation_is_left_out_where_nothing_is_held_out(tmp_path):
    model = Seeing()
    trainer(tmp_path, 2, enable_checkpointing=False, val_check_interval=1).fit(model, mixed())
    assert len(model.seen) == 2
    with pytest.raises(UsageError, match=r"data\.test has no parts"):
        mixed().test_dataloader()


def test_a_recipe_names_data_sets_pairings_and_counts():
    text = """
      - class_path: stereo4d.data.parts.FromFrames
        init_args:
          count: 4
          frames: {class_path: tests.posed_worlds.WorldFrames, init_args: {count: 1}}
          pairing:
            class_path: stereo4d.data.pairing.SameImage
            init_args:
              share: 1.0
              of: {class_path: stereo4d.data.pairing.ByStride, init_args: {strides: [2], weights: [1.0]}}
          truth: {farthest: 80.0, static: true}
          augmentation: {crop: 8, focal: 0.9, colour: {hue: 0.0}}
      - class_path: stereo4d.data.parts.FromWorlds
        init_args: {count: 2, world: {objects: 2}}
    """
    data = of_recipe(text)
    batch = first(3, data.train_dataloader())
    names = sorted(name for one in batch for name in one.names)
    assert all(name.startswith(("synthetic", "worlds, scene 0, frames ")) for name in names)
    pairs = [name.split("frames ")[1].split(" and ") for name in names if name.startswith("worlds")]
    assert len(pairs) == 4
    assert all(one == other for one, other in pairs)


def test_parts_from_worlds_take_any_kind_of_world_by_class_path():
    text = """
      - class_path: stereo4d.data.parts.FromWorlds
        init_args:
          count: 2
          world: {class_path: stereo4d.data.synthetic.rich.RichWorlds, init_args: {kinds: [park]}}
      - class_path: stereo4d.data.parts.FromWorlds
        init_args: {count: 2, world: {objects: 2}}
    """
    data = of_recipe(text)
    open_air = torch.cat([batch.sky0.flatten(1).any(1) for batch in first(2, data.train_dataloader())])
    assert sorted(open_air.tolist()) == [False, False, True, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"portraits": True}, "stored transposed"),
        ({"batch_size": 0}, "batch_size of at least 1"),
        ({"batch_size": 9}, "raise a part's count"),
    ],
)
def test_numbers_that_cannot_be_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        mixed(**options).train_dataloader()
    with pytest.raises(UsageError, match="must be at least 1"):
        FromWorlds(count=0)
