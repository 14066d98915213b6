"""Measure what docs/scaling.md needs of a recipe and what no GPU is needed for: parameters, arithmetic, bytes to all-reduce.

    uv run python scripts/measure_scaling.py mnist_quick
    uv run python scripts/measure_scaling.py cifar10_biggan data=mnist data.image_size=32 data.channels=3 extractor=none

A cycle is one update of G with the updates of D that belong to it. It is trained once by one process as if it were one of
several; the bytes are those of the messages that it would send, the same for any number of processes.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from condgen.config.folder import conf_dir
from condgen.train import assemble, fit
from condgen.training.parallel import Processes, running_statistics


class Counted(Processes):
    """What ``trainer=ddp_cpu`` trains by, counting instead of sending."""

    def __init__(self, sizes: list[int]):
        super().__init__(process_group_backend="gloo")
        self.sizes = sizes

    def add_up(self, message: torch.Tensor) -> None:
        """Note the bytes of a message."""
        self.sizes.append(message.nbytes)


def measure(recipe: str, overrides: list[str], batch: int) -> dict[str, float]:
    """Train one cycle of a recipe in batches of ``batch`` and return what it takes, by name."""
    short = [
        "callbacks.evaluation=null",
        "callbacks.samples=null",
        "callbacks.checkpoint=null",
        "logger=none",
        "run.files=false",
    ]
    short += [
        "trainer=cpu",
        "trainer.max_epochs=1",
        "trainer.max_steps=1",
        "trainer.limit_val_batches=0",
        f"data.batch_size={batch}",
    ]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = compose("train", [f"experiment={recipe}", *overrides, *short, "paths.output_dir=."], return_hydra_config=False)
    tree.run.name = recipe
    config = OmegaConf.to_container(tree, resolve=True)
    assert isinstance(config, dict)
    sent: list[int] = []
    config["trainer"]["strategy"] = Counted(sent)
    with tempfile.TemporaryDirectory() as folder, FlopCounterMode(display=False) as counter:
        run = assemble(config, Path(folder), 0.0, afresh=True)  # type: ignore[arg-type]
        fit(run, Path(folder), None)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in run.model.named_children()}
    found = {f"parameters of {name}": float(size) for name, size in sizes.items() if size}
    found["batch norm layers"] = sum(isinstance(m, _BatchNorm) for name, m in run.model.named_modules() if "ema" not in name)
    cycle = run.model.batches_per_update
    found["updates of D for one of G"] = cycle
    found["FLOP a sample of the batch, whole cycle"] = counter.get_total_flops() / batch
    found["bytes all-reduced in a cycle"] = sum(sent)
    found["of them running statistics of batch norm"] = sum(b.nbytes for b in running_statistics(run.model.generator))
    found["messages in a cycle"] = len(sent)
    players = {"generator": 1, "discriminator": cycle, "auxiliary": cycle}
    found["bytes if each player sent its own gradients only"] = sum(4 * sizes.get(k, 0) * n for k, n in players.items())
    return found


def main() -> None:
    """Print the figures of the recipe that is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a file of conf/experiment")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE, as for condgen train")
    parser.add_argument("--batch", type=int, default=8, help="samples; the figures do not depend on it")
    arguments = parser.parse_args()
    for name, value in measure(arguments.recipe, arguments.overrides, arguments.batch).items():
        print(f"{name:52} {value:20,.0f}")


if __name__ == "__main__":
    main()
