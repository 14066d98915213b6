"""Membership inference: its figures against independent references, and against attacks whose truth is known."""

import math

import pytest
import torch
from scipy.stats import binomtest, mannwhitneyu
from torchmetrics.functional.classification import binary_auroc

from condgen.metrics.intervals import clopper_pearson
from condgen.metrics.membership import attack, auc, epsilon_bound


@pytest.mark.parametrize(("k", "n"), [(0, 50), (1, 1000), (37, 100), (999, 1000), (50, 50)])
def test_the_exact_interval_is_scipys(k: int, n: int) -> None:
    theirs = binomtest(k, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson((k, n)) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_the_area_is_torchmetrics_and_the_rank_sums_with_ties() -> None:
    stream = torch.Generator().manual_seed(0)
    members, others = torch.randint(8, (300,), generator=stream).float() + 1, torch.randint(8, (200,), generator=stream).float()
    labels = torch.cat([torch.ones(300), torch.zeros(200)]).long()
    theirs = binary_auroc(torch.cat([members, others]) / 10, labels).item()
    ranks = mannwhitneyu(members.numpy(), others.numpy()).statistic / (300 * 200)
    assert auc(members, others) == pytest.approx(theirs, abs=1e-6)
    assert auc(members, others) == pytest.approx(ranks, abs=1e-9)


def test_an_attack_without_knowledge_finds_nothing() -> None:
    found = [attack("chance", *torch.randn(2, 2000, generator=torch.Generator().manual_seed(seed)), 1e-5) for seed in range(20)]
    assert sum(one.auc_interval[0] <= 0.5 <= one.auc_interval[1] for one in found) >= 17
    assert sum(one.epsilon > 0 for one in found) <= 3


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 4.0])
def test_the_bound_lies_under_the_epsilon_of_randomized_response_and_near_it(epsilon: float) -> None:
    stream = torch.Generator().manual_seed(1)
    truth = math.exp(epsilon) / (1 + math.exp(epsilon))  # told with this probability, else a lie
    members = (torch.rand(20_000, generator=stream) < truth).float()
    others = (torch.rand(20_000, generator=stream) > truth).float()
    bound = epsilon_bound(members, others, 0.0)
    assert 0.75 * epsilon < bound <= epsilon


def test_rates_are_those_of_a_known_shift() -> None:
    stream = torch.Generator().manual_seed(2)
    members, others = torch.randn(20_000, generator=stream) + 1, torch.randn(20_000, generator=stream)
    found = attack("shift", members, others, 1e-5)
    assert found.auc == pytest.approx(0.760, abs=0.01)  # Phi(1 / sqrt 2)
    rate, tpr, (low, high) = found.rates[0]
    assert rate == 0.01 and low < tpr < high and tpr == pytest.approx(0.0924, abs=0.01)  # 1 - Phi(2.326 - 1)
