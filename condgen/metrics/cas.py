"""The classification accuracy score: train on generated images, test on real ones (Ravuri & Vinyals 2019, section 3).

A generator that forgets a class, or blurs what tells two apart, trains a classifier that fails on real images.
"""

import torch
from torch import Tensor

from condgen.data.pixels import statistics
from condgen.metrics.fitting import Recipe, accuracy, fit
from condgen.nets.classifier import Classifier
from condgen.randomness import mix
from condgen.spaces import Images

WIDTHS = (32, 64, 128)
RECIPE = Recipe(epochs=16, batch_size=256, rate=0.5, shift_scale=1.0)


def classification_accuracy_score(images: Tensor, labels: Tensor, real: Tensor, real_labels: Tensor, seed: int = 0) -> float:
    """Train a small classifier on ``images`` and return its accuracy on ``real`` ones, in 0..1.

    Args:
        images: generated, uint8 (N, C, H, W).
        labels: what they were asked for, int64 (N,).
        real: uint8 (M, C, H, W), of the same size.
        real_labels: int64 (M,).
        seed: decides the classifier's weights and the order of the images.
    """
    mean, deviation = statistics(images, torch.arange(len(images)))
    space = Images(images.shape[1:], mean, [max(d, 1e-3) for d in deviation])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, "cas"))
        network = Classifier(space, int(real_labels.max()) + 1, WIDTHS)
    fit(network, images, labels, RECIPE, seed=seed)
    return accuracy(network, real, real_labels)
