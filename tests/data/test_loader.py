"""The batch loader against a naive reference; sharing, resuming."""

import pytest
import torch

from condgen.augment.images import Compose, Crop, Flip
from condgen.conditions import Attributes, Category, Number, Tags
from condgen.data.loader import BatchLoader
from condgen.errors import CondgenError
from condgen.randomness import generator

IMAGES = torch.randint(0, 256, (23, 3, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
CONDITIONS = torch.arange(23)
AUGMENT = Compose(Flip(), Crop(2))


def batches(**options):
    return list(BatchLoader(IMAGES, CONDITIONS, 6, **options))


def same(left, right):
    return len(left) == len(right) and all(
        torch.equal(a, b) for one, two in zip(left, right, strict=True) for a, b in zip(one, two, strict=True)
    )


def joined(*shares):
    return [tuple(torch.cat(rows) for rows in zip(*batch, strict=True)) for batch in zip(*shares, strict=True)]


def test_in_order_nothing_is_lost():
    found = batches()
    assert [len(x) for x, _ in found] == [6, 6, 6, 5]
    x, condition = (torch.cat(rows) for rows in zip(*found, strict=True))
    assert torch.equal(condition, CONDITIONS)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.double(), IMAGES.double() / 127.5 - 1, atol=1e-6, rtol=0)


def test_shuffled_batches_equal_a_naive_reference():
    rows = torch.arange(1, 23, 2)
    found = list(
        BatchLoader(
            IMAGES, CONDITIONS, 4, rows=rows, shuffle=True, drop_last=True, seed=5, augment=AUGMENT, position=lambda: (3, 0)
        )
    )
    order = rows[torch.randperm(11, generator=generator(5, "order", 3))].tolist()
    assert len(found) == 2
    for number, (x, condition) in enumerate(found):
        u = torch.rand(4, 3, generator=generator(5, "augment", 3, number))
        for i in range(4):
            row = order[number * 4 + i]
            assert condition[i] == row
            assert torch.equal(x[i : i + 1], AUGMENT(IMAGES[row : row + 1].float() / 127.5 - 1, u[i : i + 1]))


def test_epochs_and_seeds_have_their_own_order():
    orders = [
        [c.tolist() for _, c in batches(shuffle=True, seed=s, position=lambda e=e: (e, 0))] for s in (0, 1) for e in (0, 1)
    ]
    assert len({str(order) for order in orders}) == 4
    assert orders[0] == [c.tolist() for _, c in batches(shuffle=True)]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_training_batches(world):
    options = {"shuffle": True, "drop_last": True, "seed": 1, "augment": AUGMENT}
    shares = [batches(rank=rank, world=world, **options) for rank in range(world)]
    assert {len(x) for share in shares for x, _ in share} == {6 // world}
    assert same(joined(*shares), batches(**options))


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_evaluation_without_loss_or_doubles(world):
    rows = torch.arange(13)  # the last batch has one image: most processes get none
    shares = [list(BatchLoader(IMAGES, CONDITIONS, 6, rows=rows, rank=rank, world=world)) for rank in range(world)]
    assert [len(share) for share in shares] == [3] * world
    assert same(joined(*shares), list(BatchLoader(IMAGES, CONDITIONS, 6, rows=rows)))


def test_conditions_are_moved_within_their_vicinity_alike_by_one_process_and_several():
    attributes = Attributes([Number("size", 0, 22), Category("odd", ("no", "yes"))])
    encoded = attributes.encode_values(torch.stack([torch.arange(23.0), torch.arange(23.0) % 2], dim=1))
    options = {"condition": attributes, "vicinity": 0.1, "drop_last": True, "seed": 3}
    found = list(BatchLoader(IMAGES, encoded, 6, **options))
    moved = torch.cat([condition for _, condition in found]) - encoded[:18]
    assert 0.05 < moved[1:, 0].std() < 0.15 and (moved[:, 1:] == 0).all()
    again = list(BatchLoader(IMAGES, encoded, 6, **options, position=lambda: (1, 0)))
    assert not torch.equal(again[0][1], found[0][1])  # anew in each epoch
    shares = [list(BatchLoader(IMAGES, encoded, 6, rank=rank, world=2, **options)) for rank in range(2)]
    assert same(joined(*shares), found)


def test_parts_are_left_out_alike_by_one_process_and_several_and_anew_in_each_epoch():
    tags = Tags([Category("odd", ("no", "yes"))], ["dog"], asked=1)
    encoded = tags.from_data(torch.zeros(23), torch.stack([torch.arange(23.0) % 2, torch.zeros(23)], dim=1))
    options = {"condition": tags, "partly": True, "drop_last": True, "seed": 3}
    found = list(BatchLoader(IMAGES, encoded, 6, **options))
    counts = [(tags.sets(condition) >= 0).sum(1).max().item() for _, condition in found]
    assert max(counts) == 1  # of two
    assert not same(list(BatchLoader(IMAGES, encoded, 6, **options, position=lambda: (1, 0))), found)
    assert same(list(BatchLoader(IMAGES, encoded, 6, **options, position=lambda: (0, 1))), found[1:])
    shares = [list(BatchLoader(IMAGES, encoded, 6, rank=rank, world=2, **options)) for rank in range(2)]
    assert same(joined(*shares), found)


def test_starting_in_mid_epoch_yields_what_is_left():
    options = {"shuffle": True, "seed": 2, "augment": AUGMENT}
    assert same(batches(position=lambda: (1, 2), **options), batches(position=lambda: (1, 0), **options)[2:])


def test_position_is_asked_at_the_first_batch_not_before():
    asked = []
    loader = BatchLoader(IMAGES, CONDITIONS, 6, position=lambda: asked.append(1) or (0, 0))
    iterator = iter(loader)
    assert not asked
    next(iterator)
    assert asked == [1]


def test_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    batches(shuffle=True, augment=AUGMENT)
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_must_divide():
    with pytest.raises(CondgenError, match=r"data.batch_size=6 must be a multiple of .* 4"):
        batches(drop_last=True, world=4)
