"""A mixture draws batches of several kinds of worlds, each exactly as that kind alone would give it."""

import pytest
import torch

from stereo4d.data.synthetic.pairs import sample_pairs
from stereo4d.data.synthetic.rich import RichWorlds
from stereo4d.data.synthetic.world import WorldConfig
from stereo4d.data.synthetic.world_mixture import WorldMixture
from stereo4d.errors import UsageError

PLAIN, RICH = WorldConfig(pair_gap=(0.3, 0.3)), RichWorlds(kinds=("indoor",))


def test_a_batch_is_the_very_batch_of_the_world_drawn():
    mixture = WorldMixture((PLAIN, RICH))
    for seed in range(4):
        mixed, alone = (sample_pairs(worlds, 2, 16, 32, seed=seed) for worlds in (mixture, mixture.drawn(seed)))
        assert torch.equal(mixed.image0, alone.image0)
        assert torch.equal(mixed.relative, alone.relative)


def test_shares_say_how_often_each_is_drawn():
    nested = WorldMixture((PLAIN, RICH), (1, 3))
    mixture = WorldMixture((nested, PLAIN), (1, 1))
    rich = sum(mixture.drawn(seed) is RICH for seed in range(2000)) / 2000
    assert abs(rich - 0.375) < 0.04


def test_a_share_of_zero_is_never_drawn():
    mixture = WorldMixture((PLAIN, RICH), (0, 1))
    assert all(mixture.drawn(seed) is RICH for seed in range(50))


@pytest.mark.parametrize("shares", [(1.0,), (1.0, -1.0), (0.0, 0.0), (1.0, float("nan"))])
def test_shares_that_do_not_fit_are_refused(shares):
    with pytest.raises(UsageError, match="shares"):
        WorldMixture((PLAIN, RICH), shares)
    with pytest.raises(UsageError, match="at least one"):
        WorldMixture(())
