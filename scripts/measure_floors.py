"""Measure what perfect looks like under the shipped extractors, and bring the floors on the cards of the zoo up to date.

    uv run python scripts/measure_floors.py table mnist-cnn fashion-cnn
    uv run python scripts/measure_floors.py table cifar10-resnet data.source.archive=PATH/train.zip
    uv run python scripts/measure_floors.py cards                              # all of condgen/zoo
    uv run python scripts/measure_floors.py cards cifar10 data.source.archive=PATH/train.zip

``table`` compares 10,000 images that the extractor has not seen, and as many that it was trained on, with the test images.
``cards`` measures the floors of the figures on a card anew and leaves the figures as they are: no sample is drawn.
"""

import sys
from typing import Any

from condgen.config.build import build
from condgen.dataset import composed_data
from condgen.errors import CondgenError
from condgen.evaluate import settings
from condgen.exporting.card import rounded
from condgen.exporting.readme import model_card
from condgen.files import write_json, write_text
from condgen.metrics.catalogue import METRICS
from condgen.metrics.evaluator import Evaluator
from condgen.metrics.floors import floors
from condgen.run.exported import CONFIG, README, ZOO, read_config, shipped

SETS = {"mnist-cnn": "mnist", "fashion-cnn": "fashion_mnist", "cifar10-resnet": "cifar10"}
SHOWN = ["fid", "intra_fid", "intra_fid_worst", "is", "kid", "precision", "recall", "density", "coverage", "label_accuracy"]
SHOWN += ["diversity", "diversity_worst", "authenticity"]
COUNT = 10_000


def main(arguments: list[str]) -> None:
    """Do what is asked for."""
    if not arguments or arguments[0] not in ("table", "cards"):
        sys.exit("Say table or cards, then names.")
    overrides = [argument for argument in arguments[1:] if "=" in argument]
    names = [argument for argument in arguments[1:] if "=" not in argument]
    for name in names or (list(SETS) if arguments[0] == "table" else shipped()):
        (table if arguments[0] == "table" else refresh)(name, overrides)


def table(name: str, overrides: list[str]) -> None:
    """Print the floors of one extractor on the test images of its data, and what training images get in their place."""
    config: Any = composed_data("evaluate", SETS[name], overrides)
    evaluator = Evaluator(build("extractor", config["extractor"]), build("data", config["data"]), "test")
    new = evaluator.floors(COUNT, SHOWN)
    old = floors(evaluator.train, evaluator.reference, COUNT, metrics=SHOWN) | {"authenticity": 0.0}  # copies of themselves
    print(f"{name}, {COUNT:,} images against {len(evaluator.reference):,} of test")
    print(f"  {'':24} {'seen':>10} {'unseen':>10}   ({evaluator.floors_of})")
    for metric in SHOWN:
        print(
            f"  {METRICS[metric].title:24} {old[metric]:>10{METRICS[metric].format}} {new[metric]:>10{METRICS[metric].format}}"
        )
    sys.stdout.flush()


def refresh(name: str, overrides: list[str]) -> None:
    """Measure the floors on one card anew, and write them."""
    folder = ZOO / name
    config = read_config(folder)
    known, rows = config["evaluation"], [row for row in config["card"]["figures"] if "floor" in row]
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        own = [row for row in rows if row["protocol"] == protocol]
        split = protocol.rpartition("/")[2].partition("-")[0]
        chosen = settings(folder, known, [*overrides, f"split={split}"])
        evaluator = Evaluator(build("extractor", chosen["extractor"]), build("data", chosen["data"]), split)
        wanted = [row["metric"] for row in own if not row["metric"].startswith("attribute")]  # these were honest before
        found = evaluator.floors(own[0]["samples"], wanted)
        for row in own:
            if row["metric"] in found:
                print(f"{name} {protocol} {row['metric']}: {row['floor']:g} is now {found[row['metric']]:g}", flush=True)
                row |= {"floor": rounded(found[row["metric"]])}
            row["floor_of"] = evaluator.floors_of
    write_json(folder / CONFIG, config)
    write_text(folder / README, model_card(config))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except CondgenError as error:
        sys.exit(str(error))
