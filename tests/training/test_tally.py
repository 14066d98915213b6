"""Means over the validation part and over the losses of several batches, against plain means."""

import pytest
import torch

from condgen.errors import CondgenError
from condgen.training.tally import Tally, loss_means, of_all, of_one

STREAM = torch.Generator().manual_seed(0)


def draw(*shape):
    return torch.randn(*shape, generator=STREAM) + 3


def test_a_tally_is_the_mean_over_all_samples():
    """Of batches of unequal sizes, scalars and vectors; then it begins anew."""
    tally, sizes = Tally(), (4, 1, 7)
    for _ in range(2):
        losses, codes = [draw(size) for size in sizes], [draw(size, 3) for size in sizes]
        for loss, code in zip(losses, codes, strict=True):
            tally.add(loss=loss, code=code)
        means = tally.means(lambda table: table)
        assert means["loss"].shape == () and means["code"].shape == (3,) and means["loss"].dtype == torch.float64
        torch.testing.assert_close(means["loss"], torch.cat(losses).double().mean())
        torch.testing.assert_close(means["code"], torch.cat(codes).double().mean(0))


def test_a_tally_of_two_processes_is_that_of_their_samples_together():
    """What each process passes on is summed, the numbers of samples too."""
    shares, values, tables = [Tally(), Tally()], [draw(5), draw(2)], []
    for share, value in zip(shares, values, strict=True):
        share.add(loss=value, square=value.square())
        share.means(lambda table: tables.append(table) or table)
    shares[0].add(loss=values[0], square=values[0].square())
    means = shares[0].means(lambda table: table + tables[1])
    torch.testing.assert_close(means["loss"], torch.cat(values).double().mean())
    torch.testing.assert_close(means["square"], torch.cat(values).double().square().mean())


def test_many_small_values_beside_a_large_one_are_not_lost():
    """In float32 the sum would stop growing at 2^24."""
    tally = Tally()
    tally.add(loss=torch.tensor([2.0**25]))
    for _ in range(100):
        tally.add(loss=torch.ones(1))
    assert tally.means(lambda table: table)["loss"].item() == (2**25 + 100) / 101


def test_each_loss_has_its_mean_over_the_batches_that_had_it():
    rows = [{"d": draw(1)[0], "g": draw(1)[0]}, {"d": draw(1)[0]}, {"d": draw(1)[0], "g": draw(1)[0]}]
    found = loss_means(rows, lambda means: means, batches=3, updates=2)
    for name in ("d", "g"):
        values = [row[name].item() for row in rows if name in row]
        assert found[name] == pytest.approx(sum(values) / len(values), rel=1e-6)


def test_the_loss_and_the_batch_that_are_not_finite_are_named():
    losses = [{"d": torch.tensor(0.5), "g": torch.tensor(value)} for value in (1.0, float("nan"), 2.0)]
    with pytest.raises(CondgenError, match=r"g became nan in batch 8 \(update 5\)"):
        loss_means(losses, lambda means: means, batches=10, updates=5)


def test_a_checkpoint_of_several_processes_gives_each_its_own_losses_again():
    mine = [[{"d": torch.tensor(0.1 + rank), "g": torch.tensor(float(rank))}, {"d": torch.tensor(0.3)}] for rank in (0, 1)]
    tables = torch.stack([torch.stack([value.double() for row in rows for value in row.values()]) for rows in mine])
    stored = of_all(mine[0], lambda table: tables, processes=2)
    for rank in (0, 1):
        assert of_one(stored, rank, processes=2) == mine[rank]
    assert of_one(stored, 0, processes=1)[0]["d"].item() == pytest.approx(0.6)
    alone = of_all(mine[0], lambda table: table, processes=1)
    assert of_one(alone, 0, processes=1) == of_one(alone, 1, processes=2) == mine[0]
