"""The bound of epsilon from guessed canaries, against the authors' own formula and mechanisms whose epsilon is known."""

import math

import pytest
import torch
from scipy.stats import binom

from condgen.metrics.canaries import chance, guessed


def by_appendix_d(m: int, r: int, v: int, epsilon: float, delta: float) -> float:
    """Return the p-value as Steinke et al. 2023 compute it, appendix D."""
    q = 1 / (1 + math.exp(-epsilon))
    alpha = total = 0.0
    for i in range(1, v + 1):
        total += binom.pmf(v - i, r, q)
        alpha = max(alpha, total / i)
    return min(1.0, float(binom.sf(v - 1, r, q)) + alpha * delta * 2 * m)


@pytest.mark.parametrize(
    "case", [(1000, 100, 90, 1.0, 1e-5), (1000, 1000, 600, 0.3, 1e-3), (50, 10, 10, 3.0, 0.0), (100, 30, 0, 1.0, 1e-3)]
)
def test_the_chance_of_so_many_right_guesses_is_the_authors(case: tuple[int, int, int, float, float]) -> None:
    assert chance(*case) == pytest.approx(by_appendix_d(*case), abs=1e-9)


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 4.0])
def test_the_bound_lies_under_the_epsilon_of_randomized_response_and_near_it(epsilon: float) -> None:
    stream = torch.Generator().manual_seed(0)
    truth = math.exp(epsilon) / (1 + math.exp(epsilon))
    inside = (torch.rand(10_000, generator=stream) < truth).float()
    outside = (torch.rand(10_000, generator=stream) > truth).float()
    assert 0.8 * epsilon < guessed("told", inside, outside, 0.0).epsilon <= epsilon


def test_guesses_without_knowledge_bound_nothing() -> None:
    found = [guessed("chance", *torch.randn(2, 500, generator=torch.Generator().manual_seed(seed)), 1e-5) for seed in range(20)]
    assert sum(one.epsilon > 0 for one in found) <= 2
    assert guessed("constant", torch.zeros(500), torch.zeros(500), 1e-5).epsilon == 0
