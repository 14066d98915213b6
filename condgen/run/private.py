"""Making a run private: what would break the proof is refused in a sentence, and its secret is kept.

What the proof covers is the trained weights, and so whatever is drawn from them. The run's own folder is not covered: its
curves, its figures and its secret stay with whoever may see the images.
"""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condgen.config.build import build
from condgen.errors import CondgenError
from condgen.files import write_text

if TYPE_CHECKING:
    from condgen.training.privacy import Privacy

KEY = "privacy.key"
"""The file in a run's directory that holds its secret."""


def build_privacy(config: dict[str, Any], directory: Path) -> "Privacy | None":
    """Return the budget that a run asks for, with its secret; None: it asks for none.

    Raises:
        CondgenError: Opacus is not installed, or the run is told something that breaks the proof.
    """
    if not config.get("privacy"):
        return None
    privacy: Privacy = build("privacy", config["privacy"])
    require_provable(config)
    if privacy.secret is None:
        privacy.secret = read_secret(directory / KEY) if (directory / KEY).is_file() else secrets.randbits(63)
    return privacy


def require_provable(config: dict[str, Any]) -> None:
    """Refuse settings under which the proof would not hold; raises CondgenError."""
    trainer, run = config["trainer"], config["run"]
    devices = trainer.get("devices", 1)
    several = (devices not in (1, "auto") and devices != [0]) or trainer.get("num_nodes", 1) not in (1, "auto")
    for wrong, sentence in (
        (several, "privacy samples its batches in one process: set trainer.devices=1"),
        (
            trainer.get("accumulate_grad_batches", 1) != 1,
            "privacy counts a step for each batch: leave out trainer.accumulate_grad_batches and take a larger "
            "data.batch_size, worked through in pieces of privacy.piece",
        ),
        (trainer.get("overfit_batches"), "privacy samples every batch anew: leave out trainer.overfit_batches"),
        (
            run.get("budget_minutes") is not None,
            "privacy finds its noise for a number of steps, and run.budget_minutes leaves that open: set trainer.max_steps",
        ),
        (
            run.get("finetune"),
            "run.finetune starts from weights that may have seen these images without noise: leave it out",
        ),
        (
            run.get("objective"),
            "run.objective lets private validation images decide which checkpoint is the best, and nobody counts that: leave "
            "it out, the last checkpoint is the best",
        ),
        (
            (config["model"].get("options") or {}).get("compile"),
            "privacy looks into the layers, which compiling hides: set model.options.compile=false",
        ),
    ):
        if wrong:
            raise CondgenError(f"{sentence}.")
    for name, node in (config.get("callbacks") or {}).items():
        if isinstance(node, dict) and "_target_" in node and node.get("monitor"):
            raise CondgenError(
                f"callbacks.{name}.monitor={node['monitor']} lets private validation images decide, and nobody counts that: "
                + ("leave it out." if name == "checkpoint" else f"leave out callbacks.{name}.")
            )


def without_statistics(space: dict[str, Any]) -> dict[str, Any]:
    """Return a space's recipe without the mean and deviation of its images, which no noise covers."""
    return {key: value for key, value in space.items() if key not in ("mean", "deviation")}


def read_secret(path: Path) -> int:
    """Return the secret that a file holds; raises CondgenError for what is none."""
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if not text.isdecimal():
        raise CondgenError(f"{path} holds no secret, a whole number: put it back from a copy, or start a new run.")
    return int(text)


def keep_secret(privacy: "Privacy | None", directory: Path, config: dict[str, Any], resuming: bool) -> None:
    """Write the secret where only its owner can read it; refuse to go on where it is lost.

    Raises:
        CondgenError: the run goes on from a checkpoint and its secret is missing: its noise could not be drawn again.
    """
    path = directory / KEY
    if privacy is None or config["privacy"].get("secret") is not None or path.is_file():
        return
    if resuming:
        raise CondgenError(
            f"{path} is missing, and without it the steps since the checkpoint would be made again with other noise, which "
            "spends more: put it back from a copy, or start a new run."
        )
    path.touch(mode=0o600)
    write_text(path, f"{privacy.secret}\n")
    path.chmod(0o600)


def require_same_kind(privacy: "Privacy | None", checkpoint: dict[str, Any], path: Path) -> None:
    """Refuse to go on without privacy with a run that has it, and the other way round; raises CondgenError."""
    if (privacy is None) != ("privacy" not in checkpoint):
        had, has = ("without", "with") if privacy else ("with", "without")
        raise CondgenError(f"{path} was trained {had} privacy and would go on {has} it, which proves nothing: start a new run.")
