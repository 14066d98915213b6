"""What a run consists of."""

from dataclasses import dataclass
from typing import Any

import lightning as L

from condgen.training.base import Training
from condgen.training.privacy import Privacy


@dataclass
class Parts:
    """All parts of a run, built and checked, before the first step."""

    config: dict[str, Any]
    data: Any
    model: Training
    trainer: L.Trainer
    finetuned: str = ""
    """What the run started from, if not from random weights."""
    privacy: Privacy | None = None
    """The budget of a private run."""
