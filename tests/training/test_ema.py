"""The average of the generator's weights."""

import pytest
import torch
from torch import nn

from condgen.training.average import EMA


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_the_average_against_a_plain_loop():
    net, decay = network(), 0.5
    ema, expected = EMA(net, decay), [p.detach().clone() for p in net.parameters()]
    used = []
    for step in range(1, 13):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
        ema.update(step)
        past = min(decay, (1 + step) / (10 + step))
        used.append(past)
        expected = [past * mean + (1 - past) * p.detach() for mean, p in zip(expected, net.parameters(), strict=True)]
        for mine, theirs in zip(ema.average.parameters(), expected, strict=True):
            torch.testing.assert_close(mine, theirs)
    assert used[0] == pytest.approx(2 / 11) and used[-1] == 0.5  # the random start is forgotten, then the decay holds


def test_running_statistics_are_copied():
    net = network()
    ema = EMA(net, 0.999)
    for step in range(1, 4):
        net(torch.randn(8, 3) + 5)
        ema.update(step)
        for mine, theirs in zip(ema.average.buffers(), net.buffers(), strict=True):
            assert torch.equal(mine, theirs) and mine is not theirs
    assert ema.average[1].num_batches_tracked == 3


def test_it_stays_in_eval_mode_and_learns_nothing():
    ema = EMA(network(), 0.9)
    holder = nn.ModuleList([ema]).train()
    assert holder.training and not any(module.training for module in ema.average.modules())
    assert not any(p.requires_grad for p in ema.parameters())
    before = ema.average[1].running_mean.clone()
    ema.average(torch.randn(8, 3) + 5)
    assert torch.equal(ema.average[1].running_mean, before)


def test_the_original_is_untouched():
    net = network()
    before = [p.detach().clone() for p in net.parameters()]
    EMA(net, 0.9).update(1)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert net.training and all(p.requires_grad for p in net.parameters())
