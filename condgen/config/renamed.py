"""Names of condgen 0.1 that are others today: of keys, of groups and of choices. Plain data, and the answer to who uses one."""

from collections.abc import Mapping
from typing import Any

OPTIONS = ("ema", "gradient_clip", "warmup", "decay", "channels_last", "compile", "expects")
"""Keys of ``model`` that lie in ``model.options`` now, the same for every family."""
ALTERNATION = {
    "discriminator_steps": "discriminator_steps",
    "order": "order",
    "reuse_fake": "reuse_fake",
    "fake_condition": "fake_condition",
    "accumulate": "micro_batches",
}
"""Keys of a GAN's ``model`` that lie in ``model.alternation`` now."""
GENERATOR = {
    "latent": "latent",
    "encoder": "encoder",
    "decoder": "decoder",
    "prior": "prior",
    "decode_condition": "decode_condition",
    "temperature": "temperature",
    "network": "network",
    "sampler": "solver",
    "steps": "steps",
    "guidance": "guidance",
    "drop": "condition_dropout",
}
"""Keys of ``model`` that lie in ``model.generator`` now."""
KEYS = (
    ("metrics", "extractor"),
    ("run.dir", "paths.output_dir"),
    ("sampling.sampler", "sampling.solver"),
    *((f"data.{key}", f"data.source.{key}") for key in ("archive", "path", "root", "file", "columns")),
    ("model.generator", "model.generator.network"),
    ("model.terms", "model.regularizers"),
    ("model.warmup", "model.kl_warmup"),  # of a VAE, where it had another meaning than elsewhere
    *((f"model.{old}", f"model.alternation.{new}") for old, new in ALTERNATION.items()),
    *((f"model.{old}", f"model.generator.{new}") for old, new in GENERATOR.items()),
    *((f"model.{key}", f"model.options.{key}") for key in OPTIONS),
)
"""Dotted keys, or the beginnings of such, and what they are today: the first that there is in a configuration."""
CHOICES = {"trainer=debug": "debug=default"}
"""Choices that lie in other groups now."""


def new_name(key: str, config: Mapping[str, Any] | None = None) -> str | None:
    """Return what a key of condgen 0.1 is called today; None where it is no such key.

    Args:
        key: dotted, such as ``model.generator.width``.
        config: the configuration that has to know the new name; None: any name will do.
    """
    for old, new in KEYS:
        found = new + key.removeprefix(old)
        if f"{key}.".startswith(f"{old}.") and (config is None or (has(config, found) and not has(config, key))):
            return found
    return None


def has(config: Any, key: str) -> bool:
    """Whether plain dicts have a dotted key."""
    for name in key.split("."):
        if not isinstance(config, Mapping) or name not in config:
            return False
        config = config[name]
    return True
