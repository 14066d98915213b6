"""Where a training stands, counted by condgen itself and kept in the checkpoint.

Lightning's loop counters disagree with these after some restarts: where ``max_steps`` is set, an epoch's end is counted twice.
So nothing asks them, and Lightning's loops are set from these counts when a run goes on.
"""

from dataclasses import dataclass
from typing import Any


@dataclass
class Counts:
    """What a training has done.

    Attributes:
        updates: optimizer steps that count: those of the generator for a GAN, of the only network otherwise.
        batches: training batches begun since the start of the run, the present one included.
        epochs: complete epochs, their validation included.
        batch: training batches begun in the present epoch, the present one included; 0 between two epochs.
    """

    updates: int = 0
    batches: int = 0
    epochs: int = 0
    batch: int = 0

    def loops(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Return the state of Lightning's fit loop from which it goes on exactly here.

        Args:
            stored: the state in the checkpoint; what these counts do not decide stays as it is there.
        """
        within = int(self.batch > 0)
        begun = {"ready": self.epochs + within, "started": self.epochs + within}
        epochs = begun | {"processed": self.epochs, "completed": self.epochs}
        total = dict.fromkeys(("ready", "started", "processed"), self.batches)
        current = dict.fromkeys(("ready", "started", "processed"), self.batch)
        batches = {
            "total": total | {"completed": self.batches - within},  # checkpoints are written before a batch is complete
            "current": current | {"completed": self.batch - within},
            "is_last_batch": False,
        }
        return stored | {
            "epoch_progress": {"total": epochs, "current": dict(epochs)},
            "epoch_loop.batch_progress": batches,
        }
