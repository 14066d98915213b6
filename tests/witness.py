"""What each of several processes saw, written down by itself: a callback for ``+callbacks.witness``."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import lightning as L


class Witness(L.Callback):
    """Write ``folder/start-RANK.json`` after the first batch and ``folder/end-RANK.json`` at the end.

    Args:
        folder: where to.
        crash: the rank that fails in its third batch; None: none.
    """

    def __init__(self, folder: str, crash: int | None = None):
        self.folder, self.crash = Path(folder), crash

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Who this is and what it trains."""
        if batch_idx == 0:
            seen = {"pid": os.getpid(), "seed": pl_module.seed, "world": trainer.world_size, "samples": len(batch[0])}
            self.write("start", trainer, seen | {"directory": str(trainer.default_root_dir)})
        if batch_idx == 2 and trainer.global_rank == self.crash:
            raise ArithmeticError("a defect in one process")

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The weights, averaged ones too."""
        digest = hashlib.sha256()
        for parameter in pl_module.parameters():
            digest.update(parameter.detach().numpy().tobytes())
        self.write("end", trainer, {"step": trainer.global_step, "weights": digest.hexdigest()})

    def write(self, event: str, trainer: L.Trainer, content: dict[str, Any]) -> None:
        """Write one file, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{event}-{trainer.global_rank}.json"
        path.with_suffix(".part").write_text(json.dumps(content))
        path.with_suffix(".part").rename(path)


def watched(folder: Path, crash: int | None = None) -> str:
    """Return the override that lets a run be witnessed."""
    return f"+callbacks.witness={{_target_: witness.Witness, folder: {folder}, crash: {'null' if crash is None else crash}}}"


def told(folder: Path, event: str) -> list[dict[str, Any]]:
    """Read what the processes wrote, by rank."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{event}-*.json"))]
