"""Training loops written by hand, for comparison: the way tutorials write them, and bare ones over condgen's own parts."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from condgen.run.parts import Parts
from condgen.spaces import to_float
from condgen.training.flow_matching import FlowMatching
from condgen.training.gan import GAN

Contender = Callable[[], float]  # runs its batches, returns the seconds they took


def bare_contender(run: Parts, batches: int) -> Contender:
    """(ii): the step by hand, on condgen's parts."""
    data, size, device = run.data, run.data.batch_size, run.trainer.strategy.root_device
    model = run.model.to(device)
    images, rows, labels = (t.to(device) for t in (data.train.table.images, data.train.rows, data.train.table.labels))
    bare = bare_gan_step if isinstance(model, GAN) else bare_flow_step if isinstance(model, FlowMatching) else bare_vae_step
    step = bare(model)

    def go() -> float:
        start = time.perf_counter()
        order = rows[torch.randperm(len(rows), device=device)]
        for batch in range(batches):
            chosen = order[batch * size : (batch + 1) * size]
            step(to_float(images.index_select(0, chosen)), labels.index_select(0, chosen))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    return go


def bare_gan_step(model: GAN) -> Callable[[Tensor, Tensor], None]:
    """One D step and one G step in the model's own order, as a careful hand would write it."""
    g, d, loss, turns = model.generator, model.discriminator, model.loss, model.alternation
    g_optimizer, d_optimizer = model.generator_optimizer(g.parameters()), model.discriminator_optimizer(d.parameters())
    classes = model.condition.width

    def d_step(x: Tensor, y: Tensor, fake: Tensor, fake_y: Tensor) -> None:
        d_optimizer.zero_grad()
        loss.discriminator_loss(d(x, y), d(fake.detach(), fake_y)).backward()
        d_optimizer.step()

    def g_step(fake: Tensor, fake_y: Tensor) -> None:
        d.requires_grad_(False)
        g_optimizer.zero_grad()
        loss.generator_loss(d(fake, fake_y)).backward()
        g_optimizer.step()
        d.requires_grad_(True)

    def generate(y: Tensor) -> tuple[Tensor, Tensor]:
        fake_y = torch.randint(classes, (len(y),), device=y.device) if turns.fake_condition == "random" else y
        return g(torch.randn(len(y), g.latent, device=y.device), fake_y), fake_y

    count = itertools.count(1)

    def step(x: Tensor, y: Tensor) -> None:
        if next(count) % turns.discriminator_steps:
            with torch.no_grad():
                fake, fake_y = generate(y)
            d_step(x, y, fake, fake_y)
            return
        fake, fake_y = generate(y)
        if turns.order == "generator_first":
            g_step(fake, fake_y)
            d_step(x, y, fake, fake_y)
        else:
            d_step(x, y, fake, fake_y)
            g_step(*((fake, fake_y) if turns.reuse_fake else generate(y)))

    return step


def bare_vae_step(model: Any) -> Callable[[Tensor, Tensor], None]:
    """Forward, backward, update."""
    optimizer = model.configure_optimizers()

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        vae = model.generator
        reconstruction, kl, _ = model.terms(vae, x, y, torch.randn(len(x), vae.latent))
        (reconstruction.mean() + model.beta * kl.mean()).backward()
        optimizer.step()

    return step


def bare_flow_step(model: FlowMatching) -> Callable[[Tensor, Tensor], None]:
    """A time and a place on the path for each sample, then forward, backward, clipping, update."""
    field, optimizer = model.generator, model.configure_optimizers()

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        noise, t = torch.randn_like(x), torch.rand(len(x), device=x.device)
        shaped = t[:, None, None, None]
        dropped = torch.rand(len(x), device=x.device) < field.condition_dropout
        velocity = field.network((1 - shaped) * noise + shaped * x, t, y, dropped)
        (velocity - (x - noise)).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(field.parameters(), model.options.gradient_clip)
        optimizer.step()

    return step


def tutorial_contender(run: Parts, batches: int, root: Path) -> Contender:
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
    squares = model.alternation.order == "generator_first"
    criterion = torch.nn.MSELoss() if squares else torch.nn.BCEWithLogitsLoss()

    def step(x: Tensor, y: Tensor) -> tuple[float, float]:
        valid, invalid = torch.ones(len(x)), torch.zeros(len(x))
        fake_y = torch.randint(0, model.condition.width, (len(x),)) if squares else y
        fake = g(torch.randn(len(x), g.latent), fake_y)

        def train_g() -> Tensor:
            g_optimizer.zero_grad()
            loss: Tensor = criterion(d(fake, fake_y), valid)
            loss.backward()
            g_optimizer.step()
            return loss

        def train_d() -> Tensor:
            d_optimizer.zero_grad()
            loss: Tensor = criterion(d(x, y), valid) + criterion(d(fake.detach(), fake_y), invalid)
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
        mean, log_variance = model.generator.encoder(x, y)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        decoded = torch.sigmoid(model.generator.decoder(z, y))
        target = torch.cat([x.view(len(x), -1), F.one_hot(y, model.condition.width).float()], dim=1)
        loss = F.mse_loss(decoded, target, reduction="sum") - 0.5 * torch.sum(1 + log_variance - mean**2 - log_variance.exp())
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
