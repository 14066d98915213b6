"""The default recipe, trained to its end, draws digits of the class that was asked for."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from command import condgen
from torch import Tensor, nn

from condgen import load
from condgen.data.sources import MNIST
from condgen.spaces import to_float


def classifier(images: Tensor, labels: Tensor) -> nn.Module:
    """Train a small network to read digits, for two epochs."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    for rows in [rows for _ in range(2) for rows in torch.randperm(len(images)).split(256)]:
        optimizer.zero_grad()
        F.cross_entropy(net(to_float(images[rows])), labels[rows]).backward()
        optimizer.step()
    return net.eval()


@pytest.mark.slow
def test_the_default_recipe_learns_its_condition(tmp_path: Path) -> None:
    """At least 95 % of the samples are read as what they were asked for, by a classifier that is right on 98 % of test."""
    torch.set_num_threads(2)
    result = condgen("train", f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert result.code == 0, result
    mnist = MNIST().load()
    assert mnist.test is not None
    net = classifier(mnist.train.images, mnist.train.labels)
    samples, asked = load(tmp_path / "run").sample(count=200, seed=1), torch.arange(10).repeat_interleave(200)
    with torch.inference_mode():
        assert (net(to_float(mnist.test.images)).argmax(1) == mnist.test.labels).float().mean() > 0.98
        read = net(samples).argmax(1)
    assert (read == asked).float().mean() > 0.95
    # Every class is drawn in more than one way.
    spread = samples.view(10, 200, -1).std(1).mean(1)
    assert (spread > 0.05).all()
