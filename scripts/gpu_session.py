"""Everything that one GPU can tell in nine minutes: speeds, where a step's time goes, quality over minutes, evaluation.

    uv run python scripts/gpu_session.py outputs/gpu                                         # again: goes on where it ended
    uv run python scripts/gpu_session.py outputs/gpu data.source.archive=train.zip           # the overrides are CIFAR-10's
    uv run python scripts/gpu_session.py outputs/cpu --device cpu --small --only device speed split

Parts, the most telling first, each in turn by a worker process: a part that crashes or hangs costs itself and no other, and
is not tried a third time. What is found stands in OUT/session.json after each part and in OUT/session.md at the end.

    device           the machine, and its rates of matrix products
    speed/MODEL/HOW  images/s of condgen's whole training, and its share of the rate of matrix products in that precision
    split/MODEL      a step's time by what it is spent on: the GPU is waited for at each border, so the sum is more than a step
    quality/RECIPE   figures of CIFAR-10 over the minutes of a training
    evaluation       10,000 samples measured on test
"""

import argparse
import json
import multiprocessing
import shutil
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from benchmark_training import COLOUR
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from condgen.callbacks.base import Callback
from condgen.config.folder import conf_dir
from condgen.evaluate import evaluate
from condgen.files import write_text
from condgen.run.parts import Parts
from condgen.train import assemble, fit

Found = dict[str, Any]
Part = Callable[["Session"], Found]

MODELS = {
    "cgan_mlp (a)": ("experiment=mnist_cgan",),
    "cgan_embedding (b)": ("experiment=mnist_cgan_embedding",),
    "cvae_mlp (c)": ("experiment=mnist_cvae",),
    "acgan_conv": ("experiment=mnist_quick",),
    "dcgan": ("experiment=cifar10_dcgan", *COLOUR),
    "sngan": ("experiment=cifar10_sngan", *COLOUR),
    "biggan": ("experiment=cifar10_biggan", *COLOUR),
    "r3gan": ("experiment=cifar10_r3gan", *COLOUR, "data.batch_size=64"),
    "unet": ("experiment=mnist_flow_matching",),
}
"""What is timed, on the MNIST that ships: as 3x32x32 images for those that were published for CIFAR-10."""
HOW = {
    "eager": ("trainer.precision=32-true",),
    "bf16": ("trainer.precision=bf16-mixed",),
    "channels_last": ("trainer.precision=bf16-mixed", "model.options.channels_last=true"),
    "compile": ("trainer.precision=bf16-mixed", "model.options.compile=true"),
    "CUDA graphs": ("trainer.precision=bf16-mixed", "model.options.compile=reduce-overhead"),
}
"""In which ways. Those that compile come last, over all models: they take the longest."""
RECIPES = ("cifar10_quick", "cifar10_biggan")
LONGEST = 150.0
"""Seconds after which a part counts as one that hangs."""
TRIES = 2
ALONE = (
    "callbacks.evaluation=null",
    "callbacks.samples=null",
    "trainer.max_epochs=1",
    "trainer.max_steps=-1",
    "trainer.limit_val_batches=0",
)


class Session:
    """What a worker needs: where results lie, which device, how much is done.

    Args:
        out: folder of the results.
        device: "cuda" or "cpu".
        small: a few batches and samples instead of many.
        overrides: of the recipes on CIFAR-10.
    """

    def __init__(self, out: Path, device: str, small: bool, overrides: list[str]):
        self.out, self.device, self.small, self.overrides = out, device, small, overrides
        self.file = out / "session.json"

    def read(self) -> Found:
        """Return what was found so far, by part."""
        found: Found = json.loads(self.file.read_text()) if self.file.exists() else {}
        return found

    def write(self, part: str, result: Found) -> None:
        """Add a part's result."""
        write_text(self.file, json.dumps(self.read() | {part: result}, indent=2) + "\n")

    def configuration(self, *overrides: str) -> Found:
        """Compose what ``condgen train OVERRIDES`` would run on this device, whatever a recipe says of devices."""
        trainer = "trainer=gpu" if self.device == "cuda" else "trainer=cpu"
        folder = self.out / "scratch"
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            tree = compose("train", [*overrides, trainer, f"paths.output_dir={folder}"], return_hydra_config=False)
        tree.run.name = "session"
        config: Any = OmegaConf.to_container(tree, resolve=True)
        return dict(config)

    def parts(self, *overrides: str) -> Parts:
        """Assemble a run in a folder of its own."""
        folder = self.out / "scratch"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return assemble(self.configuration(*overrides), folder, time.monotonic(), afresh=True)

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()


