"""Train the extractor whose features no label has taught, by telling how an image was turned, and write it with its card.

    uv run python scripts/train_selfsupervised.py data.source.archive=PATH/train.zip

S. Gidaris, P. Singh, N. Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations", arXiv:1803.07728:
a classifier learns which of the four right angles an image was turned by, for which it has to know what stands upright. The
features are those of its second of three blocks, which that paper's section 4 finds to be read best; a linear probe on the
training images' labels then says how much of the classes they hold. The labels change no feature. Stopped or killed, the same
command goes on from the last epoch.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from torch import Tensor

from condgen.augment.images import Crop, Flip
from condgen.augment.images import compose as chain
from condgen.config.build import build, plain
from condgen.config.folder import conf_dir
from condgen.metrics.extractors import SHIPPED, digest
from condgen.metrics.fitting import Recipe, accuracy, fit
from condgen.metrics.floors import learned_from
from condgen.nets.classifier import Classifier
from condgen.nets.probed import Probed
from condgen.spaces import to_float

NAME, SEED = "cifar10-rotation", 0
WIDTHS = (32, 128, 128)
"""Of the network that learns; the first two blocks ship."""
RECIPE = Recipe(epochs=2, batch_size=512, rate=1.0, smoothing=0.1)
"""An epoch shows every image in all four positions."""
DRAFT = Path("outputs/extractors") / f"{NAME}.ckpt"
PROBE_STEPS, PROBE_DECAY = 300, 1e-4


def main(overrides: list[str]) -> None:
    """Train, probe and write ``cifar10-rotation.safetensors`` and ``.json`` to where extractors ship from."""
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        data: Any = build("data", plain(compose("train", ["data=cifar10", *overrides]).data))
    torch.manual_seed(SEED)
    start = time.monotonic()
    images, turns = turned(data.train.images)
    teacher = Classifier(data.space, 4, WIDTHS)
    fit(
        teacher,
        images,
        turns,
        RECIPE,
        augment=chain((Flip(), Crop(2, reflect=True))),
        seed=SEED,
        checkpoint=DRAFT,
        report=lambda epoch, loss: print(f"epoch {epoch}  loss {loss:.4f}  {time.monotonic() - start:.0f} s", flush=True),
    )
    network = Probed(data.space, len(data.condition.classes), WIDTHS[:2])
    network.take(teacher)
    fit_probe(network, data.train.images, data.train.labels)
    weights = safetensors.torch.save({key: half(value).contiguous() for key, value in network.state_dict().items()})
    network.load_state_dict(safetensors.torch.load(weights))  # what is measured is what ships
    network.eval()
    parts = {"val": data.val, "test": data.test}
    card = {
        "name": NAME,
        "network": {
            "_target_": "condgen.nets.probed.Probed",
            "space": {"_target_": "condgen.spaces.Images", "shape": list(data.space.shape)},
            "classes": len(data.condition.classes),
            "widths": list(WIDTHS[:2]),
        },
        "shape": list(data.space.shape),
        "classes": data.condition.classes,
        "data": f"cifar10: {len(data.train):,} training images (split_seed {data.split_seed}) without their labels, "
        f"{len(data.test):,} of test",
        "learned": learned_from(data),
        "task": "which of four right angles an image was turned by (arXiv:1803.07728)",
        "task_accuracy": {"val": accuracy(teacher, *turned(data.val.images))},
        "probe": "linear, on features of the training images and their labels; no label has changed a feature",
        "accuracy": {name: accuracy(network, part.images, part.labels) for name, part in parts.items()},
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "recipe": asdict(RECIPE) | {"augment": ["Flip", "Crop"], "seed": SEED, "widths": list(WIDTHS)},
        "command": "python scripts/train_selfsupervised.py data.source.archive=train.zip",
        "sha256": digest(weights),
    }
    (SHIPPED / f"{NAME}.safetensors").write_bytes(weights)
    (SHIPPED / f"{NAME}.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: card[key] for key in ("task_accuracy", "accuracy")}), f"{len(weights) / 1e6:.2f} MB in {SHIPPED}")


def turned(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return uint8 ``images`` (N, C, H, H) turned by 0, 90, 180 and 270 degrees, (4N, C, H, H), and by how many, (4N,)."""
    positions = torch.cat([images.rot90(turn, (2, 3)) for turn in range(4)])
    return positions, torch.arange(4).repeat_interleave(len(images))


@torch.no_grad()
def features_of(network: Probed, images: Tensor) -> Tensor:
    """Return features (N, D), not yet scaled, of uint8 ``images`` (N, C, H, W)."""
    blocks = torch.split(images, 500)
    return torch.cat([network.features(to_float(some).contiguous(memory_format=torch.channels_last)) for some in blocks])


def fit_probe(network: Probed, images: Tensor, labels: Tensor) -> None:
    """Scale the features of uint8 ``images`` to deviation 1, and fit the probe to ``labels`` by logistic regression."""
    network.eval()
    features = features_of(network, images)
    network.scale.running_mean, network.scale.running_var = features.mean(0), features.var(0)
    x = network.scale(features)
    optimizer = torch.optim.LBFGS(network.probe.parameters(), max_iter=PROBE_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(network.probe(x), labels) + PROBE_DECAY * network.probe.weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)


def half(value: Tensor) -> Tensor:
    """Return numbers in half precision, and counters as they are."""
    return value.half() if value.is_floating_point() else value


if __name__ == "__main__":
    main(sys.argv[1:])
