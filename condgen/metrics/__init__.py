"""What a generator is measured by: extractors, the suite of metrics, the protocol under which each figure stands.

The classes of torchmetrics that may stand in any LightningModule, such as ``FrechetDistance``, are imported when they are asked
for: whoever only prints figures waits for neither torch nor torchmetrics.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condgen.metrics.accuracy import LabelAccuracy
    from condgen.metrics.authenticity import Authenticity
    from condgen.metrics.distances import FrechetDistance, InceptionScore, KernelDistance
    from condgen.metrics.manifold import Diversity, PrecisionRecall

PLACES = {
    "Authenticity": "authenticity",
    "Diversity": "manifold",
    "FrechetDistance": "distances",
    "InceptionScore": "distances",
    "KernelDistance": "distances",
    "LabelAccuracy": "accuracy",
    "PrecisionRecall": "manifold",
}
__all__ = [
    "Authenticity",
    "Diversity",
    "FrechetDistance",
    "InceptionScore",
    "KernelDistance",
    "LabelAccuracy",
    "PrecisionRecall",
]


def __getattr__(name: str) -> Any:
    """Import a metric when it is asked for."""
    if name in PLACES:
        return getattr(import_module(f"condgen.metrics.{PLACES[name]}"), name)
    raise AttributeError(f"module 'condgen.metrics' has no attribute {name!r}")
