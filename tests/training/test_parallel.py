"""What processes send each other, and batch norm over all of them."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from command import TINY, condgen
from torch import Tensor, nn

from condgen.run import processes as launcher
from condgen.training import parallel
from condgen.training.parallel import Processes, SynchronizeBatchNorm

ALONE = (
    "trainer=ddp_cpu",
    "trainer.devices=1",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=4",
    "callbacks.evaluation=null",
)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            ("model=cgan_mlp", "model.alternation.discriminator_steps=2", "model.alternation.micro_batches=2"),
            ["discriminator", "discriminator", "generator"] * 2,
        ),
        (("model=cvae_mlp", "+trainer.accumulate_grad_batches=2"), ["generator"] * 2),
    ],
    ids=["gan", "vae"],
)
def test_an_update_sends_the_gradients_of_its_player_once(
    model: tuple[str, ...], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(Processes, "add_up", lambda self, message: sent.append(message.numel()))
    result = condgen("train", *TINY, *model, *ALONE, "hydra.run.dir=run", cwd=tmp_path)
    assert result.code == 0, result
    state = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    sizes = {name: sum(value.numel() for key, value in state.items() if key.startswith(name)) for name in set(expected)}
    assert sent == [sizes[player] for player in expected]


def test_tensors_of_several_kinds_are_averaged_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(self: Processes, message: Tensor) -> None:
        message.mul_(6)  # as if two other processes had twice and three times as much

    monkeypatch.setattr(Processes, "add_up", twice)
    monkeypatch.setattr(Processes, "world_size", 3)
    tensors = [torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last), torch.arange(4.0), torch.ones(2).bfloat16()]
    before = [tensor.clone() for tensor in tensors]
    Processes().average(tensors)
    assert all(torch.equal(now, 2 * then) for now, then in zip(tensors, before, strict=True))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(36, 5), nn.BatchNorm1d(5))


def penalized(model: nn.Module, x: Tensor) -> Tensor:
    """Return a loss with a gradient penalty in it: its gradient goes through the norms twice."""
    x = x.requires_grad_()
    y = model(x).square().mean()
    (gradient,) = torch.autograd.grad(y * len(x), x, create_graph=True)
    return y + gradient.square().sum((1, 2, 3)).mean()


def share(folder: Path) -> None:
    """Compute the gradients of a share of a batch, as one of two processes."""
    dist.init_process_group("gloo")
    whole = torch.load(folder / "x.pt", weights_only=True)
    model = network()
    held = list(model.buffers())
    synchronized = SynchronizeBatchNorm().apply(model)
    penalized(synchronized, whole.chunk(2)[dist.get_rank()]).backward()
    tensors = [parameter.grad for parameter in model.parameters()]
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors if tensor is not None])
    dist.all_reduce(flat)
    SynchronizeBatchNorm().revert(model)
    assert type(model[1]) is nn.BatchNorm2d and all(a is b for a, b in zip(held, model.buffers(), strict=True))
    found = {"gradient": flat / 2, "state": model.state_dict(), "shown": model.eval()(whole).detach()}
    torch.save(found, folder / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_batch_norm_of_two_processes_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    """Statistics, gradients, and gradients of a gradient penalty, beside torch's batch norm in one process."""
    whole = torch.randn(12, 2, 5, 5, generator=torch.Generator().manual_seed(1)) + 3
    torch.save(whole, tmp_path / "x.pt")
    launcher.launch(2, share, tmp_path)
    model = network()
    penalized(model, whole.clone()).backward()
    expected = torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters() if parameter.grad is not None])
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["gradient"], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found["state"], dict(model.state_dict()))
        torch.testing.assert_close(found["shown"], model.eval()(whole))
        model.train()


def test_other_strategies_of_lightning_are_left_to_it() -> None:
    assert parallel.strategy("ddp_spawn", 2) == "ddp_spawn" and parallel.strategy("auto", 1) == "auto"
    assert isinstance(parallel.strategy("ddp", 1), Processes) and isinstance(parallel.strategy("auto", 2), Processes)
