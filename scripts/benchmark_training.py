"""Time condgen's training against loops written by hand, alternating, since machines are noisy.

    uv run python scripts/benchmark_training.py                       # the published models (a), (b), (c)
    uv run python scripts/benchmark_training.py --models cgan_mlp --rounds 7 --compiled

In each round every contender trains the same number of images, in a process of its own, after a warm-up:
  condgen    `condgen.train` with what a default run has switched on: logging, EMA (for GANs), progress bar, checkpoints, grid;
  tutorial   (i) torchvision's data set with per-image transforms in a DataLoader, default Adam, `.item()` at each step;
  bare       (ii) condgen's own networks, losses, batch gather and optimizer flags in a plain loop, nothing else;
  allocator  the bare loop with condgen's setting of the C library's allocator;
  compiled   (with --compiled) condgen with model.compile=true, without the compilation itself.
Printed are images/s (median over rounds), the ratio of condgen to each (median, min and max over rounds), and the share of
the machine's matrix-product rate (2048 x 2048, float32) that the bare loop's arithmetic amounts to.
"""

import argparse
import gzip
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision import datasets, transforms

import condgen.train
from condgen.config import conf_dir
from condgen.models.gan import GAN
from condgen.spaces import to_float
from condgen.train import Run, assemble, fit

MNIST_FILES = Path(condgen.__file__).parent / "data" / "files" / "mnist"
RECIPES = {"cgan_mlp": "mnist_cgan", "cgan_embedding": "mnist_cgan_embedding", "cvae_mlp": "mnist_cvae"}
BATCH = {"cgan_mlp": 64, "cgan_embedding": 64, "cvae_mlp": 512}
Contender = Callable[[], float]  # runs its batches, returns the seconds they took


def configuration(model: str, batches: int, directory: Path, *extra: str) -> dict[str, Any]:
    """Compose what ``condgen train`` would run for ``batches`` batches."""
    overrides = [
        f"experiment={RECIPES[model]}",
        "trainer=cpu",
        "trainer.max_epochs=1",
        f"trainer.limit_train_batches={batches}",
    ]
    overrides += [f"run.name={model}", f"run.dir={directory}", *extra]
    overrides[2:2] = [] if model.startswith("cvae") else ["model.ema=0.999"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = compose("train", overrides)
    config: Any = OmegaConf.to_container(tree, resolve=True)
    return dict(config)


def condgen_contender(config: dict[str, Any], directory: Path, skip: int = 0) -> Contender:
    """A whole run, timed from after its first ``skip`` batches to its last file, so that start-up is left out."""

    def run() -> float:
        parts = assemble(config, directory)
        watch = Stopwatch(skip)
        parts.trainer.callbacks.insert(0, watch)
        fit(parts, directory, None)
        return (time.perf_counter() - watch.start) * watch.batches / (watch.batches - skip)

    return run


class Stopwatch(L.Callback):
    """Notes when the batch ``skip`` starts."""

    def __init__(self, skip: int):
        self.skip = skip
        self.start = 0.0
        self.batches = 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Look at the clock once."""
        self.batches = batch_idx + 1
        if batch_idx == self.skip:
            self.start = time.perf_counter()


def bare_contender(run: Run, batches: int) -> Contender:
    """(ii): the step by hand, on condgen's parts."""
    data, model, size = run.data, run.model, run.data.batch_size
    images, rows = data.train.table.images, data.train.rows
    labels = data.train.table.labels
    step = bare_gan_step(model) if isinstance(model, GAN) else bare_vae_step(model)

    def go() -> float:
        start = time.perf_counter()
        order = rows[torch.randperm(len(rows))]
        for batch in range(batches):
            chosen = order[batch * size : (batch + 1) * size]
            step(to_float(images.index_select(0, chosen)), labels.index_select(0, chosen))
        return time.perf_counter() - start

    return go


def bare_gan_step(model: GAN) -> Callable[[Tensor, Tensor], None]:
    """One D step and one G step in the model's own order, as a careful hand would write it."""
    g, d, loss = model.generator, model.discriminator, model.loss
    g_optimizer, d_optimizer = model.generator_optimizer(g.parameters()), model.discriminator_optimizer(d.parameters())
    classes = model.condition.width

    def d_step(x: Tensor, y: Tensor, fake: Tensor, asked: Tensor) -> None:
        d_optimizer.zero_grad()
        loss.discriminator_loss(d(x, y), d(fake.detach(), asked)).backward()
        d_optimizer.step()

    def g_step(fake: Tensor, asked: Tensor) -> None:
        d.requires_grad_(False)
        g_optimizer.zero_grad()
        loss.generator_loss(d(fake, asked)).backward()
        g_optimizer.step()
        d.requires_grad_(True)

    def step(x: Tensor, y: Tensor) -> None:
        asked = torch.randint(classes, (len(x),)) if model.fake_condition == "random" else y
        fake = g(torch.randn(len(x), model.latent), asked)
        if model.generator_first:
            g_step(fake, asked)
            d_step(x, y, fake, asked)
        else:
            d_step(x, y, fake, asked)
            g_step(fake, asked)

    return step


def bare_vae_step(model: Any) -> Callable[[Tensor, Tensor], None]:
    """Forward, backward, update."""
    optimizer = model.configure_optimizers()

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        reconstruction, kl = model.terms(x, y, torch.randn(len(x), model.latent))
        (reconstruction.mean() + model.beta * kl.mean()).backward()
        optimizer.step()

    return step


def tutorial_contender(run: Run, batches: int, root: Path) -> Contender:
    """(i): the way tutorials write it. The networks are the same; everything around them is as in a notebook."""
    model = run.model
    size = [transforms.Resize(model.space.shape[-1])] if model.space.shape[-1] != 28 else []
    scale = [transforms.Normalize((0.5,), (0.5,))] if isinstance(model, GAN) else []
    mnist = datasets.MNIST(root, train=True, transform=transforms.Compose([*size, transforms.ToTensor(), *scale]))
    loader = DataLoader(mnist, batch_size=run.data.batch_size, shuffle=True)
    step = tutorial_gan_step(model) if isinstance(model, GAN) else tutorial_vae_step(model)

    def go() -> float:
        start = time.perf_counter()
        for batch, (x, y) in enumerate(endless(loader)):
            if batch == batches:
                break
            step(x, y)
        return time.perf_counter() - start

    return go


def endless(loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """Begin again after each epoch."""
    while True:
        yield from loader


def tutorial_gan_step(model: GAN) -> Callable[[Tensor, Tensor], tuple[float, float]]:
    """Alternate with target tensors and a criterion."""
    g, d = model.generator, model.discriminator
    g_optimizer = torch.optim.Adam(g.parameters(), lr=2e-4)
    d_optimizer = torch.optim.Adam(d.parameters(), lr=2e-4)
    squares = model.generator_first
    criterion = torch.nn.MSELoss() if squares else torch.nn.BCEWithLogitsLoss()

    def step(x: Tensor, y: Tensor) -> tuple[float, float]:
        valid, invalid = torch.ones(len(x)), torch.zeros(len(x))
        asked = torch.randint(0, model.condition.width, (len(x),)) if squares else y
        fake = g(torch.randn(len(x), model.latent), asked)

        def train_g() -> Tensor:
            g_optimizer.zero_grad()
            loss: Tensor = criterion(d(fake, asked), valid)
            loss.backward()
            g_optimizer.step()
            return loss

        def train_d() -> Tensor:
            d_optimizer.zero_grad()
            loss: Tensor = criterion(d(x, y), valid) + criterion(d(fake.detach(), asked), invalid)
            loss.backward()
            d_optimizer.step()
            return loss

        losses = (train_g(), train_d()) if squares else (train_d(), train_g())
        return losses[0].item(), losses[1].item()

    return step


def tutorial_vae_step(model: Any) -> Callable[[Tensor, Tensor], float]:
    """Concatenate one-hot labels, decode, sum squares and KL."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step(x: Tensor, y: Tensor) -> float:
        optimizer.zero_grad()
        mean, log_variance = model.encoder(x, y)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        decoded = torch.sigmoid(model.decoder(z, y))
        target = torch.cat([x.view(len(x), -1), F.one_hot(y, model.condition.width).float()], dim=1)
        loss = F.mse_loss(decoded, target, reduction="sum") - 0.5 * torch.sum(1 + log_variance - mean**2 - log_variance.exp())
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torchvision_mnist(root: Path) -> None:
    """Unpack the MNIST that condgen ships to where torchvision looks."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in MNIST_FILES.glob("*-ubyte.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))