# --- the parts ---


def device(session: Session) -> Found:
    """Name the machine and measure its rates of matrix products in FLOP/s, the best of several."""
    size = 512 if session.small else 4096 if session.device == "cpu" else 8192
    rates = {}
    for name in ("float32", "bfloat16"):
        a = torch.randn(size, size, device=session.device, dtype=getattr(torch, name))
        seconds = []
        for _ in range(5):
            session.wait()
            start = time.perf_counter()
            a @ a
            session.wait()
            seconds.append(time.perf_counter() - start)
        rates[name] = 2 * size**3 / min(seconds)
    name, memory = f"CPU, {torch.get_num_threads()} threads", None
    if session.device == "cuda":
        name, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
    return {"name": name, "memory": memory, "torch": torch.__version__, "rates": rates}


def work(session: Session, model: str) -> float:
    """Count the FLOP of a whole cycle, one update of G with the updates of D that belong to it, for an image of its batches."""
    found = session.read().get(f"FLOP/{model}")
    if found is None:
        run = session.parts(*MODELS[model], *ALONE, "trainer.max_steps=1", "data.batch_size=8")
        with FlopCounterMode(display=False) as counter:
            fit(run, session.out / "scratch", None)
        found = {"FLOP an image": counter.get_total_flops() / 8 / run.model.batches_per_update}
        session.write(f"FLOP/{model}", found)
    return float(found["FLOP an image"])


class Pace(L.Callback):
    """Times batches after the first ones, in which kernels are chosen and networks compiled, and then ends the training."""

    def __init__(self, session: Session):
        self.session = session
        self.skip, self.look, self.least = (4, 2, 0.1) if session.small else (40, 20, 3.0)
        self.batches, self.start, self.seconds = 0, 0.0, 0.0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look at the clock now and then, which waits for the device."""
        self.batches += 1
        if self.batches == self.skip:
            self.session.wait()
            self.start = time.perf_counter()
        elif self.batches > self.skip and self.batches % self.look == 0:
            self.session.wait()
            self.seconds = time.perf_counter() - self.start
            trainer.should_stop = self.seconds > self.least


def speed(session: Session, model: str, how: str) -> Found:
    """Train for seconds and return the images a second."""
    flop = work(session, model)
    run = session.parts(*MODELS[model], *HOW[how], *ALONE, "trainer.max_epochs=100")
    pace = Pace(session)
    run.trainer.callbacks.insert(0, pace)  # type: ignore[attr-defined]
    fit(run, session.out / "scratch", None)
    rate = (pace.batches - pace.skip) * run.data.batch_size / pace.seconds
    rates = session.read().get("device", {}).get("rates", {})
    most = rates.get("float32" if how == "eager" else "bfloat16")
    return {"images/s": rate, "batch": run.data.batch_size, "share": rate * flop / most if most else None}


class Split(L.Callback):
    """Adds up the seconds of a step by what they are spent on."""

    def __init__(self, session: Session, skip: int):
        self.session, self.skip = session, skip
        self.seconds: dict[str, list[float]] = {name: [] for name in ("data", "step", "forward", "backward", "optimizer")}
        self.now: dict[str, float] = {}
        self.ended: float | None = None

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add the seconds inside to those of ``name`` in the present step."""
        self.session.wait()
        start = time.perf_counter()
        yield
        self.session.wait()
        self.now[name] = self.now.get(name, 0.0) + time.perf_counter() - start

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function``, timed."""

        def call(*arguments: Any, **options: Any) -> Any:
            with self.timing(name):
                return function(*arguments, **options)

        return call

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Time the calls of the training step, the backward passes and the optimizers."""
        strategy = trainer.strategy
        strategy.backward = self.timed("backward", strategy.backward)
        for optimizer in strategy.optimizers:
            optimizer.step = self.timed("optimizer", optimizer.step)
        pl_module.training_step = self.timed("training_step", pl_module.training_step)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Waiting for the batch is over."""
        self.session.wait()
        self.begun, self.now = time.perf_counter(), {}
        if self.ended is not None and batch_idx > self.skip:
            self.seconds["data"].append(self.begun - self.ended)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note what the step was made of."""
        self.session.wait()
        self.ended = time.perf_counter()
        if batch_idx <= self.skip:
            return
        manual = not pl_module.automatic_optimization  # then the training step holds the backward passes and the updates
        inside = self.now.get("backward", 0.0) + self.now.get("optimizer", 0.0)
        optimizer = self.now.get("optimizer", 0.0)
        self.seconds["step"].append(self.ended - self.begun)
        self.seconds["forward"].append(self.now.get("training_step", 0.0) - (inside if manual else 0.0))
        self.seconds["backward"].append(self.now.get("backward", 0.0))
        # Lightning's own optimizer step computes loss and gradients in a closure.
        closure = 0.0 if manual else self.now.get("training_step", 0.0) + self.now.get("backward", 0.0)
        self.seconds["optimizer"].append(optimizer - closure)


