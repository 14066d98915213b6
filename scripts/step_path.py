"""List the files and functions of condgen that one training step of a recipe runs through.

    uv run python scripts/step_path.py                    # the default recipe
    uv run python scripts/step_path.py mnist_cvae model.options.ema=0.999

Counted are the functions, methods and properties that a profiler sees in one pass of Lightning's loop over a batch, which
only trains: no point of the curves falls due, no checkpoint and no validation. "The step" is the training with its generator,
"chosen" what a configuration puts into them, "around" what feeds the step and watches it.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from hydra import compose, initialize_config_dir
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

import condgen
from condgen.config.build import plain
from condgen.config.folder import conf_dir
from condgen.train import assemble, fit

ROOT = Path(condgen.__file__).parent
CHOSEN = {"augment", "conditions", "losses", "nets", "training/schedules.py"}
AROUND = {"callbacks", "data", "run", "spaces.py", "train.py"}
COMPREHENSIONS = {"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}
STEP = 3
"""Batches before the one that is looked at: layers have started and optimizers have their moments."""


def profiled_step(recipe: str, overrides: list[str]) -> set[CodeType]:
    """Train a few batches of a recipe and return the code of condgen that the last of them ran through."""
    found: set[CodeType] = set()
    advance = _TrainingEpochLoop.advance

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and ROOT in Path(frame.f_code.co_filename).parents:
            found.add(frame.f_code)

    def profiled(loop: _TrainingEpochLoop, *arguments: Any) -> None:
        found.clear()
        sys.setprofile(profile)
        try:
            advance(loop, *arguments)
        finally:
            sys.setprofile(None)

    short = ["trainer=cpu", f"trainer.limit_train_batches={STEP + 1}", "trainer.limit_val_batches=0", "trainer.max_epochs=1"]
    quiet = [f"callbacks.{name}=null" for name in ("evaluation", "samples", "checkpoint.every_minutes")]
    with tempfile.TemporaryDirectory() as folder:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            places = [f"paths.output_dir={folder}", "run.name=step", "data.batch_size=8", "logger=none", "run.files=false"]
            config = plain(compose("train", [f"experiment={recipe}", *short, *quiet, *places, *overrides]))
        _TrainingEpochLoop.advance = profiled  # type: ignore[method-assign]
        try:
            fit(assemble(config, Path(folder), 0.0, afresh=True), Path(folder), None)
        finally:
            _TrainingEpochLoop.advance = advance  # type: ignore[method-assign]
    return found


def by_file(step: set[CodeType]) -> dict[str, list[str]]:
    """Return the functions of each file, in the order in which they stand there; comprehensions are part of theirs."""
    files: dict[str, list[str]] = defaultdict(list)
    for code in sorted(step, key=lambda code: code.co_firstlineno):
        if code.co_name not in COMPREHENSIONS:
            files[str(Path(code.co_filename).relative_to(ROOT))].append(code.co_qualname)
    return dict(sorted(files.items()))


def by_kind(files: dict[str, list[str]]) -> dict[str, dict[str, list[str]]]:
    """Sort files into those of the step, those of what was chosen, and those around it."""
    kinds: dict[str, dict[str, list[str]]] = {"the step": {}, "chosen": {}, "around": {}}
    for file, functions in files.items():
        places = {file, file.split("/")[0]}
        kinds["chosen" if places & CHOSEN else "around" if places & AROUND else "the step"][file] = functions
    return kinds


def main() -> None:
    """Print the path of the recipe that is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="mnist_quick", help="a file of conf/experiment")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE, as for condgen train")
    arguments = parser.parse_args()
    kinds = by_kind(by_file(profiled_step(arguments.recipe, arguments.overrides)))
    for kind, theirs in kinds.items():
        print(f"{kind}: {len(theirs)} files, {sum(map(len, theirs.values()))} functions")
        for file, functions in theirs.items():
            print(f"  {file:28} {', '.join(functions)}")
    own = kinds["the step"] | kinds["chosen"]
    print(f"step and chosen together: {len(own)} files, {sum(map(len, own.values()))} functions")


if __name__ == "__main__":
    main()