def product_rate(size: int = 2048, repeats: int = 8) -> float:
    """Measure the machine's float32 matrix products in FLOP/s, the best of several."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def flops_per_image(run: Run) -> float:
    """Count the arithmetic of one bare step."""
    with FlopCounterMode(display=False) as counter:
        bare_contender(run, 1)()
    return counter.get_total_flops() / run.data.batch_size


def contender(name: str, model: str, batches: int, root: Path) -> Contender:
    """Make one contender."""
    directory = root / f"run-{batches}"
    directory.mkdir()
    config = configuration(model, batches, directory, *(["model.compile=true"] if name == "compiled" else []))
    if name in ("condgen", "compiled"):
        return condgen_contender(config, directory, skip=5 if name == "compiled" else 0)
    if name != "allocator":
        condgen.train.keep_memory = lambda: None
    run = assemble(config, directory)
    return tutorial_contender(run, batches, root) if name == "tutorial" else bare_contender(run, batches)


def measure(name: str, model: str, batches: int) -> None:
    """In a process of its own: warm up, run, print the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        torchvision_mnist(Path(folder))
        contender(name, model, max(10, batches // 10), Path(folder))()
        print(contender(name, model, batches, Path(folder))())


def benchmark(model: str, images: int, rounds: int, compiled: bool) -> None:
    """Print one model's table."""
    with tempfile.TemporaryDirectory() as folder:
        run = assemble(configuration(model, 1, Path(folder)), Path(folder))
        batches, rate, work = images // run.data.batch_size, product_rate(), flops_per_image(run)
    size = batches * run.data.batch_size
    names = ["condgen", "tutorial", "bare", "allocator", *(["compiled"] if compiled else [])]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, __file__, "--measure", name, "--models", model, "--images", str(images)]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
            seconds[name].append(float(done.stdout))
    print(f"\n{model}: {size:,} images a round, {rounds} rounds, {torch.get_num_threads()} threads")
    for name, times in seconds.items():
        speed = statistics.median(size / t for t in times)
        ratios = [other / t for other, t in zip(times, seconds["condgen"], strict=True)]
        spread = f"condgen / {name}: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        print(f"  {name:9} {speed:9,.0f} images/s   {spread if name != 'condgen' else ''}")
    bare = statistics.median(size / t for t in seconds["bare"])
    print(f"  bare loop: {work / 1e6:.2f} MFLOP an image, {bare * work / rate:.0%} of {rate / 1e9:.0f} GFLOP/s", flush=True)


def main() -> None:
    """Read the arguments and benchmark each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=38_400, help="images a round")
    parser.add_argument("--compiled", action="store_true", help="also time model.compile=true")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    for model in arguments.models:
        if arguments.measure:
            measure(arguments.measure, model, arguments.images // BATCH[model])
        else:
            benchmark(model, arguments.images, arguments.rounds, arguments.compiled)


if __name__ == "__main__":
    main()