def split(session: Session, model: str) -> Found:
    """Return the mean milliseconds of the parts of a step; what is none of the others is the framework's."""
    skip = 2 if session.small else 20
    run = session.parts(*MODELS[model], *HOW["bf16"], *ALONE, f"trainer.limit_train_batches={5 * skip}")
    watch = Split(session, skip)
    run.trainer.callbacks.insert(0, watch)  # type: ignore[attr-defined]
    fit(run, session.out / "scratch", None)
    found = {name: 1000 * statistics.mean(values) for name, values in watch.seconds.items() if values}
    found["framework"] = found["step"] - found["forward"] - found["backward"] - found["optimizer"]
    return found


class Curve(Callback):
    """Notes the figures of each evaluation with the minutes that the training has taken."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.points: list[Found] = []

    def on_evaluation(self, trainer: Any, model: Any, record: Any) -> None:
        """Add a point."""
        minutes = (time.monotonic() - self.start) / 60
        self.points.append({"minutes": minutes, "updates": model.counts.updates} | record.named())


def quality(session: Session, recipe: str) -> Found:
    """Train a recipe for two minutes and return its figures on the way."""
    minutes, samples = (0.05, 100) if session.small else (2.0, 2_000)
    often = (f"callbacks.evaluation.samples={samples}", f"callbacks.evaluation.final_samples={samples}")
    often += ("callbacks.evaluation.every_epochs=1", "callbacks.evaluation.final=[fid,intra_fid,label_accuracy]")
    often += ("callbacks.evaluation.metrics=[fid,intra_fid,label_accuracy]",)
    run = session.parts(f"experiment={recipe}", *session.overrides, *often, f"run.budget_minutes={minutes}")
    curve = Curve()
    run.trainer.callbacks.append(curve)  # type: ignore[attr-defined]
    fit(run, session.out / "scratch", None)
    kept = session.out / recipe
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(session.out / "scratch", kept)
    return {"points": curve.points}


def evaluation(session: Session) -> Found:
    """Measure samples of the first recipe's run on test."""
    samples = 100 if session.small else 10_000
    start = time.monotonic()
    record = evaluate(session.out / RECIPES[0], [f"samples={samples}", f"device={session.device}"])[0]
    return {"seconds": time.monotonic() - start, "samples": samples} | record.named()


def listed(models: list[str], ways: list[str]) -> dict[str, Part]:
    """Return the parts by name, the most telling first."""
    found: dict[str, Part] = {"device": device}
    quick = [how for how in ways if how not in ("compile", "CUDA graphs")]
    for some in (quick, [how for how in ways if how not in quick]):
        found |= {f"speed/{model}/{how}": partial(speed, model=model, how=how) for how in some for model in models}
        if some is quick:
            found |= {f"split/{model}": partial(split, model=model) for model in models}
            found |= {f"quality/{recipe}": partial(quality, recipe=recipe) for recipe in RECIPES}
            found["evaluation"] = evaluation
    return found


# --- the session ---


def reached(result: Found | None) -> bool:
    """Whether a part need not be tried any more."""
    return result is not None and ("error" not in result or result["tries"] >= TRIES)


def work_through(session: Session, names: list[str], parts: dict[str, Part]) -> None:
    """Do one part after the other, in a process of their own; one that fails is noted."""
    for name in names:
        before = session.read().get(name, {})
        tries = before.get("tries", 0) + 1
        if reached(before or None):
            continue
        session.write(name, {"error": "It ended the process, or took too long.", "tries": tries})
        start = time.monotonic()
        try:
            result = parts[name](session)
        except Exception as error:
            said = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            session.write(name, {"error": said, "where": traceback.format_exc(), "tries": tries})
            continue
        session.write(name, result | {"took": time.monotonic() - start})
        print(f"{time.monotonic() - start:6.1f} s  {name}", flush=True)


