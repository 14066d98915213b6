"""Losses and conditionings learn the ring of 8 Gaussians; shuffled labels do not pass the same check.

The settings are those of scripts/ring_matrix.py, whose table of all combinations is docs/ring.md; the check, with what it asks
for and what a perfect generator would reach, is condgen/metrics/ring.py.
"""

import pytest
from ring_matrix import LONGER, UPDATES, learn


@pytest.mark.parametrize(
    "loss", ["hinge", *(pytest.param(loss, marks=pytest.mark.slow) for loss in ("wasserstein", "relativistic"))]
)
def test_each_loss_learns_with_projection(loss):
    verdict, run = learn(loss, "projection")
    assert run.trainer.global_step == UPDATES and type(run.model.loss).__name__.lower().startswith(loss[:4])
    assert verdict.passed and verdict.within >= 0.97, verdict
    assert verdict.spread > 0.2, verdict  # the width of the modes is learned too, not their centres alone


@pytest.mark.slow
@pytest.mark.parametrize("conditioning", ["acgan", "embedding"])
def test_each_conditioning_learns_with_hinge(conditioning):
    verdict, run = learn("hinge", conditioning)
    assert run.model.discriminator.head.project is None
    assert verdict.passed and verdict.within >= 0.97, verdict


@pytest.mark.slow
def test_infogan_recovers_its_codes():
    verdict, _ = learn("hinge", "infogan")
    assert verdict.passed, verdict


@pytest.mark.slow
def test_the_unconditional_gan_covers_the_modes():
    verdict, _ = learn("hinge", "none")
    assert verdict.covered == 8 and verdict.within >= 0.8, verdict


@pytest.mark.slow
def test_two_modes_a_class_are_both_covered():
    verdict, run = learn("hinge", "projection", "data.source.per_class=2", f"trainer.max_steps={LONGER}")
    assert run.model.condition.classes == ["0", "1", "2", "3"]
    assert verdict.passed, verdict


@pytest.mark.slow
def test_shuffled_labels_fail_the_same_check():
    verdict, _ = learn("hinge", "projection", shuffled=True)
    assert not verdict.passed and verdict.within < 0.3, verdict  # one in eight by chance
