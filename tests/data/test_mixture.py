import numpy as np
import pytest

from stereo4d.data.mixture import BatchOrder, Mixture, part_order
from stereo4d.data.parts import FromWorlds
from stereo4d.errors import UsageError
from tests.golden_numbers import load


@pytest.mark.parametrize(("count", "size"), [(4, 10), (12, 5)])
@pytest.mark.parametrize("epoch", [0, 1])
def test_a_counted_part_draws_what_the_published_data_sets_draw(count, size, epoch):
    order = part_order(size, count=count, repeat=1, epoch=epoch, seed=0)
    np.testing.assert_array_equal(order, load("losses_data")[f"resized_{count}_of_{size}_epoch{epoch}"])


@pytest.mark.parametrize(("world", "rank"), [(1, 0), (2, 0), (2, 1)])
def test_batches_equal_those_of_the_published_sampler(world, rank):
    chosen, sizes = BatchOrder(27, batch_size=4, sizes=3, world=world).epoch(2, rank)
    golden = load("losses_data")[f"sampler_n27_b4_p3_ws{world}_rank{rank}_epoch2"]
    np.testing.assert_array_equal(np.stack([chosen.ravel(), np.repeat(sizes, 4)], 1), golden)


def test_parts_of_a_mixture_follow_one_another_as_published():
    # (6 @ D10) + (2 * D3)
    mixture = Mixture([FromWorlds(count=6, worlds=10), FromWorlds(repeat=2, worlds=3)])
    golden = load("losses_data")
    assert mixture.epoch_length() == golden["concat_len"]
    np.testing.assert_array_equal(mixture.places(1)[:, 1], golden["concat_items"])
    np.testing.assert_array_equal(mixture.places(1)[:, 0], [0] * 6 + [1] * 6)


def test_another_seed_is_another_order_in_every_epoch():
    orders = {
        tuple(BatchOrder(8, batch_size=2, sizes=2, seed=seed).epoch(epoch, 0)[0].ravel())
        for seed in (0, 1, 2)
        for epoch in (0, 1, 2)
    }
    assert len(orders) == 9


def test_an_epoch_that_fills_no_batch_is_refused():
    with pytest.raises(UsageError, match="raise a part's count"):
        BatchOrder(7, batch_size=4, sizes=1, world=2)