def run(session: Session, parts: dict[str, Part], end: float) -> None:
    """Let workers do the parts until all are reached or the time is over."""
    context = multiprocessing.get_context("spawn")
    while (left := [name for name in parts if not reached(session.read().get(name))]) and time.monotonic() < end:
        worker = context.Process(target=start_worker, args=(session, list(parts), left))
        worker.start()
        seen, since = session.read(), time.monotonic()
        while worker.is_alive() and time.monotonic() < min(end, since + LONGEST):
            worker.join(0.5)
            if (now := session.read()) != seen:
                seen, since = now, time.monotonic()
        worker.kill()
        worker.join()


def start_worker(session: Session, names: list[str], left: list[str]) -> None:
    """Make the parts anew in a worker, since functions with arguments do not travel."""
    models = list(dict.fromkeys(name.split("/")[1] for name in names if name.startswith(("speed/", "split/"))))
    work_through(session, left, listed(models or list(MODELS), list(HOW)))


# --- the tables ---


def markdown(found: Found) -> str:
    """Return what was found as tables."""
    lines = ["# A session on one device", ""]
    if "rates" in (about := found.get("device", {})):
        rates = ", ".join(f"{name} {rate / 1e12:.2f} TFLOP/s" for name, rate in about["rates"].items())
        lines += [f"{about['name']}, torch {about['torch']}; matrix products: {rates}.", ""]
    speeds = {tuple(name.split("/")[1:]): result for name, result in found.items() if name.startswith("speed/")}
    ways = [how for how in HOW if any(key[1] == how for key in speeds)]
    if ways:
        lines += ["Images/s of condgen's whole training (share of the rate of matrix products in that precision):", ""]
        lines += [f"| model | batch | {' | '.join(ways)} |", "| --- " * (len(ways) + 2) + "|"]
    for model in dict.fromkeys(key[0] for key in speeds):
        row = [speeds.get((model, how), {}) for how in ways]
        batch = next((result["batch"] for result in row if "batch" in result), "")
        lines.append(f"| {model} | {batch} | {' | '.join(map(cell, row))} |")
    splits = {name.split("/")[1]: result for name, result in found.items() if name.startswith("split/") and "step" in result}
    names = ["data", "forward", "backward", "optimizer", "framework", "step"]
    if splits:
        lines += ["", "Milliseconds of a step in bf16-mixed, with the device waited for at each border:", ""]
        lines += [f"| model | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
        lines += [f"| {m} | {' | '.join(f'{r.get(n, 0):.2f}' for n in names)} |" for m, r in splits.items()]
    for name, result in found.items():
        for point in result.get("points", []):
            rest = ", ".join(f"{key} {value:.4g}" for key, value in point.items() if "/" in key)
            lines += ["", f"{name}: after {point['minutes']:.2f} min, {point['updates']} updates: {rest}"]
    if "seconds" in (result := found.get("evaluation", {})):
        lines += ["", f"{result['samples']:,} samples measured in {result['seconds']:.1f} s."]
    lines += ["", *(f"Not found: {name}: {result['error']}" for name, result in found.items() if "error" in result)]
    return "\n".join(lines).rstrip() + "\n"


def cell(result: Found) -> str:
    """Return a speed as text."""
    if "images/s" not in result:
        return "-"
    share = f" ({result['share']:.1%})" if result.get("share") else ""
    return f"{result['images/s']:,.0f}{share}"


def main() -> None:
    """Read the arguments, do what was not reached, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE for the recipes on CIFAR-10, such as where its archive lies")
    parser.add_argument("--minutes", type=float, default=9.0, help="after which the session ends, wherever it is")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="+", help="parts whose names begin with one of these")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--how", nargs="+", choices=list(HOW), default=list(HOW))
    parser.add_argument("--small", action="store_true", help="a few batches of each: whether it works, not how fast")
    arguments = parser.parse_intermixed_args()
    end = time.monotonic() + 60 * arguments.minutes
    arguments.out.mkdir(parents=True, exist_ok=True)
    session = Session(arguments.out.resolve(), arguments.device, arguments.small, arguments.overrides)
    parts = listed(arguments.models, arguments.how)
    if arguments.only:
        parts = {name: part for name, part in parts.items() if name.startswith(tuple(arguments.only))}
    run(session, parts, end)
    shutil.rmtree(session.out / "scratch", ignore_errors=True)
    write_text(session.out / "session.md", markdown(session.read()))
    print((session.out / "session.md").read_text(), end="")


if __name__ == "__main__":
    main()
