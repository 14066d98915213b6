"""Runs of condgen 0.1, in the words of today: their configurations and checkpoints.

Weights, optimizer states and random streams are the same; names of classes, keys and tensors are not.
"""

import re
from typing import Any

from condgen.config.renamed import ALTERNATION, GENERATOR, OPTIONS

Config = dict[str, Any]

MODULES = {
    "condgen.models.": "condgen.training.",
    "condgen.losses.diffaugment.": "condgen.augment.diffaugment.",
    "condgen.data.augment.": "condgen.augment.images.",
    "condgen.models.priors.": "condgen.generators.priors.",
    "condgen.loggers.": "condgen.run.loggers.",
}
"""Where classes have moved, the longest prefix first to match."""
GENERATORS = {
    "GAN": "condgen.generators.gan.GANGenerator",
    "VAE": "condgen.generators.vae.VAEGenerator",
    "FlowMatching": "condgen.generators.flow_matching.FlowMatchingGenerator",
    "Glow": "condgen.generators.glow.GlowGenerator",
    "Stylization": "condgen.generators.stylization.StylizationGenerator",
}
"""The generator of each training."""


def is_old_model(model: Config) -> bool:
    """Whether a model's node has the keys of condgen 0.1."""
    return str(model.get("_target_", "")).startswith("condgen.models.")


def moved(value: Any) -> Any:
    """Return a configuration with the classes where they are now."""
    if isinstance(value, dict):
        return {key: moved(item) for key, item in value.items()}
    if isinstance(value, list):
        return [moved(item) for item in value]
    if isinstance(value, str):
        for old in sorted(MODULES, key=len, reverse=True):
            if value.startswith(old):
                return MODULES[old] + value.removeprefix(old)
    return value


def converted_model(model: Config) -> Config:
    """Return a model's node under today's keys."""
    family = str(model["_target_"]).rpartition(".")[2]
    old = moved(model)
    generator: Config = {"_target_": GENERATORS[family], "_partial_": True}
    options: Config = {"_target_": "condgen.training.options.Options"}
    alternation: Config = {"_target_": "condgen.training.alternation.Alternation"}
    new: Config = {"_target_": old["_target_"], "generator": generator}
    for key, value in old.items():
        if key == "_target_":
            continue
        if key == "generator":
            generator["network"] = value
        elif key in GENERATOR:
            generator[GENERATOR[key]] = value
        elif key in ALTERNATION:
            alternation[ALTERNATION[key]] = value
        elif key == "warmup" and family == "VAE":
            new["kl_warmup"] = value
        elif key in OPTIONS:
            options[key] = value
        elif key in ("terms", "regularizers"):
            new["regularizers"] = new.get("regularizers", {}) | (value or {})
        else:
            new[key] = value
    if family == "GAN":
        new["alternation"] = alternation
    return new | {"options": options}


def converted_config(config: Config) -> Config:
    """Return the configuration of a run under today's keys; one that has them already comes back as it is."""
    if not is_old_model(config.get("model", {})):
        return config
    model = converted_model(config["model"])
    source = {key: value for key, value in config["data"].items() if key not in ("archive", "path", "root", "file", "columns")}
    new = moved({("extractor" if key == "metrics" else key): value for key, value in config.items()})
    run = {key: value for key, value in new["run"].items() if key != "dir"}
    paths = {"data_dir": None, "log_dir": "outputs", "output_dir": new["run"].get("dir")}
    return {**new, "model": model, "data": moved(source), "run": run, "paths": paths}


def converted_checkpoint(checkpoint: Config) -> Config:
    """Return a checkpoint under today's names; one that has them already comes back as it is."""
    recipe = checkpoint.get("condgen")
    if not isinstance(recipe, dict) or not is_old_model(recipe.get("model", {})):
        return checkpoint
    family = str(recipe["model"]["_target_"]).rpartition(".")[2]
    state = {renamed_tensor(name, family): tensor for name, tensor in checkpoint["state_dict"].items()}
    new = checkpoint | {"condgen": moved(recipe) | {"model": converted_model(recipe["model"])}, "state_dict": state}
    new["losses"] = new.pop("window", [])
    if "loops" in checkpoint:
        new["counts"] = counts_of(checkpoint)
    return new


def renamed_tensor(name: str, family: str) -> str:
    """Return today's name of a weight."""
    name = re.sub(r"(^|\.)asked\.", r"\1from_condition.", name)
    if family == "VAE":
        name = re.sub(r"^code_prior\.", "prior.", name)
        return f"generator.{name}"
    name = re.sub(r"^ema\.network\.", "ema.average.network.", name)
    if family == "GAN":
        name = re.sub(r"^terms\.", "regularizers.", name)
        name = re.sub(r"^(regularizers\.\w+)\.turns$", r"\1.updates", name)
        return re.sub(r"^generator\.", "generator.network.", name)
    return re.sub(r"^network\.", "generator.network.", name)


def counts_of(checkpoint: Config) -> dict[str, int]:
    """Read from Lightning's counters where a run stands."""
    loops = checkpoint["loops"]["fit_loop"]
    batches = loops["epoch_loop.batch_progress"]
    ended = batches["is_last_batch"]
    return {
        "updates": checkpoint["global_step"],
        "batches": batches["total"]["ready"],
        "epochs": loops["epoch_progress"]["current"]["processed"],
        "batch": 0 if ended else batches["current"]["ready"],
    }
